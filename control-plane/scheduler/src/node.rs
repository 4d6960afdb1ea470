//! A node as the scheduler sees it: what it has, what is taken, and by whom.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::{HostPort, PodInfo};
use crate::resources::{PODS, Resources};

#[derive(Debug)]
pub struct NodeInfo {
    node: Arc<Node>,
    pub(crate) allocatable: Resources,
    pub(crate) pods_max: i64,
    pub(crate) requested: Resources,
    /// Requests in which unsaid amounts count: CPU in millicores, memory in bytes.
    pub(crate) for_comparison: (i64, i64),
    pods: BTreeMap<String, Arc<PodInfo>>,
    ports: Vec<HostPort>,
    sets: HashMap<String, usize>,
    /// How many of its pods have required anti-affinity.
    pub(crate) repelling: usize,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = NodeInfo {
            node: node.clone(),
            allocatable: Resources::default(),
            pods_max: 0,
            requested: Resources::default(),
            for_comparison: (0, 0),
            pods: BTreeMap::new(),
            ports: Vec::new(),
            sets: HashMap::new(),
            repelling: 0,
        };
        info.set_node(node);
        info
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let list = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        self.allocatable = Resources::from_list(list);
        self.pods_max = list
            .and_then(|list| skiff_api::quantity::Quantity::parse(&list.get(PODS)?.0).ok())
            .map_or(0, |quantity| quantity.value());
        self.node = node;
    }

    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or("")
    }
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }
    pub(crate) fn taints(&self) -> &[Taint] {
        self.node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.as_deref())
            .unwrap_or_default()
    }
    pub(crate) fn is_unschedulable(&self) -> bool {
        self.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
    }
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.values()
    }
    pub(crate) fn pod_count(&self) -> usize {
        self.pods.len()
    }
    pub(crate) fn ports(&self) -> &[HostPort] {
        &self.ports
    }
    /// How many pods of this set the node has.
    pub(crate) fn pods_of_set(&self, owner_uid: &str) -> usize {
        self.sets.get(owner_uid).copied().unwrap_or(0)
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.for_comparison.0 += pod.for_comparison.0;
        self.for_comparison.1 += pod.for_comparison.1;
        self.ports.extend(pod.host_ports.iter().cloned());
        self.repelling += usize::from(!pod.required_anti_affinity().is_empty());
        if let Some(owner) = &pod.owner_uid {
            *self.sets.entry(owner.clone()).or_insert(0) += 1;
        }
        self.pods.insert(pod.uid().to_owned(), pod);
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        self.requested.subtract(&pod.requests);
        self.for_comparison.0 -= pod.for_comparison.0;
        self.for_comparison.1 -= pod.for_comparison.1;
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|used| used == port) {
                self.ports.swap_remove(at);
            }
        }
        self.repelling -= usize::from(!pod.required_anti_affinity().is_empty());
        let Some(owner) = &pod.owner_uid else { return };
        if let Some(count) = self.sets.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.sets.remove(owner);
            }
        }
    }
}
