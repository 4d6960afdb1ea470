//! Which pod goes first when there are too many, in Kubernetes' order of criteria.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// The pods, the first to delete first. `related` says how many pods of the same Deployment each node runs.
pub(crate) fn deletion_order<'a>(active: &[&'a Arc<Pod>], related: &BTreeMap<String, usize>) -> Vec<&'a Arc<Pod>> {
    let mut order = active.to_vec();
    order.sort_by(|a, b| compare(a, b, related));
    order
}

fn compare(a: &Pod, b: &Pod, related: &BTreeMap<String, usize>) -> Ordering {
    let assigned = |pod: &Pod| !pods::node_name(pod).is_empty();
    let crowd = |pod: &Pod| related.get(pods::node_name(pod)).copied().unwrap_or(0);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| match (pods::ready_since(a), pods::ready_since(b)) {
            // Ready for less time first.
            (Some(a), Some(b)) => b.cmp(&a),
            _ => Ordering::Equal,
        })
        .then_with(|| pods::restarts_max(b).cmp(&pods::restarts_max(a)))
        .then_with(|| pods::created(b).cmp(&pods::created(a)))
        // Names last, so that the order never depends on that of the cache.
        .then_with(|| b.metadata.name.cmp(&a.metadata.name))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.metadata
        .annotations
        .as_ref()
        .and_then(|map| map.get(pods::DELETION_COST)?.parse().ok())
        .unwrap_or(0)
}
