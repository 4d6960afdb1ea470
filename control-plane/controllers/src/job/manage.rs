//! Which pods a running Job gets, and which it loses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::facts::{Facts, failures_with, index_of, is_tracked};
use super::verdict::is_suspended;
use super::{COMPLETION_INDEX, FAILURE_COUNT, IGNORED_FAILURE_COUNT, TRACKING, event, failure, untrack};
use crate::adoption;
use crate::controller::Context;
use crate::hash::child_name;
use crate::plan::{Action, CREATES_PER_PLAN_MAX, Plan, Report, Resource, Target};
use crate::replicaset::rank;

/// Where a container reads its completion index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Deletes what is too many, or else creates what is missing: never both in one plan.
pub(super) fn manage(job: &Job, spec: &JobSpec, facts: &Facts<'_>, ctx: &Context, plan: &mut Plan) {
    let active = facts.active.len();
    let want = wanted(spec, facts);
    let surplus = surplus(spec, facts, active.saturating_sub(want));
    if !surplus.is_empty() {
        plan.report = Report::TooMany { have: active, want };
        // Let go of first, so that they do not count as failed.
        let tracked = surplus.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod));
        plan.actions.extend(tracked);
        plan.actions.extend(surplus.into_iter().map(|pod| delete(job, pod)));
        return;
    }
    let going = if failure::replaces_only_failed(spec) {
        usize::try_from(facts.terminating).unwrap_or(0)
    } else {
        0
    };
    let missing = want.saturating_sub(active + going).min(CREATES_PER_PLAN_MAX);
    if missing == 0 {
        return;
    }
    plan.report = Report::TooFew { have: active, want };
    let made = if spec.completion_mode.as_deref() == Some("Indexed") {
        let (indexes, later) = pending_indexes(spec, facts, missing, ctx);
        if let Some(later) = later {
            plan.requeue_within(later);
        }
        indexes.into_iter().map(Some).collect()
    } else {
        vec![None; missing]
    };
    if spec.backoff_limit_per_index.is_none()
        && let Some(pause) = failure::pause_of_all(facts.pods.iter().map(|pod| &***pod), spec, ctx.now)
    {
        plan.report = Report::WaitingOn("the pause after a failure".to_owned());
        plan.requeue_within(pause);
        return;
    }
    plan.actions.extend(create(job, spec, facts, made));
}

fn wanted(spec: &JobSpec, facts: &Facts<'_>) -> usize {
    let active = facts.active.len();
    if is_suspended(spec) {
        return 0;
    }
    let parallelism = spec.parallelism.unwrap_or(1);
    let want = match spec.completions {
        Some(completions) => (completions - facts.succeeded()).min(parallelism),
        // Once one has succeeded, the others finish and no more are made.
        None if facts.succeeded() > 0 => return active,
        None => parallelism,
    };
    usize::try_from(want).unwrap_or(0)
}

/// Pods of an index that another pod has too, or that is none of the Job's, and as many others as are too many.
fn surplus<'a>(spec: &JobSpec, facts: &Facts<'a>, at_least: usize) -> Vec<&'a Arc<Pod>> {
    let mut order = rank::deletion_order(&facts.active, &BTreeMap::new());
    let mut doomed: Vec<&Arc<Pod>> = Vec::new();
    if spec.completion_mode.as_deref() == Some("Indexed") {
        let mut kept = BTreeSet::new();
        // From the one that would be deleted last: it keeps the index.
        for pod in order.iter().rev() {
            if index_of(pod, spec.completions).is_none_or(|index| !kept.insert(index)) {
                doomed.push(pod);
            }
        }
        doomed.reverse();
        order.retain(|pod| !doomed.iter().any(|other| Arc::ptr_eq(other, pod)));
    }
    let more = at_least.saturating_sub(doomed.len());
    doomed.extend(order.into_iter().take(more));
    doomed.truncate(CREATES_PER_PLAN_MAX);
    doomed
}

/// The first indexes that no pod works on and that may be tried now; and when others may.
fn pending_indexes(spec: &JobSpec, facts: &Facts<'_>, count: usize, ctx: &Context) -> (Vec<i32>, Option<Duration>) {
    let mut busy: BTreeSet<i32> = facts
        .active
        .iter()
        .filter_map(|pod| index_of(pod, spec.completions))
        .collect();
    if failure::replaces_only_failed(spec) {
        let going = facts
            .pods
            .iter()
            .filter(|pod| crate::pods::is_terminating(pod) && !crate::pods::is_finished(pod));
        busy.extend(going.filter_map(|pod| index_of(pod, spec.completions)));
    }
    let last = facts.last_failures(spec);
    let mut later: Option<Duration> = None;
    let mut now = Vec::new();
    for index in 0..spec.completions.unwrap_or(0) {
        let done = facts.succeeded_indexes.has(index) || facts.failed_indexes.has(index);
        if done || busy.contains(&index) {
            continue;
        }
        if now.len() == count {
            break;
        }
        let pause = last.get(&index).and_then(|pod| {
            let (counted, ignored) = failures_with(pod, spec);
            let failures = usize::try_from(counted.saturating_add(ignored)).unwrap_or(0);
            failure::pause(failures, failure::ended_at(pod), ctx.now)
        });
        match pause {
            Some(pause) => later = Some(later.map_or(pause, |other| other.min(pause))),
            None => now.push(index),
        }
    }
    (now, later)
}

