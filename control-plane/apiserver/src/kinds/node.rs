//! Node: a machine that pods run on.            Lifecycle: registered by its agent; node_lifecycle watches its heartbeat.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{self, list_at, str_at};

use super::common::{AGE, NAME, age, condition, keep_field, name, or, resource, text, wide};
use super::validate::{TAINT_EFFECTS, invalid_each, resource_amount};
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
        pod_cidrs(object::map_entry(object, "spec"));
        let status = object::map_entry(object, "status");
        // Allocatable is capacity until the agent says what it keeps for itself.
        if let Some(capacity) = status.get("capacity").cloned().filter(|c| !c.is_null()) {
            object::set_default(status, "allocatable", capacity);
        }
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "status");
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        taints(list_at(object, "/spec/taints"), errors);
        for list in ["capacity", "allocatable"] {
            for (name, amount) in object
                .pointer(&format!("/status/{list}"))
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                resource_amount(errors, &Path::new("status").child(list).child(name), name, amount);
            }
        }
        let path = Path::new("spec").child("podCIDRs");
        let cidrs: Vec<&str> = list_at(object, "/spec/podCIDRs")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for (i, cidr) in cidrs.iter().enumerate() {
            invalid_each(errors, &path.index(i), cidr, names::cidr(cidr));
        }
        let family = |cidr: &&str| cidr.contains(':');
        if cidrs.len() > 2 || (cidrs.len() == 2 && family(&cidrs[0]) == family(&cidrs[1])) {
            errors.invalid(&path, cidrs, "may specify no more than one CIDR for each IP family");
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let cidrs = list_at(old, "/spec/podCIDRs");
        if !cidrs.is_empty() && cidrs != list_at(new, "/spec/podCIDRs") {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&path.child("podCIDRs"), detail);
        }
        let provider = str_at(old, "/spec/providerID");
        if !provider.is_empty() && provider != str_at(new, "/spec/providerID") {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&path.child("providerID"), detail);
        }
    }
    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        self.validate(new, errors);
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
        vec![(
            "spec.unschedulable",
            object::bool_at(object, "/spec/unschedulable").to_string(),
        )]
    }
}

/// The older single field and the list say the same.
fn pod_cidrs(spec: &mut serde_json::Map<String, Value>) {
    let single = spec.get("podCIDR").and_then(Value::as_str).unwrap_or("").to_owned();
    let first = spec
        .get("podCIDRs")
        .and_then(|list| list.get(0))
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    if !single.is_empty() && single != first {
        spec.insert("podCIDRs".into(), json!([single]));
    } else if single.is_empty() && !first.is_empty() {
        spec.insert("podCIDR".into(), first.into());
    }
}

fn taints(taints: &[Value], errors: &mut FieldErrors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in taints.iter().enumerate() {
        // Kubernetes reports taints below metadata.
        let path = Path::new("metadata").child("taints").index(i);
        let (key, value, effect) = (str_at(taint, "/key"), str_at(taint, "/value"), str_at(taint, "/effect"));
        invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
        let problems = names::label_value(value);
        if !problems.is_empty() {
            errors.invalid(&path.child("value"), value, &problems.join(";"));
        }
        if effect.is_empty() {
            errors.required(&path.child("effect"), "");
        } else if !TAINT_EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, &TAINT_EFFECTS);
        }
        if seen.contains(&(key, effect)) {
            let text = |text: &str| Value::from(text).to_string();
            let added = taint.get("timeAdded").unwrap_or(&Value::Null);
            let body = format!(
                "Duplicate value: {{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":{added}}}: taints must be unique by key and effect pair",
                text(key),
                text(value),
                text(effect),
            );
            errors.push(FieldError {
                kind: ErrorType::Duplicate,
                path: path.to_string(),
                body,
            });
        }
        seen.push((key, effect));
    }
}

/// `Ready`, `NotReady`, `Unknown` (no such condition), with `,SchedulingDisabled` when cordoned.
fn status_cell(node: &Value) -> String {
    let ready = match condition(node, "Ready") {
        Some(c) if object::str_at(c, "/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if object::bool_at(node, "/spec/unschedulable") {
        ",SchedulingDisabled"
    } else {
        ""
    };
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::NodeStrategy;
    use crate::kinds::testing::{check_create, check_invalid, check_invalid_update, check_table};

    #[test]
    fn allocatable_is_capacity_and_the_pod_range_stands_twice() {
        check_create(
            &NodeStrategy,
            "{metadata: {name: n}, spec: {podCIDR: 10.42.0.0/24}, status: {capacity: {cpu: '2'}}}",
            expect![[r#"
                {
                  "metadata": {
                    "name": "n"
                  },
                  "spec": {
                    "podCIDR": "10.42.0.0/24",
                    "podCIDRs": [
                      "10.42.0.0/24"
                    ]
                  },
                  "status": {
                    "allocatable": {
                      "cpu": "2"
                    },
                    "capacity": {
                      "cpu": "2"
                    }
                  }
                }
            "#]],
        );
    }

    #[test]
    fn taints_and_ranges_are_checked() {
        check_invalid(
            &NodeStrategy,
            "{metadata: {name: v}, spec: {taints: [{key: a, effect: Odd}, {key: b, effect: NoSchedule}, {key: b, effect: NoSchedule}], podCIDR: x}, status: {capacity: {cpu: '-1'}}}",
            expect![[r#"
                metadata.taints[0].effect: Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
                metadata.taints[2]: Duplicate value: {"Key":"b","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair
                status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
                status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0
                spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            "#]],
        );
        check_invalid(
            &NodeStrategy,
            "{metadata: {name: v}, spec: {podCIDRs: [192.0.2.0/24, 198.51.100.0/24]}}",
            expect![[r#"
                spec.podCIDRs: Invalid value: ["192.0.2.0/24","198.51.100.0/24"]: may specify no more than one CIDR for each IP family
            "#]],
        );
        check_invalid_update(
            &NodeStrategy,
            "{metadata: {name: v}, spec: {podCIDR: 192.0.2.0/24}}",
            "{metadata: {name: v}, spec: {podCIDR: 198.51.100.0/24}}",
            expect![[r#"
                spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &NodeStrategy,
            "{metadata: {name: n1, labels: {node-role.kubernetes.io/edge: '', kubernetes.io/role: worker}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: 192.0.2.1}], nodeInfo: {kubeletVersion: v1.36.2}}}",
            expect![[r#"
                Name: "n1"
                Status: "Ready,SchedulingDisabled"
                Roles: "edge,worker"
                Age: "5m"
                Version: "v1.36.2"
                Internal-IP: "192.0.2.1"
                External-IP: "<none>"
                OS-Image: "<unknown>"
                Kernel-Version: "<unknown>"
                Container-Runtime: "<unknown>"
            "#]],
        );
    }
}
