//! A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure in Kubernetes' words.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use serde_json::{Value, json};

use super::annotations::{REVISION, get};
use super::rollout::Rollout;
use crate::conditions::{omit_zero, whole_second};
use crate::controller::Context;
use crate::plan::{Action, Plan, Resource, Target};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
/// `progressDeadlineSeconds` at this value means "no deadline".
const NO_DEADLINE: i32 = i32::MAX;

/// What this plan found out about the new set, for the condition Progressing.
#[derive(Debug, Default)]
pub(super) struct Progress {
    found: Option<String>,
    created: Option<String>,
}

impl Progress {
    pub(super) fn found(&mut self, name: String) {
        self.found = Some(name);
    }
    pub(super) fn created(&mut self, name: String) {
        self.created = Some(name);
    }
}

/// Marks the generation as seen and nothing else.
pub(super) fn observe_generation(deployment: &Deployment) -> Option<Action> {
    let patch = json!({"status": {"observedGeneration": deployment.metadata.generation}});
    Some(Action::patch_status(
        Target::exact(Resource::DEPLOYMENT, &deployment.metadata),
        patch,
    ))
}

/// The plan for a Deployment that is going away: counts only.
pub(super) fn only(rollout: &Rollout<'_>, ctx: &Context) -> Plan {
    let mut plan = Plan::default();
    let new = counted(rollout, ctx.now);
    write(rollout, new, &mut plan);
    plan
}

/// Everything of the current template, and everything serves.
pub(super) fn is_complete(rollout: &Rollout<'_>) -> bool {
    complete(rollout, &counts(rollout))
}

fn complete(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    let want = Some(rollout.replicas());
    status.updated_replicas == want && status.replicas == want && status.available_replicas == want
}

fn counts(rollout: &Rollout<'_>) -> DeploymentStatus {
    let sum = |of: &dyn Fn(&super::rollout::Draft) -> i32| rollout.sets.iter().map(of).sum::<i32>();
    let available = sum(&super::rollout::Draft::available);
    let ready = sum(&|draft| {
        draft
            .set
            .status
            .as_ref()
            .and_then(|status| status.ready_replicas)
            .unwrap_or(0)
    });
    let terminating = rollout
        .sets
        .iter()
        .map(|draft| draft.set.status.as_ref().and_then(|status| status.terminating_replicas))
        .sum::<Option<i32>>();
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: Some(sum(&super::rollout::Draft::actual)),
        updated_replicas: Some(rollout.new.map_or(0, |index| rollout.sets[index].actual())),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        unavailable_replicas: Some((rollout.total_replicas() - available).max(0)),
        terminating_replicas: terminating,
        collision_count: rollout
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
        conditions: rollout
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone()),
    }
}

