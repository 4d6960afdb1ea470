//! CronJob: a Job at each of the schedule's times, and not too many old ones.

mod schedule;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use skiff_api::cron::{Schedule, time_zone};

use self::schedule::Due;
use crate::adoption;
use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::job;
use crate::plan::{Action, DeleteOptions, EventDraft, ObjectKey, Plan, Regarding, Report, Resource, Target};

/// Annotation of a Job: the time that it was made for. A Job without it was made by hand.
const SCHEDULED_FOR: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Everything a CronJob's plan may look at.
#[derive(Debug, Clone)]
pub struct World {
    pub cron_job: Arc<CronJob>,
    /// The Jobs that it owns.
    pub jobs: Vec<Arc<Job>>,
}

pub struct CronJobController;

impl Controller for CronJobController {
    type World = World;
    const NAME: &'static str = "cronjob-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let cron_job = caches.cron_jobs.read().get(key)?;
        let jobs = caches
            .jobs
            .read()
            .owned_by(cron_job.metadata.uid.as_deref().unwrap_or(""));
        Some(World { cron_job, jobs })
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        reconcile(world, ctx)
    }
}

fn reconcile(world: &World, ctx: &Context) -> Plan {
    let cron_job = &*world.cron_job;
    let spec = &cron_job.spec;
    let mut plan = Plan::default();
    let mut status = cron_job.status.clone().unwrap_or_default();
    follow(world, &mut status, &mut plan);
    if cron_job.metadata.deletion_timestamp.is_none() {
        forget_old(world, spec, &mut plan);
        schedule(world, spec, &mut status, ctx.now, &mut plan);
    }
    if let Some(write) = patch(cron_job, &status) {
        // After a Job is made and not instead: a time is noted as served only when it is.
        plan.actions.push(write);
    }
    plan
}

/// The running Jobs, and the last success, as the status tells them.
fn follow(world: &World, status: &mut CronJobStatus, plan: &mut Plan) {
    let cron_job = &*world.cron_job;
    let uid = |job: &Job| job.metadata.uid.clone();
    let (mut active, mut known) = (Vec::new(), BTreeSet::new());
    for reference in status.active.take().unwrap_or_default() {
        known.insert(reference.uid.clone());
        let name = reference.name.as_deref().unwrap_or("");
        let job = world.jobs.iter().find(|job| uid(job) == reference.uid);
        match job.map(|job| job::finished(job)) {
            Some(None) => active.push(reference),
            Some(Some(condition)) => {
                let message = format!("Saw completed job: {name}, condition: {}", condition.type_);
                plan.actions
                    .push(Action::Event(event(cron_job, false, "SawCompletedJob", message)));
            }
            None => {
                let message = format!("Active job went missing: {name}");
                plan.actions
                    .push(Action::Event(event(cron_job, false, "MissingJob", message)));
            }
        }
    }
    let ours =
        |job: &&Arc<Job>| scheduled_for(job).is_some() && job::finished(job).is_none() && !known.contains(&uid(job));
    active.extend(world.jobs.iter().filter(ours).map(|job| reference(job)));
    status.active = Some(active).filter(|active| !active.is_empty());
    let successes = world
        .jobs
        .iter()
        .filter_map(|job| job.status.as_ref()?.completion_time.clone());
    let last = successes
        .chain(status.last_successful_time.take())
        .max_by_key(|time| time.0);
    status.last_successful_time = last;
}

fn scheduled_for(job: &Job) -> Option<&String> {
    job.metadata.annotations.as_ref()?.get(SCHEDULED_FOR)
}

fn reference(job: &Job) -> ObjectReference {
    let meta = job.metadata.clone();
    ObjectReference {
        api_version: Some(Resource::JOB.api_version.to_string()),
        kind: Some(Resource::JOB.kind.to_string()),
        namespace: meta.namespace,
        name: meta.name,
        uid: meta.uid,
        resource_version: meta.resource_version,
        field_path: None,
    }
}

/// Deletes the oldest finished Jobs beyond the limits.
fn forget_old(world: &World, spec: &CronJobSpec, plan: &mut Plan) {
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    for (kind, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let ended = |job: &&Arc<Job>| job::finished(job).is_some_and(|condition| condition.type_ == kind);
        let mut ended: Vec<&Arc<Job>> = world.jobs.iter().filter(ended).collect();
        let start = |job: &Job| {
            job.status
                .as_ref()
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0)
        };
        ended.sort_by_key(|job| (start(job), job.metadata.name.clone()));
        let surplus = ended.len().saturating_sub(limit);
        let doomed = ended
            .into_iter()
            .take(surplus)
            .filter(|job| job.metadata.deletion_timestamp.is_none());
        plan.actions
            .extend(doomed.map(|job| delete(&world.cron_job, &job.metadata)));
    }
}

