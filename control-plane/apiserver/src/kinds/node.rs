//! Node: a machine that pods run on.            Lifecycle: registered by its agent; node_lifecycle watches its heartbeat.

use std::collections::BTreeSet;

use serde_json::Value;
use skiff_api::object;

use super::common::{AGE, NAME, age, condition, keep_field, name, or, resource, text, wide};
use crate::strategy::{Column, Strategy, WriteContext};

const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

const COLUMNS: &[Column] = &[
    NAME,
    text("Status"),
    text("Roles"),
    AGE,
    text("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];

pub struct NodeStrategy;

impl Strategy for NodeStrategy {
    resource!("", "v1", "nodes");

    fn storage_resource(&self) -> &'static str {
        "minions"
    }
    fn apply_defaults(&self, object: &mut Value) {
        object::map_entry(object, "spec");
        let status = object::map_entry(object, "status");
        // Allocatable is capacity until the agent says what it keeps for itself.
        if let Some(capacity) = status.get("capacity").cloned().filter(|c| !c.is_null()) {
            object::set_default(status, "allocatable", capacity);
        }
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "status");
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let info = |key: &str| object::str_at(object, &format!("/status/nodeInfo/{key}")).to_owned();
        let known = |key: &str| Value::from(or(&info(key), "<unknown>"));
        vec![
            name(object),
            status_cell(object).into(),
            roles_cell(object).into(),
            age(object, now),
            info("kubeletVersion").into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            known("osImage"),
            known("kernelVersion"),
            known("containerRuntimeVersion"),
        ]
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", object::bool_at(object, "/spec/unschedulable").to_string())]
    }
}

/// `Ready`, `NotReady`, `Unknown` (no such condition), with `,SchedulingDisabled` when cordoned.
fn status_cell(node: &Value) -> String {
    let ready = match condition(node, "Ready") {
        Some(c) if object::str_at(c, "/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if object::bool_at(node, "/spec/unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}")
}

fn roles_cell(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in object::labels(node) {
        if let Some(role) = key.strip_prefix(ROLE_LABEL_PREFIX) {
            roles.insert(role.to_owned());
        } else if key == ROLE_LABEL {
            roles.insert(value);
        }
    }
    roles.remove("");
    or(&roles.into_iter().collect::<Vec<_>>().join(","), "<none>").to_owned()
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    object::list_at(node, "/status/addresses")
        .iter()
        .find(|a| object::str_at(a, "/type") == kind)
        .map_or("<none>", |a| object::str_at(a, "/address"))
}
