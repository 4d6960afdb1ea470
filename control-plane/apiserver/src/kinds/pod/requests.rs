//! What a pod asks of its node, in sum: the scheduler's and the ledgers' number.

use std::collections::BTreeMap;

use serde_json::Value;
use skiff_api::object::{list_at, str_at};
use skiff_api::quantity::Quantity;

/// Amounts by resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// The pod's effective requests: its containers together, or the most that its init containers need at any time, beside
/// the sidecars started before them; what the pod says as a whole wins; plus the runtime's overhead.
pub(crate) fn of_pod(pod: &Value) -> Amounts {
    let mut total = Amounts::new();
    for container in list_at(pod, "/spec/containers") {
        add(&mut total, &amounts(container.pointer("/resources/requests")));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in list_at(pod, "/spec/initContainers") {
        let mut own = amounts(container.pointer("/resources/requests"));
        if str_at(container, "/restartPolicy") == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut peak, own);
    }
    raise(&mut total, peak);
    total.extend(amounts(pod.pointer("/spec/resources/requests")));
    add(&mut total, &amounts(pod.pointer("/spec/overhead")));
    total
}

/// A resource list as quantities; what does not parse is left out.
pub(crate) fn amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(name, amount)| {
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            Some((name.clone(), Quantity::parse(&text).ok()?))
        })
        .collect()
}

/// Adds `more` to `total`, resource by resource.
pub(crate) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).map_or(*amount, |have| *have + *amount);
        total.insert(name.clone(), sum);
    }
}

/// Raises each amount to at least that of `other`.
fn raise(total: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        if total.get(&name).is_none_or(|have| *have < amount) {
            total.insert(name, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::object;

    fn check(spec: &str, expected: &str) {
        let pod = object(&format!("{{spec: {spec}}}"));
        let text: Vec<String> = of_pod(&pod)
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        assert_eq!(text.join(" "), expected, "{spec}");
    }

    #[test]
    fn containers_add_up_and_init_containers_only_count_when_they_need_more() {
        check(
            "{containers: [{resources: {requests: {cpu: 100m}}}, {resources: {requests: {cpu: 200m, memory: 1Gi}}}]}",
            "cpu=300m memory=1Gi",
        );
        check(
            "{initContainers: [{resources: {requests: {cpu: '1', memory: 1Mi}}}], containers: [{resources: {requests: {cpu: 200m, memory: 1Gi}}}]}",
            "cpu=1 memory=1Gi",
        );
    }

    #[test]
    fn sidecars_run_beside_everything_that_starts_after_them() {
        check(
            "{initContainers: [{restartPolicy: Always, resources: {requests: {cpu: 500m}}}, {resources: {requests: {cpu: 800m}}}], containers: [{resources: {requests: {cpu: 200m}}}]}",
            "cpu=1300m",
        );
    }

    #[test]
    fn the_pods_own_word_and_the_overhead_count() {
        check(
            "{resources: {requests: {cpu: '2'}}, overhead: {cpu: 50m}, containers: [{resources: {requests: {cpu: 200m, memory: 1Mi}}}]}",
            "cpu=2050m memory=1Mi",
        );
    }
}
