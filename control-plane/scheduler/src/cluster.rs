//! The picture of the cluster: nodes and the pods on them, kept up to date one change at a time.
//!
//! A pod can be *assumed*: bound by us, not seen back yet. It counts as if it were there, until the watch confirms it or
//! the binding fails.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node};

use crate::node::NodeInfo;
use crate::pod::PodInfo;

#[derive(Debug)]
struct Placed {
    node: String,
    pod: Arc<PodInfo>,
}

#[derive(Debug, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    index: HashMap<String, usize>,
    placed: HashMap<String, Placed>,
    /// Uids of pods on nodes that are not known (yet).
    strays: BTreeMap<String, Vec<String>>,
    namespaces: BTreeMap<String, Arc<Namespace>>,
}

impl Cluster {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|index| &self.nodes[*index])
    }

    pub(crate) fn node_index(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name)
    }

    pub fn set_namespace(&mut self, namespace: Arc<Namespace>) {
        self.namespaces
            .insert(namespace.metadata.name.clone().unwrap_or_default(), namespace);
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        if let Some(index) = self.index.get(&name) {
            self.nodes[*index].set_node(node);
            return;
        }
        let mut info = NodeInfo::new(node);
        for uid in self.strays.remove(&name).unwrap_or_default() {
            if let Some(placed) = self.placed.get(&uid) {
                info.add_pod(placed.pod.clone());
            }
        }
        self.index.insert(name, self.nodes.len());
        self.nodes.push(info);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.index.remove(name) else { return };
        let gone = self.nodes.swap_remove(index);
        if let Some(moved) = self.nodes.get(index) {
            self.index.insert(moved.name().to_owned(), index);
        }
        let strays: Vec<String> = gone.pods().map(|pod| pod.uid().to_owned()).collect();
        if !strays.is_empty() {
            self.strays.insert(name.to_owned(), strays);
        }
    }

    /// A pod is on a node: seen there, or assumed there. A pod that was placed elsewhere moves.
    pub fn place_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        let uid = pod.uid().to_owned();
        self.remove_pod(&uid);
        match self.index.get(node) {
            Some(index) => self.nodes[*index].add_pod(pod.clone()),
            None => self.strays.entry(node.to_owned()).or_default().push(uid.clone()),
        }
        self.placed.insert(
            uid,
            Placed {
                node: node.to_owned(),
                pod,
            },
        );
    }

    /// A pod is gone, has finished, or was not bound after all. Returns the node that it leaves.
    pub fn remove_pod(&mut self, uid: &str) -> Option<String> {
        let placed = self.placed.remove(uid)?;
        if let Some(index) = self.index.get(&placed.node) {
            self.nodes[*index].remove_pod(uid);
        } else if let Some(strays) = self.strays.get_mut(&placed.node) {
            strays.retain(|stray| stray != uid);
            if strays.is_empty() {
                self.strays.remove(&placed.node);
            }
        }
        Some(placed.node)
    }

    /// Where the pod is placed.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.placed.get(uid).map(|placed| placed.node.as_str())
    }

    /// The pod as it was placed.
    pub fn placed_pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.placed.get(uid).map(|placed| &placed.pod)
    }
}
