//! Job: pods until enough of them have succeeded, each counted exactly once.

mod facts;
mod failure;
mod indexes;
mod manage;
mod orphans;
mod status;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

pub use orphans::JobOrphansController;
pub(crate) use verdict::finished;

use self::facts::{Facts, is_tracked};
use self::verdict::Verdict;
use crate::adoption::{self, Claim};
use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::plan::{Action, DeleteOptions, EventDraft, ObjectKey, Plan, Regarding, Report, Resource, Target};
use crate::pods;

/// The finalizer that keeps a pod until it is counted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label: which of an Indexed Job's completions the pod is for.
pub(crate) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotations: how often earlier pods of the same index have failed.
pub(crate) const FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";
pub(crate) const IGNORED_FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// Who looks after a Job that says nothing else in `managedBy`.
const CONTROLLER: &str = "kubernetes.io/job-controller";

/// Everything a Job's plan may look at.
#[derive(Debug, Clone)]
pub struct World {
    pub job: Arc<Job>,
    /// Its own pods and the namespace's orphans.
    pub pods: Vec<Arc<Pod>>,
}

pub struct JobController;

impl Controller for JobController {
    type World = World;
    const NAME: &'static str = "job-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let job = caches.jobs.read().get(key)?;
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let all = caches.pods.read();
        let mut pods = all.owned_by(&uid);
        pods.extend(all.orphans_in(&key.namespace));
        Some(World { job, pods })
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        reconcile(world, ctx)
    }
}

fn reconcile(world: &World, ctx: &Context) -> Plan {
    let job = &*world.job;
    let Some(spec) = &job.spec else {
        return Plan::waiting_on("spec");
    };
    if spec.managed_by.as_deref().is_some_and(|manager| manager != CONTROLLER) {
        let mut plan = Plan::waiting_on("another controller");
        expire(job, spec, ctx, &mut plan);
        return plan;
    }
    let (own, claims) = claim(world, spec);
    if finished(job).is_some() {
        return after_the_end(job, spec, &own, ctx);
    }
    if !claims.is_empty() {
        return Plan {
            actions: claims,
            report: Report::Changing("pods adopted or released".into()),
            ..Plan::default()
        };
    }
    run(job, spec, own, ctx)
}

/// A Job that has not ended.
fn run(job: &Job, spec: &JobSpec, own: Vec<&Arc<Pod>>, ctx: &Context) -> Plan {
    let empty = JobStatus::default();
    let old = job.status.as_ref().unwrap_or(&empty);
    let announced = Verdict::announced(old);
    let mut facts = Facts::gather(
        spec,
        old,
        own,
        announced.as_ref().is_some_and(|verdict| !verdict.success),
    );
    let verdict = announced.or_else(|| Verdict::reach(job, spec, &facts, ctx.now));
    if verdict.as_ref().is_some_and(|verdict| !verdict.success) {
        facts = Facts::gather(spec, old, facts.pods, true);
    }
    let mut plan = Plan::default();
    if verdict.is_some() {
        plan.report = Report::Changing("the Job ends".to_owned());
        plan.actions
            .extend(facts.active.iter().map(|pod| manage::delete(job, pod)));
    } else if job.metadata.deletion_timestamp.is_none() {
        manage::manage(job, spec, &facts, ctx, &mut plan);
        if let Some(left) = verdict::time_left(job, spec, ctx.now) {
            plan.requeue_within(left);
        } else if let Some(deadline) = spec.active_deadline_seconds.filter(|_| !verdict::is_suspended(spec)) {
            plan.requeue_within(Duration::from_secs(u64::try_from(deadline).unwrap_or(0)));
        }
    }
    let ending = verdict.is_some() || job.metadata.deletion_timestamp.is_some();
    let release: Vec<Action> = facts
        .to_release(spec, ending)
        .into_iter()
        .map(|pod| untrack(pod))
        .collect();
    let (succeeded, failed) = facts.uncounted();
    let quiet = facts.active.is_empty() && facts.terminating == 0 && succeeded.is_empty() && failed.is_empty();
    let over = quiet && !facts.pods.iter().any(|pod| is_tracked(pod));
    let wanted = status::wanted(job, spec, &facts, verdict.as_ref(), over, ctx.now);
    let too_many = over && spec.completions.is_some_and(|wanted| facts.succeeded() > wanted);
    let write = status::patch(job, wanted);
    if release.is_empty() {
        plan.status = write;
    } else {
        // A pod is let go only when the status has noted it.
        let rest = std::mem::take(&mut plan.actions);
        plan.actions = write.into_iter().chain(release).chain(rest).collect();
    }
    if too_many && plan.status.is_some() {
        let message = "Too many succeeded pods running after completion count reached".to_owned();
        plan.actions
            .push(Action::Event(event(job, true, "TooManySucceededPods", message)));
    }
    plan
}

