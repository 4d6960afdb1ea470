//! Namespace: the scope that names live in.            Lifecycle: the namespace controller empties and finalizes it.

use serde_json::{Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object;

use super::common::{AGE, NAME, age, keep_field, name, resource, text};
use crate::strategy::{Column, NameRule, Strategy, WriteContext};

/// The finalizer that stands in `spec.finalizers` until the namespace's content is gone.
pub const KUBERNETES_FINALIZER: &str = "kubernetes";
/// Carries the namespace's own name, so that selectors can pick a namespace by name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

const COLUMNS: &[Column] = &[NAME, text("Status"), AGE];

pub struct NamespaceStrategy;

impl Strategy for NamespaceStrategy {
    resource!("", "v1", "namespaces");

    fn apply_defaults(&self, object: &mut Value) {
        let name = object::name(object).to_owned();
        if !name.is_empty() {
            object::map_entry(&mut object["metadata"], "labels").insert(NAME_LABEL.into(), name.into());
        }
        object::set_default(object::map_entry(object, "status"), "phase", "Active");
        object::map_entry(object, "spec");
    }
    fn prepare_for_create(&self, object: &mut Value, _ctx: &WriteContext) {
        object["status"] = json!({"phase": "Active"});
        let finalizers = object::map_entry(object, "spec")
            .entry("finalizers")
            .or_insert_with(|| json!([]));
        if let Value::Array(list) = finalizers
            && !list.iter().any(|f| f == KUBERNETES_FINALIZER)
        {
            list.push(KUBERNETES_FINALIZER.into());
        }
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, ctx: &WriteContext) {
        if ctx.subresource == "finalize" {
            keep_field(new, old, "status");
        } else {
            keep_field(new, old, "spec");
            keep_field(new, old, "status");
        }
    }
    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let phase = object::str_at(new, "/status/phase");
        let (expected, when) = if object::is_terminating(new) {
            ("Terminating", "is not empty")
        } else {
            ("Active", "is empty")
        };
        if phase != expected {
            let detail = format!("may only be '{expected}' if `deletionTimestamp` {when}");
            errors.invalid(&Path::new("status").child("Phase"), phase, &detail);
        }
    }
    fn name_rule(&self) -> NameRule {
        NameRule::DnsLabel
    }
    fn begin_deletion(&self, object: &mut Value) {
        object["status"]["phase"] = "Terminating".into();
    }
    fn has_finalizers(&self, object: &Value) -> bool {
        !object::finalizers(object).is_empty() || !object::list_at(object, "/spec/finalizers").is_empty()
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            name(object),
            object::str_at(object, "/status/phase").into(),
            age(object, now),
        ]
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", object::str_at(object, "/status/phase").to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::testing::{check_create, check_table, object};

    #[test]
    fn a_new_namespace_is_active_and_labelled_with_its_name() {
        check_create(
            &NamespaceStrategy,
            "{metadata: {name: a}, status: {phase: Odd}}",
            expect![[r#"
                {
                  "metadata": {
                    "labels": {
                      "kubernetes.io/metadata.name": "a"
                    },
                    "name": "a"
                  },
                  "spec": {
                    "finalizers": [
                      "kubernetes"
                    ]
                  },
                  "status": {
                    "phase": "Active"
                  }
                }
            "#]],
        );
    }

    #[test]
    fn only_finalize_changes_the_finalizers() {
        let old = object("{metadata: {name: a}, spec: {finalizers: [kubernetes]}, status: {phase: Terminating}}");
        let ctx = |subresource| WriteContext {
            now: String::new(),
            uuid: String::new(),
            subresource,
        };
        let emptied = object("{metadata: {name: a}, spec: {}, status: {phase: Active}}");
        let mut new = emptied.clone();
        NamespaceStrategy.prepare_for_update(&mut new, &old, &ctx(""));
        assert!(NamespaceStrategy.has_finalizers(&new));
        let mut new = emptied;
        NamespaceStrategy.prepare_for_update(&mut new, &old, &ctx("finalize"));
        assert!(!NamespaceStrategy.has_finalizers(&new));
        assert_eq!(new["status"], old["status"]);
    }

    #[test]
    fn table() {
        check_table(
            &NamespaceStrategy,
            "{metadata: {name: a}, status: {phase: Active}}",
            expect![[r#"
                Name: "a"
                Status: "Active"
                Age: "5m"
            "#]],
        );
    }
}
