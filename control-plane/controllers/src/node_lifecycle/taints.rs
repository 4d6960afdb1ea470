//! The taints that a node's conditions and `spec.unschedulable` ask for.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{condition, ready_status};
use crate::conditions::whole_second;

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition that is True → taint.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Whether a taint with this key and effect is this controller's to set and to remove.
fn is_ours(taint: &Taint) -> bool {
    let readiness = taint.key == NOT_READY || taint.key == UNREACHABLE;
    match taint.effect.as_str() {
        NO_SCHEDULE => readiness || taint.key == UNSCHEDULABLE || PRESSURES.iter().any(|(_, key)| taint.key == *key),
        NO_EXECUTE => readiness,
        _ => false,
    }
}

/// The node's taints as they should be, or nothing if they are.
pub(super) fn changed(node: &Node, all_nodes_down: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let current: Vec<Taint> = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let readiness = match ready_status(node) {
        "True" => None,
        "Unknown" => Some(UNREACHABLE),
        // A node that has not reported yet is as little ready as one that says so.
        _ => Some(NOT_READY),
    };
    wanted.extend(readiness.map(|key| (key, NO_SCHEDULE)));
    if !all_nodes_down && condition(node, "Ready").is_some() {
        wanted.extend(readiness.map(|key| (key, NO_EXECUTE)));
    }
    let pressed = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    wanted.extend(
        PRESSURES
            .iter()
            .filter(|(kind, _)| pressed(kind))
            .map(|(_, key)| (*key, NO_SCHEDULE)),
    );
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_wanted = |taint: &Taint| {
        wanted
            .iter()
            .any(|(key, effect)| taint.key == *key && taint.effect == *effect)
    };
    let mut list: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !list.iter().any(|taint| taint.key == key && taint.effect == effect) {
            list.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                // Kubernetes notes the time where it counts: for eviction, and for cordoning.
                time_added: Some(whole_second(now)),
            });
        }
    }
    (list != current).then_some(list)
}
