//! Garbage collection: an object goes when all its owners are gone; an owner that is deleted in the foreground waits for
//! what blocks it; an owner that is orphaned leaves its dependents behind.

mod graph;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

pub use self::graph::{Graph, GraphNode};
use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::plan::{Action, DeleteOptions, ObjectKey, Plan, Report, Resource, Target};

/// The finalizers by which the API server hands an object to this controller.
pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// What is known of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It is there.
    Solid,
    /// It is being deleted in the foreground, and waits for those that block it.
    Waiting,
    /// The graph does not show it; where it would be.
    Absent(Target),
    /// Its kind is not served, or cannot own this object: nothing can be concluded.
    Unknown,
}

#[derive(Debug, Clone)]
pub struct World {
    pub item: Arc<GraphNode>,
    pub owners: Vec<(OwnerReference, Owner)>,
    pub dependents: Vec<Arc<GraphNode>>,
}

/// Keys are uids.
pub struct GarbageCollector;

impl Controller for GarbageCollector {
    type World = World;
    const NAME: &'static str = "garbage-collector-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        caches.graph().world(&key.name)
    }

    fn reconcile(&self, world: &World, _: &Context) -> Plan {
        if world.item.terminating {
            finish(world)
        } else {
            collect(world)
        }
    }
}

fn target(item: &GraphNode) -> Target {
    Target {
        resource: item.resource.clone(),
        key: item.key.clone(),
        uid: item.uid.clone(),
        resource_version: Some(item.resource_version.clone()),
    }
}

fn set_owners(item: &GraphNode, owners: Vec<&OwnerReference>) -> Action {
    let owners = if owners.is_empty() { Value::Null } else { json!(owners) };
    Action::patch(target(item), json!({"metadata": {"ownerReferences": owners}}))
}

fn remove_finalizer(item: &GraphNode, finalizer: &str) -> Action {
    let rest: Vec<&String> = item.finalizers.iter().filter(|one| *one != finalizer).collect();
    let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
    Action::patch(target(item), json!({"metadata": {"finalizers": rest}}))
}

/// An owner on its way out: what does its deletion policy ask for?
fn finish(world: &World) -> Plan {
    let item = &world.item;
    let mut plan = Plan::default();
    if item.has_finalizer(ORPHAN) {
        for dependent in &world.dependents {
            let rest = dependent.owners.iter().filter(|owner| owner.uid != item.uid).collect();
            plan.actions.push(set_owners(dependent, rest));
        }
        plan.actions.push(remove_finalizer(item, ORPHAN));
        plan.report = Report::Changing("dependents are orphaned".into());
    } else if item.has_finalizer(FOREGROUND) {
        let blocks = |dependent: &&Arc<GraphNode>| {
            dependent
                .owners
                .iter()
                .any(|owner| owner.uid == item.uid && owner.block_owner_deletion == Some(true))
        };
        match world.dependents.iter().filter(blocks).count() {
            0 => {
                plan.actions.push(remove_finalizer(item, FOREGROUND));
                plan.report = Report::Changing("nothing blocks the deletion".into());
            }
            blocking => plan.report = Report::WaitingOn(format!("{blocking} dependents")),
        }
    }
    plan
}

/// An object with owners: is one of them left?
fn collect(world: &World) -> Plan {
    let mut plan = Plan::default();
    let of = |wanted: fn(&Owner) -> bool| world.owners.iter().filter(move |(_, owner)| wanted(owner));
    if world.owners.is_empty() || of(|owner| *owner == Owner::Unknown).next().is_some() {
        return plan;
    }
    let solid: Vec<&OwnerReference> = of(|owner| *owner == Owner::Solid)
        .map(|(reference, _)| reference)
        .collect();
    let waiting = of(|owner| *owner == Owner::Waiting).count();
    // Once gone, nothing comes back: what the graph does not show is asked for first.
    plan.actions
        .extend(world.owners.iter().filter_map(|(_, owner)| match owner {
            Owner::Absent(target) => Some(Action::ConfirmAbsent { target: target.clone() }),
            _ => None,
        }));
    if !solid.is_empty() {
        if plan.actions.is_empty() && waiting == 0 {
            return plan;
        }
        plan.actions.push(set_owners(&world.item, solid));
        plan.report = Report::Changing("owners that are gone are taken off".into());
        return plan;
    }
    // With an owner that waits, what depends on this object in turn must go before it does.
    let propagation = if waiting > 0 && !world.dependents.is_empty() {
        "Foreground"
    } else if world.item.has_finalizer(ORPHAN) {
        "Orphan"
    } else if world.item.has_finalizer(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    plan.actions.push(Action::Delete {
        target: target(&world.item),
        options: DeleteOptions {
            propagation: Some(propagation),
            grace_period_seconds: None,
        },
        outcome: Box::default(),
    });
    plan.report = Report::Changing("its owners are gone".into());
    plan
}

/// Which resource an owner reference names; `None` if its kind is not served.
fn resource_of(reference: &OwnerReference, served: &[Resource]) -> Option<Resource> {
    let group = |api_version: &str| {
        api_version
            .rsplit_once('/')
            .map_or(String::new(), |(group, _)| group.to_owned())
    };
    let wanted = group(&reference.api_version);
    served
        .iter()
        .find(|one| one.kind == reference.kind && group(&one.api_version) == wanted)
        .cloned()
}

#[cfg(test)]
mod tests;
