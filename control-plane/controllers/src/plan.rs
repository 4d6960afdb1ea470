//! What a controller decided: a plan of actions, a status to write, when to look again, and why.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// The most objects that one plan creates; the rest follows in the next plan (Kubernetes' burst of the ReplicaSet
/// controller).
pub const CREATES_PER_PLAN_MAX: usize = 500;

/// Namespace and name; the namespace is empty for cluster-scoped objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectKey {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub fn cluster(name: impl Into<String>) -> Self {
        ObjectKey::new("", name)
    }

    pub fn of(meta: &ObjectMeta) -> Self {
        ObjectKey::new(
            meta.namespace.as_deref().unwrap_or(""),
            meta.name.as_deref().unwrap_or(""),
        )
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A served resource: enough to build a request path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// `v1`, `apps/v1`.
    pub api_version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub namespaced: bool,
}

impl Resource {
    const fn fixed(api_version: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Self {
        Resource {
            api_version: Cow::Borrowed(api_version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced,
        }
    }
    pub const POD: Resource = Resource::fixed("v1", "Pod", "pods", true);
    pub const NODE: Resource = Resource::fixed("v1", "Node", "nodes", false);
    pub const NAMESPACE: Resource = Resource::fixed("v1", "Namespace", "namespaces", false);
    pub const SERVICE_ACCOUNT: Resource = Resource::fixed("v1", "ServiceAccount", "serviceaccounts", true);
    pub const CONFIG_MAP: Resource = Resource::fixed("v1", "ConfigMap", "configmaps", true);
    pub const EVENT: Resource = Resource::fixed("v1", "Event", "events", true);
    pub const DEPLOYMENT: Resource = Resource::fixed("apps/v1", "Deployment", "deployments", true);
    pub const JOB: Resource = Resource::fixed("batch/v1", "Job", "jobs", true);
    pub const CRON_JOB: Resource = Resource::fixed("batch/v1", "CronJob", "cronjobs", true);
    pub const REPLICA_SET: Resource = Resource::fixed("apps/v1", "ReplicaSet", "replicasets", true);
}

/// One object, and in which state the action is still wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub resource: Resource,
    pub key: ObjectKey,
    /// Precondition; empty: none.
    pub uid: String,
    /// Precondition; absent: any version.
    pub resource_version: Option<String>,
}

impl Target {
    /// This very version of the object.
    pub fn exact(resource: Resource, meta: &ObjectMeta) -> Self {
        Target {
            resource_version: meta.resource_version.clone(),
            ..Target::any_version(resource, meta)
        }
    }

    /// This object, whatever its version.
    pub fn any_version(resource: Resource, meta: &ObjectMeta) -> Self {
        Target {
            resource,
            key: ObjectKey::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: None,
        }
    }
}

/// An Event to record, in the words of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDraft {
    pub regarding: Regarding,
    pub warning: bool,
    pub reason: &'static str,
    /// In an action's `on_failure`, `{error}` stands for the error's text.
    pub message: String,
}

/// The object that an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regarding {
    pub api_version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

impl Regarding {
    pub fn of(resource: &Resource, meta: &ObjectMeta) -> Self {
        Regarding {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// The Events that follow an action, one or the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub on_success: Option<EventDraft>,
    pub on_failure: Option<EventDraft>,
}

/// `DeleteOptions`, the part that controllers use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `Background`, `Foreground` or `Orphan`; absent: the resource's default.
    pub propagation: Option<&'static str>,
    pub grace_period_seconds: Option<i64>,
}

/// The closed list of what a controller can do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Creates a complete object. A name that the same owner already holds counts as done.
    Create {
        resource: Resource,
        object: Box<Value>,
        outcome: Box<Outcome>,
    },
    /// JSON merge patch of the object, or of a subresource when that is not empty.
    Patch {
        target: Target,
        subresource: &'static str,
        patch: Box<Value>,
        outcome: Box<Outcome>,
    },
    /// Deletes; an object that is gone already counts as done.
    Delete {
        target: Target,
        options: DeleteOptions,
        outcome: Box<Outcome>,
    },
    /// Posts the object itself to its subresource `finalize` with these `spec.finalizers` left (namespaces only).
    Finalize { target: Target, finalizers: Vec<String> },
    /// Fails, and ends the plan, if the object is there with this uid: caches can be behind, and what follows cannot be
    /// taken back.
    ConfirmAbsent { target: Target },
    /// Records an Event by itself.
    Event(EventDraft),
}

impl Action {
    pub fn create(resource: Resource, object: Value) -> Action {
        Action::Create {
            resource,
            object: Box::new(object),
            outcome: Box::default(),
        }
    }
    pub fn patch(target: Target, patch: Value) -> Action {
        Action::Patch {
            target,
            subresource: "",
            patch: Box::new(patch),
            outcome: Box::default(),
        }
    }
    pub fn patch_status(target: Target, patch: Value) -> Action {
        Action::Patch {
            target,
            subresource: "status",
            patch: Box::new(patch),
            outcome: Box::default(),
        }
    }
    /// Deletes at once, without a grace period.
    pub fn delete_now(target: Target) -> Action {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        Action::Delete {
            target,
            options,
            outcome: Box::default(),
        }
    }
    pub fn delete(target: Target) -> Action {
        Action::Delete {
            target,
            options: DeleteOptions::default(),
            outcome: Box::default(),
        }
    }

    /// The Event to record once the action has succeeded.
    #[must_use]
    pub fn then(mut self, event: EventDraft) -> Action {
        if let Some(outcome) = self.outcome_mut() {
            outcome.on_success = Some(event);
        }
        self
    }

    /// The Event to record when the action has failed.
    #[must_use]
    pub fn or_else(mut self, event: EventDraft) -> Action {
        if let Some(outcome) = self.outcome_mut() {
            outcome.on_failure = Some(event);
        }
        self
    }

    fn outcome_mut(&mut self) -> Option<&mut Outcome> {
        match self {
            Action::Create { outcome, .. } | Action::Patch { outcome, .. } | Action::Delete { outcome, .. } => {
                Some(outcome)
            }
            Action::Finalize { .. } | Action::ConfirmAbsent { .. } | Action::Event(_) => None,
        }
    }
}

/// Why the plan is as it is; logged by the runner and asserted by tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Report {
    /// Nothing to do.
    #[default]
    Settled,
    TooFew {
        have: usize,
        want: usize,
    },
    TooMany {
        have: usize,
        want: usize,
    },
    /// Acting, with the reason in words.
    Changing(String),
    /// Not able to act yet, with what is missing.
    WaitingOn(String),
}

/// A decision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In order; the first failure ends the plan.
    pub actions: Vec<Action>,
    /// Written after the actions: a patch of the subresource `status`.
    pub status: Option<Action>,
    pub requeue_after: Option<Duration>,
    pub report: Report,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.status.is_none()
    }

    pub fn waiting_on(what: impl Into<String>) -> Plan {
        Plan {
            report: Report::WaitingOn(what.into()),
            ..Plan::default()
        }
    }

    /// Looks again after `delay`, or earlier if that was asked already.
    pub fn requeue_within(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |already| already.min(delay)));
    }
}
