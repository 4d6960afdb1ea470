//! RoleBinding and ClusterRoleBinding: who has which role.            Lifecycle: none.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{self, list_at, str_at};

use super::common::{AGE, NAME, age, each_mut, name, rbac_rules, resource, text, wide};
use super::validate::{invalid_each, invalid_raw, required};
use crate::strategy::{Column, Strategy};

const GROUP: &str = "rbac.authorization.k8s.io";
const COLUMNS: &[Column] = &[
    NAME,
    text("Role"),
    AGE,
    wide("Users"),
    wide("Groups"),
    wide("ServiceAccounts"),
];

pub struct RoleBindingStrategy;
pub struct ClusterRoleBindingStrategy;

impl Strategy for RoleBindingStrategy {
    resource!("rbac.authorization.k8s.io", "v1", "rolebindings");
    rbac_rules!();

    fn apply_defaults(&self, object: &mut Value) {
        defaults(object);
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        role_ref(object, &["Role", "ClusterRole"], errors);
        subjects(object, true, errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        role_ref_is_fixed(new, old, errors);
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(object, now)
    }
}

impl Strategy for ClusterRoleBindingStrategy {
    resource!("rbac.authorization.k8s.io", "v1", "clusterrolebindings");
    rbac_rules!();

    fn apply_defaults(&self, object: &mut Value) {
        defaults(object);
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        role_ref(object, &["ClusterRole"], errors);
        subjects(object, false, errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        role_ref_is_fixed(new, old, errors);
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(object, now)
    }
}

fn defaults(binding: &mut Value) {
    let fill = |map: &mut serde_json::Map<String, Value>| {
        if map.get("apiGroup").and_then(Value::as_str).unwrap_or("").is_empty() {
            map.insert("apiGroup".into(), GROUP.into());
        }
    };
    fill(object::map_entry(binding, "roleRef"));
    each_mut(object::as_map(binding), "subjects", |subject| {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            fill(subject);
        }
    });
}

fn role_ref(binding: &Value, kinds: &[&str], errors: &mut FieldErrors) {
    let path = Path::new("roleRef");
    let group = str_at(binding, "/roleRef/apiGroup");
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let kind = str_at(binding, "/roleRef/kind");
    if !kinds.contains(&kind) {
        errors.not_supported(&path.child("kind"), kind, kinds);
    }
    required(
        errors,
        &path.child("name"),
        str_at(binding, "/roleRef/name"),
        names::path_segment,
    );
}

fn subjects(binding: &Value, namespaced: bool, errors: &mut FieldErrors) {
    for (i, subject) in list_at(binding, "/subjects").iter().enumerate() {
        let path = Path::new("subjects").index(i);
        let (name, group) = (str_at(subject, "/name"), str_at(subject, "/apiGroup"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        match str_at(subject, "/kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    invalid_each(errors, &path.child("name"), name, names::dns1123_subdomain(name));
                }
                if !group.is_empty() {
                    errors.not_supported(&path.child("apiGroup"), group, &[""]);
                }
                if !namespaced && str_at(subject, "/namespace").is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
                }
            }
            other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

fn role_ref_is_fixed(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if new.get("roleRef") != old.get("roleRef") {
        let text = |key: &str| Value::from(str_at(new, &format!("/roleRef/{key}"))).to_string();
        let shown = format!(
            "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
            text("apiGroup"),
            text("kind"),
            text("name")
        );
        invalid_raw(errors, &Path::new("roleRef"), &shown, "cannot change roleRef");
    }
}

fn row(binding: &Value, now: i64) -> Vec<Value> {
    let subjects = |kind: &str| {
        let of_kind = list_at(binding, "/subjects")
            .iter()
            .filter(|s| str_at(s, "/kind") == kind);
        of_kind
            .map(|subject| match kind {
                "ServiceAccount" => format!("{}/{}", str_at(subject, "/namespace"), str_at(subject, "/name")),
                _ => str_at(subject, "/name").to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    vec![
        name(binding),
        format!(
            "{}/{}",
            str_at(binding, "/roleRef/kind"),
            str_at(binding, "/roleRef/name")
        )
        .into(),
        age(binding, now),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{ClusterRoleBindingStrategy, RoleBindingStrategy};
    use crate::kinds::testing::{check_invalid, check_invalid_update, check_table};

    #[test]
    fn references_and_subjects_are_checked() {
        check_invalid(
            &RoleBindingStrategy,
            "{metadata: {name: v}, roleRef: {kind: Odd}, subjects: [{kind: User}, {kind: Odd, name: a}, {kind: ServiceAccount, name: a, apiGroup: x}]}",
            expect![[r#"
                roleRef.kind: Unsupported value: "Odd": supported values: "Role", "ClusterRole"
                roleRef.name: Required value
                subjects[0].name: Required value
                subjects[1].kind: Unsupported value: "Odd": supported values: "ServiceAccount", "User", "Group"
                subjects[2].apiGroup: Unsupported value: "x": supported values: ""
            "#]],
        );
        check_invalid(
            &ClusterRoleBindingStrategy,
            "{metadata: {name: v}, roleRef: {kind: Role, name: r}, subjects: [{kind: ServiceAccount, name: a}]}",
            expect![[r#"
                roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
                subjects[0].namespace: Required value
            "#]],
        );
    }

    #[test]
    fn the_role_stays() {
        check_invalid_update(
            &RoleBindingStrategy,
            "{metadata: {name: v}, roleRef: {kind: Role, name: r}}",
            "{metadata: {name: v}, roleRef: {kind: Role, name: other}}",
            expect![[r#"
                roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"other"}: cannot change roleRef
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &RoleBindingStrategy,
            "{metadata: {name: v}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: a}, {kind: User, name: b}, {kind: ServiceAccount, namespace: n, name: s}]}",
            expect![[r#"
                Name: "v"
                Role: "Role/r"
                Age: "5m"
                Users: "a, b"
                Groups: ""
                ServiceAccounts: "n/s"
            "#]],
        );
    }
}
