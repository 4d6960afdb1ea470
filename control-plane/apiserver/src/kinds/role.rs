//! Role and ClusterRole: what may be done.            Lifecycle: none; aggregated ClusterRoles are filled by a controller.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{list_at, str_at};

use super::common::{NAME, date, name, rbac_rules, resource};
use super::validate::label_selector;
use crate::strategy::{Column, Strategy};

const COLUMNS: &[Column] = &[NAME, date("Created At")];

pub struct RoleStrategy;
pub struct ClusterRoleStrategy;

/// An empty list does not survive Kubernetes' storage: it is read back as null.
fn no_rules_is_null(object: &mut Value) {
    if object.get("rules").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        object["rules"] = Value::Null;
    }
}

impl Strategy for RoleStrategy {
    resource!("rbac.authorization.k8s.io", "v1", "roles");
    rbac_rules!();

    fn apply_defaults(&self, object: &mut Value) {
        no_rules_is_null(object);
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        rules(object, true, errors);
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        row(object)
    }
}

impl Strategy for ClusterRoleStrategy {
    resource!("rbac.authorization.k8s.io", "v1", "clusterroles");
    rbac_rules!();

    fn apply_defaults(&self, object: &mut Value) {
        no_rules_is_null(object);
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        rules(object, false, errors);
        if object.get("aggregationRule").is_some_and(Value::is_object) {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors");
            let selectors = list_at(object, "/aggregationRule/clusterRoleSelectors");
            if selectors.is_empty() {
                errors.required(
                    &path,
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                );
            }
            for (i, selector) in selectors.iter().enumerate() {
                label_selector(errors, &path.index(i), Some(selector));
            }
        }
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        row(object)
    }
}

fn row(object: &Value) -> Vec<Value> {
    vec![name(object), str_at(object, "/metadata/creationTimestamp").into()]
}

fn rules(role: &Value, namespaced: bool, errors: &mut FieldErrors) {
    for (i, rule) in list_at(role, "/rules").iter().enumerate() {
        let path = Path::new("rules").index(i);
        if list_at(rule, "/verbs").is_empty() {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let urls = list_at(rule, "/nonResourceURLs");
        if !urls.is_empty() {
            let urls = Value::from(urls.to_vec());
            let path = path.child("nonResourceURLs");
            if namespaced {
                errors.invalid(
                    &path,
                    urls.clone(),
                    "namespaced rules cannot apply to non-resource URLs",
                );
            }
            if ["/apiGroups", "/resources", "/resourceNames"]
                .iter()
                .any(|list| !list_at(rule, list).is_empty())
            {
                errors.invalid(
                    &path,
                    urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                );
            }
            continue;
        }
        if list_at(rule, "/apiGroups").is_empty() {
            errors.required(
                &path.child("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if list_at(rule, "/resources").is_empty() {
            errors.required(
                &path.child("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{ClusterRoleStrategy, RoleStrategy};
    use crate::kinds::testing::{check_invalid, check_table, check_valid};

    #[test]
    fn rules_are_complete() {
        check_invalid(
            &RoleStrategy,
            "{metadata: {name: v}, rules: [{}, {verbs: [get], nonResourceURLs: [/x]}]}",
            expect![[r#"
                rules[0].verbs: Required value: verbs must contain at least one value
                rules[0].apiGroups: Required value: resource rules must supply at least one api group
                rules[0].resources: Required value: resource rules must supply at least one resource
                rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
            "#]],
        );
        check_valid(
            &ClusterRoleStrategy,
            "{metadata: {name: 'a:b'}, rules: [{verbs: [get], nonResourceURLs: [/x]}]}",
        );
        check_invalid(
            &ClusterRoleStrategy,
            "{metadata: {name: v}, aggregationRule: {}}",
            expect![[r#"
                aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &RoleStrategy,
            "{metadata: {name: v}}",
            expect![[r#"
                Name: "v"
                Created At: "2026-01-01T00:00:00Z"
            "#]],
        );
    }
}
