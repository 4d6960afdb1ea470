//! Node-side admission: the last check before a pod is taken on, against what this node really runs. It catches two
//! schedulers racing for the same room, and labels that changed after the binding.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use skiff_api::quantity::Quantity;

/// Why the node does not take the pod: `status.reason` and the text behind `Pod was rejected: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

/// Checks `pod` against the node and the pods it already holds.
pub fn check<'a>(pod: &Pod, node: &Node, others: impl IntoIterator<Item = &'a Pod>) -> Result<(), Rejection> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    check_affinity(spec, node)?;
    let others: Vec<&PodSpec> = others.into_iter().filter_map(|pod| pod.spec.as_ref()).collect();
    check_ports(spec, &others)?;
    check_resources(spec, node, &others)
}

fn predicate(name: &str, why: &str) -> Rejection {
    Rejection {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed: {why}"),
    }
}

fn check_resources(spec: &PodSpec, node: &Node, others: &[&PodSpec]) -> Result<(), Rejection> {
    let empty = BTreeMap::new();
    let allocatable = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref())
        .unwrap_or(&empty);
    let amount = |name: &str| allocatable.get(name).and_then(parse);
    if let Some(pods) = amount("pods").map(|pods| pods.value())
        && others.len() as i64 + 1 > pods
    {
        return Err(lacks("pods", 1, others.len() as i64, pods));
    }
    for (name, requested) in requests(spec) {
        if requested == 0 {
            continue;
        }
        let capacity = amount(&name).map_or(0, |quantity| unit(&name, &quantity));
        let used: i64 = others
            .iter()
            .map(|spec| requests(spec).get(&name).copied().unwrap_or(0))
            .sum();
        if requested.saturating_add(used) > capacity {
            return Err(lacks(&name, requested, used, capacity));
        }
    }
    Ok(())
}

fn lacks(resource: &str, requested: i64, used: i64, capacity: i64) -> Rejection {
    Rejection {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn parse(quantity: &ApiQuantity) -> Option<Quantity> {
    Quantity::parse(&quantity.0).ok()
}

/// Millicores for cpu, whole units for all else.
fn unit(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" {
        quantity.milli_value()
    } else {
        quantity.value()
    }
}

/// What a pod takes of each resource: the sum of its containers and sidecars, or the largest init container (with the
/// sidecars started before it), whichever is more, plus overhead.
pub fn requests(spec: &PodSpec) -> BTreeMap<String, i64> {
    let of = |requests: Option<&BTreeMap<String, ApiQuantity>>| -> BTreeMap<String, i64> {
        let amounts = requests.into_iter().flatten();
        amounts
            .filter_map(|(name, quantity)| Some((name.clone(), unit(name, &parse(quantity)?))))
            .collect()
    };
    let mut sum: BTreeMap<String, i64> = BTreeMap::new();
    let mut peak: BTreeMap<String, i64> = BTreeMap::new();
    for container in &spec.containers {
        for (name, amount) in of(container.resources.as_ref().and_then(|r| r.requests.as_ref())) {
            *sum.entry(name).or_default() += amount;
        }
    }
    let mut sidecars: BTreeMap<String, i64> = BTreeMap::new();
    for container in spec.init_containers.iter().flatten() {
        let amounts = of(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
        if container.restart_policy.as_deref() == Some("Always") {
            for (name, amount) in amounts {
                *sidecars.entry(name.clone()).or_default() += amount;
                *sum.entry(name).or_default() += amount;
            }
        } else {
            for (name, amount) in amounts {
                let with_sidecars = amount + sidecars.get(&name).copied().unwrap_or(0);
                let peak = peak.entry(name).or_default();
                *peak = (*peak).max(with_sidecars);
            }
        }
    }
    for (name, amount) in peak {
        let sum = sum.entry(name).or_default();
        *sum = (*sum).max(amount);
    }
    for (name, amount) in of(spec.overhead.as_ref()) {
        *sum.entry(name).or_default() += amount;
    }
    sum
}

fn check_ports(spec: &PodSpec, others: &[&PodSpec]) -> Result<(), Rejection> {
    fn host_ports(spec: &PodSpec) -> impl Iterator<Item = (i32, String, String)> + '_ {
        let ports = spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten());
        ports.filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((number, protocol, port.host_ip.clone().unwrap_or_default()))
        })
    }
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    for (number, protocol, ip) in host_ports(spec) {
        let taken = others
            .iter()
            .flat_map(|spec| host_ports(spec))
            .any(|(other, other_protocol, other_ip)| {
                other == number && other_protocol == protocol && (other_ip == ip || any(&ip) || any(&other_ip))
            });
        if taken {
            let why = "node(s) didn't have free ports for the requested pod ports";
            return Err(predicate("NodePorts", why));
        }
    }
    Ok(())
}

fn check_affinity(spec: &PodSpec, node: &Node) -> Result<(), Rejection> {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key).is_some_and(|label| label == value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let matches = required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| term_matches(term, labels, name))
    });
    if selected && matches {
        return Ok(());
    }
    Err(predicate(
        "NodeAffinity",
        "node(s) didn't match Pod's node affinity/selector",
    ))
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node_name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // An empty term matches nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|need| requirement_matches(need, labels.get(&need.key).map(String::as_str)))
        && fields
            .iter()
            .all(|need| need.key == "metadata.name" && requirement_matches(need, Some(node_name)))
}

fn requirement_matches(need: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = need.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|other| other == value));
    let compare = |test: fn(i64, i64) -> bool| {
        let numbers = value
            .and_then(|value| value.parse().ok())
            .zip(values.first().and_then(|v| v.parse().ok()));
        numbers.is_some_and(|(value, bound)| test(value, bound))
    };
    match need.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}
