//! The quality-of-service class of a pod, from its requests and limits.

use serde_json::{Map, Value};
use skiff_api::object::list_at;
use skiff_api::quantity::Quantity;

/// The resources that count for the class.
const QOS_RESOURCES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(pod: &Value) -> &'static str {
    // Pod-level resources, when given, decide alone.
    let holders: Vec<&Value> = match pod.pointer("/spec/resources") {
        Some(resources) if names_any(resources) => vec![resources],
        _ => ["/spec/containers", "/spec/initContainers"]
            .iter()
            .flat_map(|list| list_at(pod, list))
            .filter_map(|container| container.get("resources"))
            .collect(),
    };
    let count =
        if holders.len() == 1 && std::ptr::eq(holders[0], pod.pointer("/spec/resources").unwrap_or(&Value::Null)) {
            1
        } else {
            list_at(pod, "/spec/containers").len() + list_at(pod, "/spec/initContainers").len()
        };
    let mut any = false;
    let mut guaranteed = holders.len() == count;
    for resources in holders {
        let (requests, limits) = (list(resources, "requests"), list(resources, "limits"));
        for resource in QOS_RESOURCES {
            let request = requests.and_then(|r| positive(r, resource));
            let limit = limits.and_then(|l| positive(l, resource));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.as_ref().is_none_or(|r| Some(r) == limit.as_ref());
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn names_any(resources: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|key| list(resources, key).is_some_and(|map| !map.is_empty()))
}

fn list<'a>(resources: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    resources.get(key).and_then(Value::as_object)
}

fn positive(list: &Map<String, Value>, resource: &str) -> Option<i64> {
    let quantity = Quantity::parse(list.get(resource)?.as_str()?).ok()?;
    Some(quantity.milli_value()).filter(|milli| *milli > 0)
}
