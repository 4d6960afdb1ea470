//! The rules that a node must satisfy, in Kubernetes' order: the first that fails is the one that is told.

mod affinity;
mod pod_affinity;
mod ports;
mod resources;
mod spread;
mod taints;

use std::borrow::Cow;

use crate::cluster::Cluster;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(crate) use taints::tolerates;

/// Why a node does not do, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub(crate) reasons: Vec<Cow<'static, str>>,
    /// Whether the removal of pods could help.
    pub(crate) pods_in_the_way: bool,
}

impl Unfit {
    /// Nothing that happens to the node's pods will help.
    fn for_good(reason: &'static str) -> Unfit {
        Unfit {
            reasons: vec![Cow::Borrowed(reason)],
            pods_in_the_way: false,
        }
    }
    /// Other pods are in the way.
    fn for_now(reason: &'static str) -> Unfit {
        Unfit {
            reasons: vec![Cow::Borrowed(reason)],
            pods_in_the_way: true,
        }
    }
}

/// One pod's search: what rules need to know beyond pod and node, counted once for the search.
pub(crate) struct Search<'a> {
    pub(crate) pod: &'a PodInfo,
    near: pod_affinity::Near,
    spread: spread::Spread,
}

impl<'a> Search<'a> {
    pub(crate) fn new(cluster: &Cluster, pod: &'a PodInfo) -> Self {
        Search {
            pod,
            near: pod_affinity::Near::count(cluster, pod),
            spread: spread::Spread::count(cluster, pod),
        }
    }
}

type Filter = fn(&Search<'_>, &NodeInfo) -> Result<(), Unfit>;

/// All rules, in the order in which they are asked.
const FILTERS: [Filter; 8] = [
    unschedulable,
    node_name,
    taints::filter,
    affinity::filter,
    ports::filter,
    resources::filter,
    spread::filter,
    pod_affinity::filter,
];

/// The first rule that the node breaks.
pub(crate) fn check(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    FILTERS.iter().try_for_each(|filter| filter(search, node))
}

/// A cordoned node takes only pods that tolerate that.
fn unschedulable(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    if !node.is_unschedulable() || taints::tolerates_unschedulable(search.pod) {
        return Ok(());
    }
    Err(Unfit::for_good("node(s) were unschedulable"))
}

/// A pod that names its node goes there or nowhere.
fn node_name(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    match search.pod.spec().and_then(|spec| spec.node_name.as_deref()) {
        Some(name) if !name.is_empty() && name != node.name() => {
            Err(Unfit::for_good("node(s) didn't match the requested node name"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
