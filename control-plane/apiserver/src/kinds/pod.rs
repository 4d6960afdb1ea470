//! Pod: one or more containers that run together on a node.            Lifecycle: bound by the scheduler, run by the agent.
//!
//! `defaults` and `validate` are shared with pod templates (`Deployment`, `ReplicaSet`).

mod affinity;
mod containers;
pub(crate) mod defaults;
mod diff;
mod env;
pub(crate) mod internal;
mod printer;
mod probes;
pub(crate) mod qos;
pub(crate) mod requests;
mod security;
mod update;
pub(crate) mod validate;
mod volumes;
pub(crate) mod warnings;

use serde_json::{Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, bool_at, int_at, list_at, map_entry, str_at};
use skiff_api::pod_settings;

use super::common::{keep_field, resource};
use crate::strategy::{Column, DeleteMode, LedgerChange, Strategy, WriteContext};

/// Reason and message of a pod that is not to be scheduled yet.
const GATED_REASON: &str = "SchedulingGated";
const GATED_MESSAGE: &str = "Scheduling is blocked due to non-empty scheduling gates";
const ANNOTATIONS: &str = "/metadata/annotations";

pub struct PodStrategy;

impl Strategy for PodStrategy {
    resource!("", "v1", "pods");

    fn apply_defaults(&self, object: &mut Value) {
        defaults::pod(object);
    }
    fn prepare_for_create(&self, object: &mut Value, ctx: &WriteContext) {
        let spec = map_entry(object, "spec");
        if spec
            .get("terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
            .is_some_and(|seconds| seconds < 0)
        {
            spec.insert("terminationGracePeriodSeconds".into(), 1.into());
        }
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(object)});
        if !list_at(object, "/spec/schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": GATED_REASON, "message": GATED_MESSAGE,
                "lastProbeTime": null, "lastTransitionTime": ctx.now,
            }]);
        }
        object["status"] = status;
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "status");
    }
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "spec");
        let owners = old.pointer("/metadata/ownerReferences").cloned();
        let metadata = object::metadata_mut(new);
        match owners {
            Some(owners) => metadata.insert("ownerReferences".into(), owners),
            None => metadata.remove("ownerReferences"),
        };
        let class = str_at(old, "/status/qosClass").to_owned();
        let status = map_entry(new, "status");
        if !class.is_empty() {
            object::set_default(status, "qosClass", class);
        }
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        // A pod that does not exist yet has no resourceVersion.
        let is_new = object::resource_version(object).is_empty() && object::generation(object) <= 1;
        if is_new {
            let annotations = object.pointer(ANNOTATIONS);
            pod_settings::problems(annotations, &Path::new("metadata").child("annotations"), errors);
        }
        validate::new_pod(object, errors);
        let ephemeral = !list_at(object, "/spec/ephemeralContainers").is_empty();
        if ephemeral && is_new {
            errors.forbidden(
                &Path::new("spec").child("ephemeralContainers"),
                "cannot be set on create",
            );
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        update::validate(new, old, errors);
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::of_template(new, &Path::default())
    }
    fn tracks_generation(&self) -> bool {
        true
    }
    fn delete_mode(&self, object: &Value, requested: Option<i64>) -> DeleteMode {
        let bound = !str_at(object, "/spec/nodeName").is_empty();
        let wanted = requested
            .or_else(|| int_at(object, "/spec/terminationGracePeriodSeconds"))
            .unwrap_or(0);
        let seconds = if !bound || has_ended(object) { 0 } else { wanted };
        DeleteMode::Graceful {
            grace_period_seconds: if seconds < 0 { 1 } else { seconds },
        }
    }
    fn ledger_effect(&self, old: Option<&Value>, new: Option<&Value>) -> Option<LedgerChange> {
        let node = |pod: &Value| str_at(pod, "/spec/nodeName").to_owned();
        match (old, new) {
            (None, Some(new)) if !node(new).is_empty() && !has_ended(new) => {
                Some(LedgerChange::Enter { node: node(new) })
            }
            (Some(old), None) if !node(old).is_empty() => release(old),
            (Some(old), Some(new)) if !node(old).is_empty() && has_ended(new) && !has_ended(old) => release(old),
            _ => None,
        }
    }
    fn metadata_checks(&self) -> usize {
        4
    }
    fn columns(&self) -> &'static [Column] {
        printer::COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        printer::row(object, now)
    }
    fn row_conditions(&self, object: &Value) -> Vec<Value> {
        printer::conditions(object)
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |pointer: &str| str_at(object, pointer).to_owned();
        let ips: Vec<&str> = list_at(object, "/status/podIPs")
            .iter()
            .map(|ip| str_at(ip, "/ip"))
            .collect();
        vec![
            ("spec.nodeName", text("/spec/nodeName")),
            ("spec.restartPolicy", text("/spec/restartPolicy")),
            ("spec.schedulerName", text("/spec/schedulerName")),
            ("spec.serviceAccountName", text("/spec/serviceAccountName")),
            ("spec.hostNetwork", bool_at(object, "/spec/hostNetwork").to_string()),
            ("status.phase", text("/status/phase")),
            ("status.podIP", ips.first().copied().unwrap_or("").to_owned()),
            ("status.podIPs", ips.join(",")),
            ("status.nominatedNodeName", text("/status/nominatedNodeName")),
            // The old name of spec.nodeName.
            ("spec.host", text("/spec/nodeName")),
        ]
    }
}

/// Whether a pod is in a phase that it does not leave.
pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(str_at(pod, "/status/phase"), "Succeeded" | "Failed")
}

fn release(pod: &Value) -> Option<LedgerChange> {
    Some(LedgerChange::Release {
        node: str_at(pod, "/spec/nodeName").to_owned(),
        uid: object::uid(pod).to_owned(),
    })
}

#[cfg(test)]
mod tests;
