//! `nodeSelector` and required node affinity: which nodes the pod asks for.

use super::{Search, Unfit};
use crate::node::NodeInfo;
use crate::node_selector::term_matches;

pub(super) fn filter(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    let Some(spec) = search.pod.spec() else { return Ok(()) };
    let labelled = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| node.label(key) == Some(value.as_str()));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted =
        required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)));
    if labelled && wanted {
        return Ok(());
    }
    Err(Unfit::for_good("node(s) didn't match Pod's node affinity/selector"))
}
