//! Namespace: the scope that names live in.            Lifecycle: the namespace controller empties and finalizes it.

use serde_json::{Value, json};
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
        let finalizers = object::map_entry(object, "spec").entry("finalizers").or_insert_with(|| json!([]));
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
        vec![name(object), object::str_at(object, "/status/phase").into(), age(object, now)]
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", object::str_at(object, "/status/phase").to_owned())]
    }
}
