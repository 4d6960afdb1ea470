//! A Job's status: counts, conditions, and the patch that makes it true.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use serde_json::{Value, json};

use super::event;
use super::facts::Facts;
use super::verdict::{Verdict, is_suspended};
use crate::conditions::whole_second;
use crate::plan::{Action, EventDraft, Resource, Target};

const SUSPENDED: &str = "Suspended";

/// The status that is to be, and the Event that its writing is worth.
pub(super) struct Wanted {
    pub(super) status: JobStatus,
    pub(super) event: Option<EventDraft>,
}

/// `over`: all pods are gone or counted, so that the verdict can be confirmed.
pub(super) fn wanted(
    job: &Job,
    spec: &JobSpec,
    facts: &Facts<'_>,
    verdict: Option<&Verdict>,
    over: bool,
    now: Timestamp,
) -> Wanted {
    let mut status = job.status.clone().unwrap_or_default();
    let mut event = None;
    if status.start_time.is_none() && !is_suspended(spec) {
        status.start_time = Some(whole_second(now));
    }
    counts(&mut status, spec, facts);
    match verdict {
        Some(verdict) => {
            let (announced, confirmed) = verdict.conditions();
            add(&mut status, announced, &verdict.reason, &verdict.message, now);
            if over {
                add(&mut status, confirmed, &verdict.reason, &verdict.message, now);
                if verdict.success {
                    status.completion_time = Some(whole_second(now));
                }
                event = Some(end_event(job, verdict));
            }
        }
        None if job.metadata.deletion_timestamp.is_none() => event = suspension(&mut status, job, spec, now),
        None => {}
    }
    Wanted { status, event }
}

fn counts(status: &mut JobStatus, spec: &JobSpec, facts: &Facts<'_>) {
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    status.active = some(i32::try_from(facts.active.len()).unwrap_or(i32::MAX));
    status.ready = Some(facts.ready);
    status.terminating = Some(facts.terminating);
    status.succeeded = some(facts.counted_succeeded);
    status.failed = some(facts.counted_failed);
    let list = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
    let (succeeded, failed) = facts.uncounted();
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
        succeeded: list(succeeded),
        failed: list(failed),
    });
    if spec.completion_mode.as_deref() == Some("Indexed") {
        status.completed_indexes = Some(facts.succeeded_indexes.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = spec.backoff_limit_per_index.map(|_| facts.failed_indexes.to_string());
    }
}

fn end_event(job: &Job, verdict: &Verdict) -> EventDraft {
    if verdict.success {
        event(job, false, "Completed", "Job completed".to_owned())
    } else {
        let reason = match verdict.reason.as_str() {
            "BackoffLimitExceeded" => "BackoffLimitExceeded",
            "DeadlineExceeded" => "DeadlineExceeded",
            "FailedIndexes" => "FailedIndexes",
            "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
            _ => "PodFailurePolicy",
        };
        event(job, true, reason, verdict.message.clone())
    }
}

/// A Job that has never been suspended carries no such condition.
fn suspension(status: &mut JobStatus, job: &Job, spec: &JobSpec, now: Timestamp) -> Option<EventDraft> {
    let suspend = is_suspended(spec);
    let conditions = status.conditions.get_or_insert_default();
    let existing = conditions.iter_mut().find(|condition| condition.type_ == SUSPENDED);
    let (value, reason, message) = if suspend {
        ("True", "JobSuspended", "Job suspended")
    } else {
        ("False", "JobResumed", "Job resumed")
    };
    let changed = match existing {
        Some(condition) if condition.status == value => false,
        Some(condition) => {
            *condition = new_condition(SUSPENDED, value, reason, message, now);
            true
        }
        None if suspend => {
            conditions.push(new_condition(SUSPENDED, value, reason, message, now));
            true
        }
        None => false,
    };
    if conditions.is_empty() {
        status.conditions = None;
    }
    if changed && !suspend {
        // The deadline counts from here.
        status.start_time = Some(whole_second(now));
    }
    let word = if suspend { "Suspended" } else { "Resumed" };
    changed.then(|| event(job, false, word, message.to_owned()))
}

fn add(status: &mut JobStatus, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    if !conditions
        .iter()
        .any(|condition| condition.type_ == kind && condition.status == "True")
    {
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(new_condition(kind, "True", reason, message, now));
    }
}

fn new_condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(whole_second(now)),
        last_transition_time: Some(whole_second(now)),
    }
}

/// The patch from the status that is to the one that is to be; none if they are one.
pub(super) fn patch(job: &Job, wanted: Wanted) -> Option<Action> {
    let old = job.status.as_ref().map_or_else(|| json!({}), |status| json!(status));
    let difference = difference(&old, &json!(wanted.status))?;
    let target = Target::exact(Resource::JOB, &job.metadata);
    let patch = Action::patch_status(target, json!({"status": difference}));
    Some(match wanted.event {
        Some(event) => patch.then(event),
        None => patch,
    })
}

/// A JSON merge patch from one value to another.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let gone = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let mut changes: serde_json::Map<String, Value> = gone.collect();
    for (key, value) in after {
        match before.get(key) {
            Some(was) => {
                if let Some(change) = difference(was, value) {
                    changes.insert(key.clone(), change);
                }
            }
            None => {
                changes.insert(key.clone(), value.clone());
            }
        }
    }
    (!changes.is_empty()).then_some(Value::Object(changes))
}
