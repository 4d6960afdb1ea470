//! Topology spread: with `DoNotSchedule`, no place may have more than `maxSkew` matching pods above the emptiest one.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::{Search, Unfit, affinity, taints};
use crate::cluster::Cluster;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use skiff_api::labels;

/// Matching pods of each place, for each hard constraint.
#[derive(Debug, Default)]
pub(super) struct Spread {
    counts: Vec<(TopologySpreadConstraint, HashMap<String, i32>)>,
}

impl Spread {
    pub(super) fn count(cluster: &Cluster, pod: &PodInfo) -> Spread {
        let all = pod
            .spec()
            .and_then(|spec| spec.topology_spread_constraints.as_deref())
            .unwrap_or_default();
        let hard: Vec<_> = all
            .iter()
            .filter(|one| one.when_unsatisfiable == "DoNotSchedule")
            .cloned()
            .collect();
        if hard.is_empty() {
            return Spread::default();
        }
        let mut counts: Vec<_> = hard
            .into_iter()
            .map(|constraint| (constraint, HashMap::new()))
            .collect();
        let keys: Vec<String> = counts
            .iter()
            .map(|(constraint, _)| constraint.topology_key.clone())
            .collect();
        // Only nodes that carry every key take part.
        for node in cluster
            .nodes()
            .iter()
            .filter(|node| keys.iter().all(|key| node.label(key).is_some()))
        {
            for (constraint, places) in &mut counts {
                if !takes_part(pod, node, constraint) {
                    continue;
                }
                let place = node.label(&constraint.topology_key).unwrap_or("").to_owned();
                let matching = node.pods().filter(|other| is_counted(pod, constraint, other)).count();
                *places.entry(place).or_insert(0) += i32::try_from(matching).unwrap_or(i32::MAX);
            }
        }
        Spread { counts }
    }
}

/// Whether the constraint's policies count this node.
fn takes_part(pod: &PodInfo, node: &NodeInfo, constraint: &TopologySpreadConstraint) -> bool {
    let search = Search {
        pod,
        near: Default::default(),
        spread: Spread::default(),
    };
    let by_affinity =
        constraint.node_affinity_policy.as_deref() == Some("Ignore") || affinity::filter(&search, node).is_ok();
    let by_taints = constraint.node_taints_policy.as_deref() != Some("Honor") || taints::filter(&search, node).is_ok();
    by_affinity && by_taints
}

fn is_counted(pod: &PodInfo, constraint: &TopologySpreadConstraint, other: &PodInfo) -> bool {
    let value = |pod: &PodInfo, key: &str| pod.labels().and_then(|labels| labels.get(key).cloned());
    other.namespace() == pod.namespace()
        && !other.is_terminating()
        && constraint
            .label_selector
            .as_ref()
            .is_some_and(|selector| labels::matches(selector, other.labels()))
        && constraint
            .match_label_keys
            .iter()
            .flatten()
            .all(|key| value(pod, key) == value(other, key))
}

pub(super) fn filter(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    for (constraint, places) in &search.spread.counts {
        let Some(place) = node.label(&constraint.topology_key) else {
            return Err(Unfit::for_good(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ));
        };
        let domains = i32::try_from(places.len()).unwrap_or(i32::MAX);
        let emptiest = places.values().copied().min().unwrap_or(0);
        let least = if domains < constraint.min_domains.unwrap_or(1) {
            0
        } else {
            emptiest
        };
        let own = i32::from(is_counted(search.pod, constraint, search.pod));
        if places.get(place).copied().unwrap_or(0) + own - least > constraint.max_skew {
            return Err(Unfit::for_now("node(s) didn't match pod topology spread constraints"));
        }
    }
    Ok(())
}