fn create(job: &Job, spec: &JobSpec, facts: &Facts<'_>, indexes: Vec<Option<i32>>) -> Vec<Action> {
    let meta = &job.metadata;
    let (name, uid) = (meta.name.as_deref().unwrap_or(""), meta.uid.as_deref().unwrap_or(""));
    let version = meta.resource_version.as_deref().unwrap_or("");
    let mut taken: BTreeSet<String> = facts.pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    let last = facts.last_failures(spec);
    let mut actions = Vec::with_capacity(indexes.len());
    for index in indexes {
        let prefix = index.map_or_else(|| name.to_owned(), |index| format!("{name}-{index}"));
        let first = index.and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let mut names = (first..).map(|attempt| child_name(&prefix, uid, version, attempt));
        let Some(pod_name) = names.find(|candidate| !taken.contains(candidate)) else {
            continue;
        };
        taken.insert(pod_name.clone());
        let failures = index
            .filter(|_| spec.backoff_limit_per_index.is_some())
            .map(|index| last.get(&index).map_or((0, 0), |pod| failures_with(pod, spec)));
        let pod = pod_from_template(job, spec, &prefix, &pod_name, index, failures);
        actions.push(
            Action::create(Resource::POD, pod)
                .then(event(
                    job,
                    false,
                    "SuccessfulCreate",
                    format!("Created pod: {pod_name}"),
                ))
                .or_else(event(job, true, "FailedCreate", "Error creating: {error}".to_owned())),
        );
    }
    actions
}

pub(super) fn delete(job: &Job, pod: &Pod) -> Action {
    let name = pod.metadata.name.as_deref().unwrap_or("");
    Action::delete(Target::any_version(Resource::POD, &pod.metadata))
        .then(event(job, false, "SuccessfulDelete", format!("Deleted pod: {name}")))
        .or_else(event(job, true, "FailedDelete", "Error deleting: {error}".to_owned()))
}

/// The pod that the Job's template describes, for one index or for none.
fn pod_from_template(
    job: &Job,
    spec: &JobSpec,
    prefix: &str,
    name: &str,
    index: Option<i32>,
    failures: Option<(i32, i32)>,
) -> Value {
    let from = spec.template.metadata.clone().unwrap_or_default();
    let mut finalizers = from.finalizers.unwrap_or_default();
    if !finalizers.iter().any(|one| one == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let mut meta = ObjectMeta {
        name: Some(name.to_owned()),
        generate_name: Some(format!("{prefix}-")),
        namespace: job.metadata.namespace.clone(),
        labels: from.labels,
        annotations: from.annotations,
        finalizers: Some(finalizers),
        owner_references: Some(vec![adoption::reference(&Resource::JOB, &job.metadata)]),
        ..ObjectMeta::default()
    };
    let mut pod_spec = json!(spec.template.spec);
    if let Some(index) = index {
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(COMPLETION_INDEX.to_owned(), index.to_string());
        if let Some((counted, ignored)) = failures {
            annotations.insert(FAILURE_COUNT.to_owned(), counted.to_string());
            if ignored > 0 {
                annotations.insert(IGNORED_FAILURE_COUNT.to_owned(), ignored.to_string());
            }
        }
        meta.labels
            .get_or_insert_default()
            .insert(COMPLETION_INDEX.to_owned(), index.to_string());
        pod_spec["hostname"] = json!(format!("{}-{index}", job.metadata.name.as_deref().unwrap_or("")));
        for list in ["initContainers", "containers"] {
            for container in pod_spec
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                tell_index(container);
            }
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec})
}

/// Adds the variable, unless the template has it.
fn tell_index(container: &mut Value) {
    let mut variables = container["env"].as_array().cloned().unwrap_or_default();
    if variables.iter().any(|variable| variable["name"] == INDEX_VARIABLE) {
        return;
    }
    let path = format!("metadata.labels['{COMPLETION_INDEX}']");
    variables.push(json!({"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    container["env"] = Value::Array(variables);
}
