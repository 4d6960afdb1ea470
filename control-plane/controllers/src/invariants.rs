//! What must hold in any cluster at any moment, whatever crashed or came late. Tests and simulations check it after every
//! move; each rule returns one sentence for each breach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::caches::controller_of;
use crate::pods;

/// A cluster at one moment.
#[derive(Debug, Default)]
pub struct Observation {
    pub pods: Vec<Arc<Pod>>,
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    pub deployments: Vec<Arc<Deployment>>,
    pub nodes: Vec<Arc<Node>>,
}

/// All breaches of what must always hold.
pub fn always(now: &Observation) -> Vec<String> {
    let mut breaches = Vec::new();
    breaches.extend(no_node_has_more_pods_than_it_takes(now));
    breaches.extend(no_range_of_addresses_is_given_twice(now));
    breaches
}

/// All breaches of what must hold between two moments.
pub fn between(before: &Observation, after: &Observation) -> Vec<String> {
    let placed: BTreeMap<&str, &str> = before
        .pods
        .iter()
        .filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pods::node_name(pod))))
        .collect();
    let moved = |pod: &&Arc<Pod>| {
        let was = pod
            .metadata
            .uid
            .as_deref()
            .and_then(|uid| placed.get(uid))
            .copied()
            .unwrap_or("");
        !was.is_empty() && was != pods::node_name(pod)
    };
    after
        .pods
        .iter()
        .filter(moved)
        .map(|pod| {
            format!(
                "pod {} moved to another node",
                pod.metadata.name.as_deref().unwrap_or("")
            )
        })
        .collect()
}

/// All breaches of what must hold once nothing happens any more.
pub fn settled(now: &Observation) -> Vec<String> {
    let mut breaches = always(now);
    for set in &now.replica_sets {
        let want = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let have = active_pods(now, set);
        if i32::try_from(have) != Ok(want) {
            breaches.push(format!(
                "set {} has {have} pods and wants {want}",
                name(&set.metadata.name)
            ));
        }
    }
    for deployment in &now.deployments {
        let want = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.as_ref();
        let updated = status.and_then(|status| status.updated_replicas).unwrap_or(0);
        let total = status.and_then(|status| status.replicas).unwrap_or(0);
        if updated != want || total != want {
            breaches.push(format!(
                "deployment {} has {total} pods, {updated} of them new, and wants {want}",
                name(&deployment.metadata.name)
            ));
        }
    }
    breaches
}

fn name(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or("")
}

fn active_pods(now: &Observation, set: &ReplicaSet) -> usize {
    let owned = |pod: &&Arc<Pod>| controller_of(&pod.metadata).map(|owner| &owner.uid) == set.metadata.uid.as_ref();
    now.pods.iter().filter(owned).filter(|pod| pods::is_active(pod)).count()
}

fn no_node_has_more_pods_than_it_takes(now: &Observation) -> Vec<String> {
    let over = |node: &Arc<Node>| {
        let list = node.status.as_ref()?.allocatable.as_ref()?;
        let most: usize = list.get("pods")?.0.parse().ok()?;
        let on_it = |pod: &&Arc<Pod>| pods::node_name(pod) == name(&node.metadata.name) && !pods::is_finished(pod);
        let have = now.pods.iter().filter(on_it).count();
        (have > most).then(|| format!("node {} has {have} pods and takes {most}", name(&node.metadata.name)))
    };
    now.nodes.iter().filter_map(over).collect()
}

fn no_range_of_addresses_is_given_twice(now: &Observation) -> Vec<String> {
    let mut given = BTreeSet::new();
    let ranges = now
        .nodes
        .iter()
        .filter_map(|node| node.spec.as_ref()?.pod_cidr.as_deref());
    ranges
        .filter(|range| !given.insert(range.to_owned()))
        .map(|range| format!("range {range} is given twice"))
        .collect()
}

/// A set may be over its present wish for a moment, but never over the largest that it ever had. `most` is that, by uid;
/// this notes what it sees.
pub fn no_set_has_more_pods_than_it_ever_wanted(now: &Observation, most: &mut BTreeMap<String, usize>) -> Vec<String> {
    let mut breaches = Vec::new();
    for set in &now.replica_sets {
        let want = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let most = most.entry(set.metadata.uid.clone().unwrap_or_default()).or_insert(0);
        *most = (*most).max(usize::try_from(want).unwrap_or(0));
        let have = active_pods(now, set);
        if have > *most {
            breaches.push(format!(
                "set {} has {have} pods and never wanted more than {most}",
                name(&set.metadata.name)
            ));
        }
    }
    breaches
}