/// Makes a Job if one is due, and says when to look again.
fn schedule(world: &World, spec: &CronJobSpec, status: &mut CronJobStatus, now: Timestamp, plan: &mut Plan) {
    let cron_job = &*world.cron_job;
    let mut warn = |reason, message| plan.actions.push(Action::Event(event(cron_job, true, reason, message)));
    let zone = match time_zone(spec.time_zone.as_deref().unwrap_or("")) {
        Ok(zone) => zone,
        Err(error) => {
            let name = spec.time_zone.as_deref().unwrap_or("");
            return warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
        }
    };
    if spec.suspend == Some(true) {
        plan.report = Report::WaitingOn("the end of its suspension".to_owned());
        return;
    }
    let times = match Schedule::parse(&spec.schedule) {
        Ok(times) => times,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            return warn("UnparseableSchedule", message);
        }
    };
    let last = status
        .last_schedule_time
        .as_ref()
        .or(cron_job.metadata.creation_timestamp.as_ref());
    let last = last.map_or(now, |time| time.0);
    if let Some(delay) = schedule::until_next(&times, &zone, last, now) {
        plan.requeue_within(delay);
    }
    let due = Due::at(&times, &zone, last, spec.starting_deadline_seconds, now);
    if due.too_many {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.actions.push(Action::Event(event(
            cron_job,
            true,
            "TooManyMissedTimes",
            message.to_owned(),
        )));
    }
    if let Some(time) = due
        .time
        .filter(|time| Some(*time) != status.last_schedule_time.as_ref().map(|time| time.0))
    {
        start(world, spec, status, time, &zone, plan);
    }
}

fn start(
    world: &World,
    spec: &CronJobSpec,
    status: &mut CronJobStatus,
    time: Timestamp,
    zone: &TimeZone,
    plan: &mut Plan,
) {
    let cron_job = &*world.cron_job;
    let name = job_name(cron_job, time);
    let noted = Some(Time(time));
    if world.jobs.iter().any(|job| job.metadata.name.as_deref() == Some(&name)) {
        // Made already, by a run that did not come to say so.
        status.last_schedule_time = noted;
        return;
    }
    let running = status.active.iter().flatten();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if status.active.is_some() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.report = Report::WaitingOn("the running Job".to_owned());
            plan.actions.push(Action::Event(event(
                cron_job,
                false,
                "JobAlreadyActive",
                message.to_owned(),
            )));
            return;
        }
        Some("Replace") => {
            let doomed = running.filter_map(|one| world.jobs.iter().find(|job| job.metadata.uid == one.uid));
            let deletions: Vec<Action> = doomed.map(|job| delete(cron_job, &job.metadata)).collect();
            plan.actions.extend(deletions);
            status.active = None;
        }
        _ => {}
    }
    plan.report = Report::TooFew { have: 0, want: 1 };
    let made = Action::create(Resource::JOB, job_from_template(cron_job, spec, &name, time, zone))
        .then(event(
            cron_job,
            false,
            "SuccessfulCreate",
            format!("Created job {name}"),
        ))
        .or_else(event(
            cron_job,
            true,
            "FailedCreate",
            "Error creating job: {error}".to_owned(),
        ));
    plan.actions.push(made);
    status.last_schedule_time = noted;
}

/// The name tells the minute, so that a time gets one Job however often it is tried.
fn job_name(cron_job: &CronJob, time: Timestamp) -> String {
    format!(
        "{}-{}",
        cron_job.metadata.name.as_deref().unwrap_or(""),
        time.as_second() / 60
    )
}

fn job_from_template(cron_job: &CronJob, spec: &CronJobSpec, name: &str, time: Timestamp, zone: &TimeZone) -> Value {
    let from = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    let local = time.to_zoned(zone.clone());
    let offset = if local.offset().is_zero() { "Z" } else { "%:z" };
    let text = local.strftime(&format!("%Y-%m-%dT%H:%M:%S{offset}")).to_string();
    annotations.insert(SCHEDULED_FOR.to_owned(), text);
    let meta = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: cron_job.metadata.namespace.clone(),
        labels: from.labels,
        annotations: Some(annotations),
        owner_references: Some(vec![adoption::reference(&Resource::CRON_JOB, &cron_job.metadata)]),
        ..ObjectMeta::default()
    };
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec.job_template.spec})
}

fn delete(cron_job: &CronJob, job: &ObjectMeta) -> Action {
    let name = job.name.as_deref().unwrap_or("");
    let options = DeleteOptions {
        propagation: Some("Background"),
        ..DeleteOptions::default()
    };
    let deletion = Action::Delete {
        target: Target::any_version(Resource::JOB, job),
        options,
        outcome: Box::default(),
    };
    deletion
        .then(event(
            cron_job,
            false,
            "SuccessfulDelete",
            format!("Deleted job {name}"),
        ))
        .or_else(event(cron_job, true, "FailedDelete", "Deleted job: {error}".to_owned()))
}

/// Writes the status if it differs.
fn patch(cron_job: &CronJob, status: &CronJobStatus) -> Option<Action> {
    let old = cron_job.status.clone().unwrap_or_default();
    if old == *status {
        return None;
    }
    let new = json!({
        "active": status.active,
        "lastScheduleTime": status.last_schedule_time,
        "lastSuccessfulTime": status.last_successful_time,
    });
    let target = Target::exact(Resource::CRON_JOB, &cron_job.metadata);
    Some(Action::patch_status(target, json!({"status": new})))
}

fn event(cron_job: &CronJob, warning: bool, reason: &'static str, message: String) -> EventDraft {
    EventDraft {
        regarding: Regarding::of(&Resource::CRON_JOB, &cron_job.metadata),
        warning,
        reason,
        message,
    }
}

#[cfg(test)]
mod tests;
