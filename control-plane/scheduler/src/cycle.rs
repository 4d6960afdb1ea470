//! One pod against one picture of the cluster.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::cluster::Cluster;
use crate::explain::Explanation;
use crate::filter::{self, Search, Unfit};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::score;

/// Clusters up to this size are searched whole; in larger ones the search ends when so many nodes would do (Kubernetes'
/// `minFeasibleNodesToFind`).
const FEASIBLE_ENOUGH: usize = 100;
/// In larger clusters: the share of nodes that is enough, in percent (Kubernetes' lower bound).
const FEASIBLE_PERCENT: usize = 5;

/// Where the next search starts, so that all nodes get their turn when a search does not see all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor(usize);

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The best node.
    Bind(String),
    /// No node would do.
    Wait(Explanation),
}

/// Decides where a pod goes. Nodes of equal score are chosen between by `seed`, the pod and the node, by nothing else.
pub fn schedule(cluster: &Cluster, pod: &PodInfo, cursor: &mut Cursor, seed: u64) -> Decision {
    let nodes = cluster.nodes();
    let never = pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never");
    let mut explanation = Explanation::new(nodes.len(), never);
    if nodes.is_empty() {
        return Decision::Wait(explanation);
    }
    if let Some(claim) = pod.claims().next() {
        // No claims are served yet, so none can be found.
        let reason = format!("persistentvolumeclaim {claim:?} not found");
        return Decision::Wait(Explanation::ended_early(nodes.len(), reason));
    }
    let search = Search::new(cluster, pod);
    if let Some(named) = only_nodes(pod) {
        let named: Vec<usize> = named.iter().filter_map(|name| cluster.node_index(name)).collect();
        let feasible = keep_feasible(&search, nodes, named.iter().copied(), usize::MAX, &mut explanation).0;
        let others = nodes.len() - named.len();
        explanation.add_many(
            Unfit {
                reasons: vec!["node(s) didn't match Pod's node affinity/selector".into()],
                pods_in_the_way: false,
            },
            others,
        );
        return best(pod, feasible, seed).map_or(Decision::Wait(explanation), Decision::Bind);
    }
    let enough = FEASIBLE_ENOUGH.max(nodes.len() * FEASIBLE_PERCENT / 100);
    let start = cursor.0 % nodes.len();
    let order = (start..nodes.len()).chain(0..start);
    let (feasible, looked_at) = keep_feasible(&search, nodes, order, enough, &mut explanation);
    cursor.0 = (start + looked_at) % nodes.len();
    best(pod, feasible, seed).map_or(Decision::Wait(explanation), Decision::Bind)
}

/// Names of the only nodes that the pod accepts, if it says so by name (as pods of DaemonSets do).
fn only_nodes(pod: &PodInfo) -> Option<Vec<String>> {
    let required = pod
        .spec()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut names = Vec::new();
    for term in &required.node_selector_terms {
        let rule = term
            .match_fields
            .iter()
            .flatten()
            .find(|rule| rule.key == "metadata.name" && rule.operator == "In")?;
        names.extend(rule.values.iter().flatten().cloned());
    }
    names.sort();
    names.dedup();
    Some(names)
}

fn keep_feasible<'a>(
    search: &Search<'_>,
    nodes: &'a [NodeInfo],
    order: impl Iterator<Item = usize>,
    enough: usize,
    explanation: &mut Explanation,
) -> (Vec<&'a NodeInfo>, usize) {
    let mut feasible = Vec::new();
    let mut looked_at = 0;
    for index in order {
        looked_at += 1;
        match filter::check(search, &nodes[index]) {
            Ok(()) => feasible.push(&nodes[index]),
            Err(unfit) => explanation.add(unfit),
        }
        if feasible.len() >= enough {
            break;
        }
    }
    (feasible, looked_at)
}

fn best(pod: &PodInfo, feasible: Vec<&NodeInfo>, seed: u64) -> Option<String> {
    if let [only] = feasible.as_slice() {
        return Some(only.name().to_owned());
    }
    let totals = score::totals(pod, &feasible);
    let largest = totals.iter().copied().max()?;
    let draw = |node: &NodeInfo| {
        let mut hasher = DefaultHasher::new();
        (seed, pod.uid(), node.name()).hash(&mut hasher);
        hasher.finish()
    };
    let candidates = feasible
        .iter()
        .zip(totals)
        .filter(|(_, total)| *total == largest)
        .map(|(node, _)| *node);
    candidates
        .min_by_key(|node| draw(node))
        .map(|node| node.name().to_owned())
}

#[cfg(test)]
mod tests;
