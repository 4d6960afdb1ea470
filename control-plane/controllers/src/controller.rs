//! The trait that every controller implements, and what it is told besides its world.

use jiff::Timestamp;

use crate::caches::Caches;
use crate::plan::{ObjectKey, Plan};

/// What a decision may depend on besides the world.
#[derive(Debug, Clone)]
pub struct Context {
    pub now: Timestamp,
    /// The failure of this key's last plan, if it failed: conditions such as ReplicaFailure come from it.
    pub failure: Option<Failure>,
}

/// A failed action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub verb: FailedVerb,
    /// As the API server worded it.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedVerb {
    /// The name is taken by an object of someone else.
    CreateCollision,
    Create,
    Patch,
    Delete,
}

/// One controller: reads caches, then decides.
pub trait Controller: Send + Sync + 'static {
    /// Everything that the decision may look at, and nothing else.
    type World: Send;
    /// In logs, and the `component` of its Events, as in Kubernetes.
    const NAME: &'static str;

    /// Reads the caches and decides nothing. `None`: there is nothing to look after under this key.
    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<Self::World>;

    /// Decides everything.
    fn reconcile(&self, world: &Self::World, ctx: &Context) -> Plan;
}
