//! Pods whose Job is gone: nobody will count them any more, so their finalizer goes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::facts::is_tracked;
use super::untrack;
use crate::caches::{Caches, controller_of};
use crate::controller::{Context, Controller};
use crate::plan::{Action, ObjectKey, Plan, Report, Resource, Target};

/// A pod with the finalizer whose Job the cache does not know.
#[derive(Debug, Clone)]
pub struct World {
    pub pod: Arc<Pod>,
    /// The Job that it names.
    pub job: Option<Target>,
}

/// Its keys are those of pods.
pub struct JobOrphansController;

impl JobOrphansController {
    /// Whether the pod may be one of those.
    pub fn concerns(caches: &Caches, pod: &Pod) -> bool {
        is_tracked(pod) && job_of(caches, pod).is_some()
    }
}

/// `Some(None)`: the pod names no Job. `None`: it has one, or belongs to someone else.
fn job_of(caches: &Caches, pod: &Pod) -> Option<Option<Target>> {
    let Some(owner) = controller_of(&pod.metadata) else {
        return Some(None);
    };
    if owner.kind != "Job" {
        return None;
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let key = ObjectKey::new(namespace, owner.name.clone());
    let job = caches.jobs.read().get(&key);
    if job.is_some_and(|job| job.metadata.uid.as_ref() == Some(&owner.uid)) {
        return None;
    }
    Some(Some(Target {
        resource: Resource::JOB,
        key,
        uid: owner.uid.clone(),
        resource_version: None,
    }))
}

impl Controller for JobOrphansController {
    type World = World;
    const NAME: &'static str = "job-orphans-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let pod = caches.pods.read().get(key).filter(|pod| is_tracked(pod))?;
        let job = job_of(caches, &pod)?;
        Some(World { pod, job })
    }

    fn reconcile(&self, world: &World, _ctx: &Context) -> Plan {
        // The cache of Jobs may be behind that of pods.
        let confirm = world.job.clone().map(|target| Action::ConfirmAbsent { target });
        Plan {
            actions: confirm.into_iter().chain([untrack(&world.pod)]).collect(),
            report: Report::Changing("the pod's Job is gone".to_owned()),
            ..Plan::default()
        }
    }
}
