//! Who owns whom: the metadata of every object that owns, is owned, or waits for this controller.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN, Owner, World, resource_of};
use crate::plan::{ObjectKey, Resource, Target};

/// One object's place in the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphNode {
    pub resource: Resource,
    pub key: ObjectKey,
    pub uid: String,
    pub resource_version: String,
    pub owners: Vec<OwnerReference>,
    pub finalizers: Vec<String>,
    pub terminating: bool,
}

impl GraphNode {
    pub fn new(resource: &Resource, meta: &ObjectMeta) -> Self {
        GraphNode {
            resource: resource.clone(),
            key: ObjectKey::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
        }
    }

    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| one == finalizer)
    }

    fn waits_for_dependents(&self) -> bool {
        self.terminating && self.has_finalizer(FOREGROUND)
    }
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Arc<GraphNode>>,
    dependents: HashMap<String, BTreeSet<String>>,
    served: Vec<Resource>,
}

impl Graph {
    /// The resources whose objects the graph shows. An owner of another kind is never taken for absent.
    pub fn set_served(&mut self, served: Vec<Resource>) {
        self.served = served;
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a namespace has objects.
    pub fn has_objects_in(&self, namespace: &str) -> bool {
        self.nodes.values().any(|node| node.key.namespace == namespace)
    }

    /// An object came or changed; returns the uids to look at.
    pub fn insert(&mut self, node: GraphNode) -> Vec<String> {
        let node = Arc::new(node);
        let old = self.nodes.insert(node.uid.clone(), node.clone());
        let owners = |node: &GraphNode| {
            node.owners
                .iter()
                .map(|owner| owner.uid.clone())
                .collect::<BTreeSet<_>>()
        };
        let (before, after) = (old.as_deref().map(owners).unwrap_or_default(), owners(&node));
        for gone in before.difference(&after) {
            self.unlink(gone, &node.uid);
        }
        for owner in &after {
            self.dependents
                .entry(owner.clone())
                .or_default()
                .insert(node.uid.clone());
        }
        let mut wake = Vec::new();
        let changed = old.as_deref().is_none_or(|old| {
            old.owners != node.owners || old.terminating != node.terminating || old.finalizers != node.finalizers
        });
        if !changed {
            return wake;
        }
        if !node.owners.is_empty()
            || (node.terminating && (node.has_finalizer(ORPHAN) || node.has_finalizer(FOREGROUND)))
        {
            wake.push(node.uid.clone());
        }
        wake.extend(before.union(&after).filter(|owner| self.is_terminating(owner)).cloned());
        if node.waits_for_dependents() && !old.is_some_and(|old| old.waits_for_dependents()) {
            wake.extend(self.dependents.get(&node.uid).into_iter().flatten().cloned());
        }
        wake
    }

    /// An object is gone; returns the uids to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut wake: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.is_terminating(&owner.uid) {
                wake.push(owner.uid.clone());
            }
        }
        wake
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn is_terminating(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.terminating)
    }

    /// Uids of all objects of a resource, for comparison with a new list.
    pub fn uids_of(&self, resource: &Resource) -> Vec<String> {
        self.nodes
            .values()
            .filter(|node| node.resource == *resource)
            .map(|node| node.uid.clone())
            .collect()
    }

    /// Uids of all that may need a look.
    pub fn candidates(&self) -> Vec<String> {
        self.nodes
            .values()
            .filter(|node| !node.owners.is_empty() || node.terminating)
            .map(|node| node.uid.clone())
            .collect()
    }

    pub(super) fn world(&self, uid: &str) -> Option<World> {
        let item = self.nodes.get(uid)?.clone();
        let owners = item
            .owners
            .iter()
            .map(|reference| (reference.clone(), self.owner(&item, reference)))
            .collect();
        let dependents = self.dependents.get(uid).into_iter().flatten();
        let dependents = dependents.filter_map(|uid| self.nodes.get(uid).cloned()).collect();
        Some(World {
            item,
            owners,
            dependents,
        })
    }

    fn owner(&self, item: &GraphNode, reference: &OwnerReference) -> Owner {
        let Some(resource) = resource_of(reference, &self.served) else {
            return Owner::Unknown;
        };
        // A namespaced owner of a cluster-wide object cannot be found: it does not say in which namespace.
        if resource.namespaced && item.key.namespace.is_empty() {
            return Owner::Unknown;
        }
        let namespace = if resource.namespaced {
            item.key.namespace.as_str()
        } else {
            ""
        };
        match self
            .nodes
            .get(&reference.uid)
            .filter(|owner| owner.key.namespace == namespace)
        {
            Some(owner) if owner.waits_for_dependents() => Owner::Waiting,
            Some(_) => Owner::Solid,
            None => Owner::Absent(Target {
                resource,
                key: ObjectKey::new(namespace, reference.name.clone()),
                uid: reference.uid.clone(),
                resource_version: None,
            }),
        }
    }
}
