//! Required pod affinity and anti-affinity: near to some pods, far from others, where "near" is a node label's value.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::PodAffinityTerm;

use super::{Search, Unfit};
use crate::cluster::Cluster;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use skiff_api::labels;

/// Pods counted by term and place; places are values of the term's topology key.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// For each required affinity term: matching pods in each place.
    wanted: Vec<HashMap<String, usize>>,
    /// For each required anti-affinity term of the pod: the same.
    unwanted: Vec<HashMap<String, usize>>,
    /// (topology key, place) from which a pod that is there repels this one.
    repelled: Vec<(String, String)>,
    /// No pod anywhere matches any wanted term, but the pod matches its own: the first of its kind may go anywhere.
    first_of_its_kind: bool,
}

impl Near {
    pub(super) fn count(cluster: &Cluster, pod: &PodInfo) -> Near {
        let (wanted, unwanted) = (pod.required_affinity(), pod.required_anti_affinity());
        let mut near = Near {
            wanted: vec![HashMap::new(); wanted.len()],
            unwanted: vec![HashMap::new(); unwanted.len()],
            ..Near::default()
        };
        let any_terms = !wanted.is_empty() || !unwanted.is_empty();
        for node in cluster.nodes() {
            if !any_terms && node.repelling == 0 {
                continue;
            }
            for other in node.pods() {
                for (terms, counts) in [(wanted, &mut near.wanted), (unwanted, &mut near.unwanted)] {
                    for (term, counts) in terms.iter().zip(counts.iter_mut()) {
                        if let Some(place) = node
                            .label(&term.topology_key)
                            .filter(|_| selects(cluster, pod, term, other))
                        {
                            *counts.entry(place.to_owned()).or_insert(0) += 1;
                        }
                    }
                }
                for term in other.required_anti_affinity() {
                    if let Some(place) = node
                        .label(&term.topology_key)
                        .filter(|_| selects(cluster, other, term, pod))
                    {
                        near.repelled.push((term.topology_key.clone(), place.to_owned()));
                    }
                }
            }
        }
        near.first_of_its_kind =
            near.wanted.iter().all(HashMap::is_empty) && wanted.iter().all(|term| selects(cluster, pod, term, pod));
        near
    }
}

/// Whether `owner`'s term is about `other`.
fn selects(cluster: &Cluster, owner: &PodInfo, term: &PodAffinityTerm, other: &PodInfo) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let by_label = term.namespace_selector.as_ref().is_some_and(|selector| {
        let labels = cluster
            .namespace(other.namespace())
            .and_then(|namespace| namespace.metadata.labels.as_ref());
        labels::matches(selector, labels)
    });
    let in_scope = if listed.is_empty() && term.namespace_selector.is_none() {
        other.namespace() == owner.namespace()
    } else {
        by_label || listed.iter().any(|namespace| namespace == other.namespace())
    };
    let value = |pod: &PodInfo, key: &str| pod.labels().and_then(|labels| labels.get(key).cloned());
    in_scope
        && term
            .label_selector
            .as_ref()
            .is_some_and(|selector| labels::matches(selector, other.labels()))
        && term
            .match_label_keys
            .iter()
            .flatten()
            .all(|key| value(owner, key) == value(other, key))
        && term
            .mismatch_label_keys
            .iter()
            .flatten()
            .all(|key| value(owner, key) != value(other, key))
}

pub(super) fn filter(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    let near = &search.near;
    let here = |term: &PodAffinityTerm, counts: &HashMap<String, usize>| {
        node.label(&term.topology_key).map(|place| counts.contains_key(place))
    };
    let wanted = search.pod.required_affinity();
    let satisfied = wanted
        .iter()
        .zip(&near.wanted)
        .all(|(term, counts)| match here(term, counts) {
            Some(found) => found || near.first_of_its_kind,
            None => false,
        });
    if !satisfied {
        return Err(Unfit::for_good("node(s) didn't match pod affinity rules"));
    }
    let unwanted = search.pod.required_anti_affinity();
    if unwanted
        .iter()
        .zip(&near.unwanted)
        .any(|(term, counts)| here(term, counts) == Some(true))
    {
        return Err(Unfit::for_now("node(s) didn't match pod anti-affinity rules"));
    }
    if near
        .repelled
        .iter()
        .any(|(key, place)| node.label(key) == Some(place.as_str()))
    {
        return Err(Unfit::for_now(
            "node(s) didn't satisfy existing pods anti-affinity rules",
        ));
    }
    Ok(())
}
