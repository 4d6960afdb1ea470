//! Node selector terms: labels and `metadata.name`, with the operators that only nodes have (Gt, Lt).

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::node::NodeInfo;

/// Whether the node satisfies the term. An empty term matches nothing, as in Kubernetes.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|rule| holds(rule, node.label(&rule.key)))
        && fields
            .iter()
            .all(|rule| rule.key == "metadata.name" && holds(rule, Some(node.name())))
}

fn holds(rule: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = rule.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|one| one == value));
    match rule.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" | "Lt" => {
            let number = |text: &str| text.parse::<i64>().ok();
            match (
                value.and_then(number),
                values.first().map(String::as_str).and_then(number),
            ) {
                (Some(have), Some(bound)) if rule.operator == "Gt" => have > bound,
                (Some(have), Some(bound)) => have < bound,
                _ => false,
            }
        }
        _ => false,
    }
}
