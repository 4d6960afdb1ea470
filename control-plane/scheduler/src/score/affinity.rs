//! Preferred node affinity: the weights of the preferences that the node satisfies.

use crate::node::NodeInfo;
use crate::node_selector::term_matches;
use crate::pod::PodInfo;

pub(super) fn preferred(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let terms = pod
        .spec()
        .and_then(|spec| {
            spec.affinity
                .as_ref()?
                .node_affinity
                .as_ref()?
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default();
    // An empty preference means every node, unlike an empty requirement.
    let is_empty = |term: &k8s_openapi::api::core::v1::NodeSelectorTerm| {
        term.match_expressions.as_ref().is_none_or(Vec::is_empty)
            && term.match_fields.as_ref().is_none_or(Vec::is_empty)
    };
    terms
        .iter()
        .filter(|term| is_empty(&term.preference) || term_matches(&term.preference, node))
        .map(|term| i64::from(term.weight))
        .sum()
}
