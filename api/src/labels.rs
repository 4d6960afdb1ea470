//! Label selectors of typed objects (k8s-openapi), for controllers and scheduler. `selector` has those of plain JSON and of
//! query strings.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether the labels satisfy the selector. An empty selector matches everything, as in Kubernetes; callers for which
/// "empty" must mean "nothing" check that themselves.
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, want)| value(key) == Some(want))
        && selector.match_expressions.iter().flatten().all(|rule| {
            let have = value(&rule.key);
            let listed = || have.is_some_and(|have| rule.values.iter().flatten().any(|one| one == have));
            match rule.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}

/// A selector without any requirement.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
