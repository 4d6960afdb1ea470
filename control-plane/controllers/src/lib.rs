//! The controllers, pure: each is a function from what the caches show to a plan of what to do next.
//!
//! **Invariant:** no IO, no clocks, no randomness, no async. The same world gives the same plan, order included.
//! **Invariant:** every action is safe to repeat and safe when stale: preconditions, deterministic names, bounded lists.
//!
//! Reading order: `controller` (the trait), `plan` (what a decision may be), `caches` (what it may look at), then any
//! controller; `invariants` says what must hold in any cluster.

mod adoption;
mod caches;
mod conditions;
mod controller;
mod cron_job;
mod deployment;
mod event_expiry;
mod garbage_collector;
mod hash;
mod intake;
pub mod invariants;
mod job;
mod namespace;
mod namespace_defaults;
mod node_ipam;
mod node_lifecycle;
mod plan;
mod pod_gc;
mod pods;
mod replicaset;
mod taint_eviction;

pub use caches::{Cache, Caches, Heartbeats, Indexed, ObjectMap, controller_of};
pub use controller::{Context, Controller, FailedVerb, Failure};
pub use cron_job::CronJobController;
pub use deployment::DeploymentController;
pub use event_expiry::{NAME as EVENT_EXPIRY, sweep as sweep_events};
pub use garbage_collector::{GarbageCollector, Graph, GraphNode};
pub use intake::{trim_metadata, trim_node, trim_pod};
pub use job::{JobController, JobOrphansController};
pub use namespace::{
    Content as NamespaceContent, NAME as NAMESPACE_CONTROLLER, World as NamespaceWorld, concerns as namespace_concerns,
    reconcile as reconcile_namespace,
};
pub use namespace_defaults::{DEFAULT_SERVICE_ACCOUNT, ROOT_CA_MAP, RootCaController, ServiceAccountController};
pub use node_ipam::{Network, NodeIpamController};
pub use node_lifecycle::NodeLifecycleController;
pub use plan::{Action, DeleteOptions, EventDraft, ObjectKey, Outcome, Plan, Regarding, Report, Resource, Target};
pub use pod_gc::PodGcController;
pub use replicaset::ReplicaSetController;
pub use skiff_api::labels::matches as selects;
pub use taint_eviction::{TaintEvictionController, no_execute, tolerates};

#[cfg(test)]
mod second_plans;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
