//! What must hold between two states of one pod, whoever wrote them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::ledger::node_of;

/// One sentence for each breach.
pub fn pod_changed(old: &Pod, new: &Pod) -> Vec<String> {
    let mut breaches = Vec::new();
    let name = new.metadata.name.as_deref().unwrap_or("");
    if old.metadata.uid != new.metadata.uid {
        return breaches;
    }
    if node_of(old).is_some() && node_of(old) != node_of(new) {
        breaches.push(format!(
            "pod {name} was bound twice: {:?}, then {:?}",
            node_of(old),
            node_of(new)
        ));
    }
    if old.metadata.deletion_timestamp.is_some() && new.metadata.deletion_timestamp.is_none() {
        breaches.push(format!("pod {name} is not being deleted any more"));
    }
    let (before, after) = (restarts(old), restarts(new));
    for (container, count) in &before {
        if after.get(container).is_some_and(|now| now < count) {
            breaches.push(format!(
                "pod {name}: {container} went from {count} restarts to {}",
                after[container]
            ));
        }
    }
    breaches
}

fn restarts(pod: &Pod) -> BTreeMap<String, i32> {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses
        .map(|status| (status.name.clone(), status.restart_count))
        .collect()
}
