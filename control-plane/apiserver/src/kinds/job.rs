//! Job: pods that run until enough of them have succeeded.            Lifecycle: controllers/src/job.rs

mod policies;
mod status;
mod validate;

use serde_json::{Map, Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, int_at, list_at, map_entry, set_default, str_at};
use skiff_api::time;

use super::common::{
    AGE, NAME, age, condition_is_true, container_cells, each_mut, keep_field, name, or, resource, sub_mut, text, wide,
};
use super::pod::{defaults, warnings};
use super::replica_set::selector_text;
use crate::strategy::{Column, Strategy, WriteContext};

pub(super) use validate::template_of_cron_job;

/// Default, as Kubernetes' docs give it.
const BACKOFF_LIMIT: i64 = 6;
/// What `backoffLimit` is when the failures of each index are limited by themselves: no limit.
const BACKOFF_UNLIMITED: i64 = i32::MAX as i64;
/// The labels by which a Job knows its pods, new and old.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const ORPHANS_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

const COLUMNS: &[Column] = &[
    NAME,
    text("Status"),
    text("Completions"),
    text("Duration"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub struct JobStrategy;

impl Strategy for JobStrategy {
    resource!("batch", "v1", "jobs");

    fn apply_defaults(&self, object: &mut Value) {
        let spec = map_entry(object, "spec");
        let unset = |spec: &Map<String, Value>, key: &str| spec.get(key).is_none_or(Value::is_null);
        if unset(spec, "completions") && unset(spec, "parallelism") {
            set_default(spec, "completions", 1);
        }
        set_default(spec, "parallelism", 1);
        let limit = if unset(spec, "backoffLimitPerIndex") {
            BACKOFF_LIMIT
        } else {
            BACKOFF_UNLIMITED
        };
        set_default(spec, "backoffLimit", limit);
        set_default(spec, "completionMode", "NonIndexed");
        set_default(spec, "suspend", false);
        set_default(spec, "manualSelector", false);
        let replacement = if unset(spec, "podFailurePolicy") {
            "TerminatingOrFailed"
        } else {
            "Failed"
        };
        set_default(spec, "podReplacementPolicy", replacement);
        nested_defaults(spec);
        map_entry(object, "status");
    }
    fn prepare_for_create(&self, object: &mut Value, ctx: &WriteContext) {
        object["status"] = json!({});
        if !object::bool_at(object, "/spec/manualSelector") {
            generate_selector(object, &ctx.uuid);
        }
        // A Job without labels gets those of its pods.
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        if let Some(labels) = labels.filter(|_| object::labels(object).is_empty()) {
            object["metadata"]["labels"] = labels;
        }
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "status");
    }
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "spec");
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate::job(object, errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        validate::change(new, old, errors);
    }
    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        status::validate(new, errors);
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let path = Path::new("spec").child("template");
        warnings::of_template(new.pointer("/spec/template").unwrap_or(&Value::Null), &path)
    }
    fn orphans_by_default(&self) -> Option<&'static str> {
        Some(ORPHANS_WARNING)
    }
    fn tracks_generation(&self) -> bool {
        true
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let (containers, images) = container_cells(list_at(object, "/spec/template/spec/containers"));
        vec![
            name(object),
            state(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            age(object, now),
            containers.into(),
            images.into(),
            or(&selector_text(object), "<none>").into(),
        ]
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let succeeded = int_at(object, "/status/succeeded").unwrap_or(0);
        vec![("status.successful", succeeded.to_string())]
    }
}

/// Defaults inside a JobSpec that hold for a CronJob's template too.
pub(super) fn nested_defaults(spec: &mut Map<String, Value>) {
    if let Some(policy) = sub_mut(spec, "podFailurePolicy") {
        each_mut(policy, "rules", |rule| {
            each_mut(rule, "onPodConditions", |pattern| {
                set_default(pattern, "status", "True")
            });
        });
    }
    set_default(spec, "template", json!({}));
    if let Some(template) = sub_mut(spec, "template") {
        defaults::template(template);
    }
}

/// The Job's pods are known by its uid; what the user has set already is left for validation to judge.
fn generate_selector(object: &mut Value, uid: &str) {
    let job_name = object::name(object).to_owned();
    let spec = map_entry(object, "spec");
    let selector = object::as_map(spec.entry("selector").or_insert_with(|| json!({})));
    let wanted = object::as_map(selector.entry("matchLabels").or_insert_with(|| json!({})));
    set_default(wanted, UID_LABELS[0], uid);
    let mut template = spec.remove("template").unwrap_or_default();
    let labels = object::as_map(
        map_entry(&mut template, "metadata")
            .entry("labels")
            .or_insert_with(|| json!({})),
    );
    for key in NAME_LABELS {
        set_default(labels, key, job_name.as_str());
    }
    for key in UID_LABELS {
        set_default(labels, key, uid);
    }
    spec.insert("template".into(), template);
}

fn state(object: &Value) -> &'static str {
    let finished = ["Complete", "Failed"]
        .into_iter()
        .find(|kind| condition_is_true(object, kind));
    if let Some(finished) = finished {
        return finished;
    }
    if object::is_terminating(object) {
        return "Terminating";
    }
    ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| condition_is_true(object, kind))
        .unwrap_or("Running")
}

fn completions(object: &Value) -> String {
    let succeeded = int_at(object, "/status/succeeded").unwrap_or(0);
    match (
        int_at(object, "/spec/completions"),
        int_at(object, "/spec/parallelism").unwrap_or(0),
    ) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

/// How long it ran, or has run; nothing if it has not begun.
fn duration(object: &Value, now: i64) -> String {
    let at = |pointer: &str| time::parse_rfc3339(str_at(object, pointer));
    match at("/status/startTime") {
        Some(start) => time::human_duration(at("/status/completionTime").unwrap_or(now) - start),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