/// The Job's pods, and what is to be done first with those that are not.
fn claim<'a>(world: &'a World, spec: &JobSpec) -> (Vec<&'a Arc<Pod>>, Vec<Action>) {
    let meta = &world.job.metadata;
    let (mut own, mut actions) = (Vec::new(), Vec::new());
    let Some(selector) = &spec.selector else {
        return (own, actions);
    };
    for pod in &world.pods {
        match adoption::claim(meta, selector, &pod.metadata) {
            Claim::Keep => own.push(pod),
            Claim::Adopt if pods::is_active(pod) => {
                // One patch: a pod that was ours before it is tracked could end, or be deleted, uncounted.
                let mut references = pod.metadata.owner_references.clone().unwrap_or_default();
                references.push(adoption::reference(&Resource::JOB, meta));
                let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
                if !is_tracked(pod) {
                    finalizers.push(TRACKING.to_owned());
                }
                let change = json!({"metadata": {"ownerReferences": references, "finalizers": finalizers}});
                actions.push(Action::patch(Target::exact(Resource::POD, &pod.metadata), change));
            }
            Claim::Release => {
                let uid = meta.uid.as_deref().unwrap_or("");
                actions.push(adoption::release(Resource::POD, &pod.metadata, uid));
            }
            Claim::Adopt | Claim::Ignore => {}
        }
    }
    (own, actions)
}

/// Takes the finalizer off a pod.
fn untrack(pod: &Pod) -> Action {
    let left: Vec<&String> = pod
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|one| *one != TRACKING)
        .collect();
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    Action::patch(
        Target::exact(Resource::POD, &pod.metadata),
        json!({"metadata": {"finalizers": left}}),
    )
}

/// Nothing is left to do but to let go of pods, and of the Job itself.
fn after_the_end(job: &Job, spec: &JobSpec, own: &[&Arc<Pod>], ctx: &Context) -> Plan {
    let mut plan = Plan {
        actions: own
            .iter()
            .filter(|pod| is_tracked(pod))
            .map(|pod| untrack(pod))
            .collect(),
        ..Plan::default()
    };
    expire(job, spec, ctx, &mut plan);
    plan
}

/// Deletes a Job whose time to live after its end is over, whoever manages it: in Kubernetes a controller of its own does.
fn expire(job: &Job, spec: &JobSpec, ctx: &Context, plan: &mut Plan) {
    let ended = finished(job).and_then(|condition| condition.last_transition_time.as_ref());
    if let (Some(ttl), Some(ended), None) = (spec.ttl_seconds_after_finished, ended, &job.metadata.deletion_timestamp) {
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let passed = Duration::try_from(ctx.now.duration_since(ended.0)).unwrap_or(Duration::ZERO);
        match ttl.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => plan.requeue_within(left),
            None => {
                plan.report = Report::Changing("the Job's time to live is over".to_owned());
                plan.actions.push(Action::Delete {
                    target: Target::exact(Resource::JOB, &job.metadata),
                    options: DeleteOptions {
                        propagation: Some("Foreground"),
                        ..DeleteOptions::default()
                    },
                    outcome: Box::default(),
                });
            }
        }
    }
}

fn event(job: &Job, warning: bool, reason: &'static str, message: String) -> EventDraft {
    EventDraft {
        regarding: Regarding::of(&Resource::JOB, &job.metadata),
        warning,
        reason,
        message,
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
