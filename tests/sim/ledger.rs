//! What nodes have and what pods take of it.

use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_api::quantity::Quantity;
use skiff_controllers::ObjectKey;

use crate::api::{Api, Kind, Stored, Typed};

pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Thousandths of a core.
fn request(pod: &Pod) -> i64 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let amounts = containers.filter_map(|container| {
        let amount = container.resources.as_ref()?.requests.as_ref()?.get("cpu")?;
        Quantity::parse(&amount.0).ok().map(|amount| amount.milli_value())
    });
    amounts.sum()
}

/// Cores in thousandths and pods.
fn allocatable(node: &Node) -> Option<(i64, i64)> {
    let list = node.status.as_ref()?.allocatable.as_ref()?;
    let amount = |name: &str| Quantity::parse(&list.get(name)?.0).ok();
    Some((amount("cpu")?.milli_value(), amount("pods")?.value()))
}

fn used(api: &Api, node: &str, except: Option<&str>) -> (i64, i64) {
    let on_it = api.pods().filter(|pod| node_of(pod) == Some(node) && !has_ended(pod));
    let counted = on_it.filter(|pod| except.is_none() || pod.metadata.uid.as_deref() != except);
    counted.fold((0, 0), |(cpu, pods), pod| (cpu + request(pod), pods + 1))
}

/// Whether the node's ledger has room for the pod. A node that is not there has no limit to check.
pub fn fits(api: &Api, node: &str, pod: &Pod) -> bool {
    let Some(Stored {
        typed: Typed::Node(found),
        ..
    }) = api.get(Kind::Node, &ObjectKey::cluster(node))
    else {
        return true;
    };
    let Some((cpu, pods)) = allocatable(found) else {
        return true;
    };
    let (cpu_used, pods_used) = used(api, node, pod.metadata.uid.as_deref());
    cpu_used + request(pod) <= cpu && pods_used < pods
}

/// One sentence for each node that has promised more than it has.
pub fn overcommitted(api: &Api) -> Vec<String> {
    let mut breaches = Vec::new();
    for stored in api.list(Kind::Node) {
        let Typed::Node(node) = &stored.typed else { continue };
        let name = node.metadata.name.as_deref().unwrap_or("");
        let Some((cpu, pods)) = allocatable(node) else { continue };
        let (cpu_used, pods_used) = used(api, name, None);
        if cpu_used > cpu || pods_used > pods {
            breaches.push(format!(
                "node {name} is over: {cpu_used}m of {cpu}m, {pods_used} pods of {pods}"
            ));
        }
    }
    breaches
}