fn counted(rollout: &Rollout<'_>, now: Timestamp) -> DeploymentStatus {
    let mut status = counts(rollout);
    let enough = status.available_replicas.unwrap_or(0) >= rollout.replicas() - rollout.max_unavailable();
    let (value, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set_condition(&mut status, AVAILABLE, value, reason, message.to_owned(), now);
    status
}

/// Completes the plan with the status patch and the next look.
pub(super) fn add(rollout: &Rollout<'_>, collided: bool, plan: &mut Plan, ctx: &Context) {
    let mut status = counted(rollout, ctx.now);
    if collided {
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    }
    if rollout.spec.paused == Some(true) || has_been_paused(rollout, &status) {
        paused_conditions(rollout, &mut status, ctx.now);
    }
    if rollout.spec.paused != Some(true) {
        progress_conditions(rollout, &mut status, ctx.now);
    }
    failure_condition(rollout, &mut status, ctx.now);
    if let Some(wait) = until_deadline(rollout, &status, ctx.now) {
        plan.requeue_within(wait);
    }
    write(rollout, status, plan);
}

fn deadline(rollout: &Rollout<'_>) -> Option<i32> {
    rollout
        .spec
        .progress_deadline_seconds
        .filter(|seconds| *seconds != NO_DEADLINE)
}

fn has_been_paused(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    rollout.spec.paused != Some(true)
        && condition(status, PROGRESSING).is_some_and(|one| one.reason.as_deref() == Some(PAUSED))
}

fn paused_conditions(rollout: &Rollout<'_>, status: &mut DeploymentStatus, now: Timestamp) {
    let reason = condition(status, PROGRESSING).and_then(|one| one.reason.clone());
    if deadline(rollout).is_none() || reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    if rollout.spec.paused == Some(true) {
        set_condition(
            status,
            PROGRESSING,
            "Unknown",
            PAUSED,
            "Deployment is paused".to_owned(),
            now,
        );
    } else {
        let message = "Deployment is resumed".to_owned();
        set_condition(status, PROGRESSING, "Unknown", "DeploymentResumed", message, now);
    }
}

fn progress_conditions(rollout: &Rollout<'_>, status: &mut DeploymentStatus, now: Timestamp) {
    let Some(seconds) = deadline(rollout) else {
        remove_condition(status, PROGRESSING);
        return;
    };
    if let Some(name) = &rollout.progress.created {
        let message = format!("Created new replica set {name:?}");
        set_condition(status, PROGRESSING, "True", "NewReplicaSetCreated", message, now);
        return;
    }
    if let Some(name) = rollout
        .progress
        .found
        .as_ref()
        .filter(|_| condition(status, PROGRESSING).is_none())
    {
        let message = format!("Found new replica set {name:?}");
        set_condition(status, PROGRESSING, "True", "FoundNewReplicaSet", message, now);
    }
    let current = condition(status, PROGRESSING).cloned();
    let done_before = current
        .as_ref()
        .is_some_and(|one| one.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if status.replicas == status.updated_replicas && done_before {
        return;
    }
    let subject = match rollout.new {
        Some(index) => format!("ReplicaSet {:?}", rollout.sets[index].name()),
        None => format!(
            "Deployment {:?}",
            rollout.deployment.metadata.name.as_deref().unwrap_or("")
        ),
    };
    if complete(rollout, status) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(status, PROGRESSING, "True", NEW_SET_AVAILABLE, message, now);
    } else if is_progressing(rollout, status) {
        remove_condition(status, PROGRESSING);
        let message = format!("{subject} is progressing.");
        set_condition(status, PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        let kept = current
            .filter(|one| one.status == "True")
            .and_then(|one| one.last_transition_time);
        if let (Some(kept), Some(new)) = (kept, condition_mut(status, PROGRESSING)) {
            new.last_transition_time = Some(kept);
        }
    } else if has_timed_out(current.as_ref(), seconds, now) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(status, PROGRESSING, "False", TIMED_OUT, message, now);
    }
}

fn is_progressing(rollout: &Rollout<'_>, new: &DeploymentStatus) -> bool {
    let empty = DeploymentStatus::default();
    let old = rollout.deployment.status.as_ref().unwrap_or(&empty);
    let n = |value: Option<i32>| value.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| n(status.replicas) - n(status.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

fn has_timed_out(current: Option<&DeploymentCondition>, seconds: i32, now: Timestamp) -> bool {
    let Some(current) = current else { return false };
    match current.reason.as_deref() {
        // A finished rollout does not time out because a pod fails later.
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => current
            .last_update_time
            .as_ref()
            .is_some_and(|since| now.as_second() - since.0.as_second() > i64::from(seconds)),
    }
}

/// When a rollout that stands still must be looked at again.
fn until_deadline(rollout: &Rollout<'_>, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let seconds = deadline(rollout)?;
    let current = condition(status, PROGRESSING)?;
    let over = matches!(current.reason.as_deref(), Some(TIMED_OUT | NEW_SET_AVAILABLE | PAUSED));
    if over || complete(rollout, status) {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0.as_second();
    let left = since + i64::from(seconds) + 1 - now.as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)))
}

fn failure_condition(rollout: &Rollout<'_>, status: &mut DeploymentStatus, now: Timestamp) {
    let of = |index: usize| {
        let set = &rollout.sets[index].set;
        set.status
            .as_ref()?
            .conditions
            .as_ref()?
            .iter()
            .find(|one| one.type_ == REPLICA_FAILURE)
    };
    let newest_first = rollout.new.into_iter().chain(rollout.old());
    match newest_first.filter_map(of).next() {
        Some(failure) => {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            set_condition(
                status,
                REPLICA_FAILURE,
                &failure.status,
                &text(&failure.reason),
                text(&failure.message),
                now,
            );
        }
        None => remove_condition(status, REPLICA_FAILURE),
    }
}

fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|one| one.type_ == kind)
}

fn condition_mut<'a>(status: &'a mut DeploymentStatus, kind: &str) -> Option<&'a mut DeploymentCondition> {
    status.conditions.iter_mut().flatten().find(|one| one.type_ == kind)
}

fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(list) = &mut status.conditions {
        list.retain(|one| one.type_ != kind);
    }
}

/// Sets a condition; one with the same status and reason stays as it is, times included.
fn set_condition(s: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let current = condition(s, kind);
    if current.is_some_and(|one| one.status == value && one.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = current
        .filter(|one| one.status == value)
        .and_then(|one| one.last_transition_time.clone());
    remove_condition(s, kind);
    s.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(whole_second(now)),
        last_transition_time: Some(since.unwrap_or_else(|| whole_second(now))),
    });
}

fn write(rollout: &Rollout<'_>, new: DeploymentStatus, plan: &mut Plan) {
    let empty = DeploymentStatus::default();
    let old = rollout.deployment.status.as_ref().unwrap_or(&empty);
    let shown = |status: &DeploymentStatus| {
        let number = |value: Option<i32>| omit_zero(value.unwrap_or(0));
        json!({
            "observedGeneration": status.observed_generation,
            "replicas": number(status.replicas),
            "updatedReplicas": number(status.updated_replicas),
            "readyReplicas": number(status.ready_replicas),
            "availableReplicas": number(status.available_replicas),
            "unavailableReplicas": number(status.unavailable_replicas),
            "terminatingReplicas": status.terminating_replicas,
            "collisionCount": status.collision_count,
            "conditions": status.conditions.as_ref().filter(|list| !list.is_empty()).map_or(Value::Null, |list| json!(list)),
        })
    };
    let (before, after) = (shown(old), shown(&new));
    let meta = &rollout.deployment.metadata;
    let mut patch = json!({});
    if before != after {
        patch["status"] = after;
    }
    // Annotations travel with the status: written to the object itself they would make a new generation of it.
    if let Some(revision) = rollout
        .deployment_revision
        .as_deref()
        .filter(|new| get(meta, REVISION) != Some(new))
    {
        patch["metadata"] = json!({"annotations": {REVISION: revision}});
    }
    if patch != json!({}) {
        plan.status = Some(Action::patch_status(
            Target::any_version(Resource::DEPLOYMENT, meta),
            patch,
        ));
    }
}
