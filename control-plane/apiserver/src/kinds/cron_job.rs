//! CronJob: a Job made again and again, at times.            Lifecycle: controllers/src/cron_job.rs

use serde_json::{Value, json};
use skiff_api::cron::{Schedule, time_zone};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, int_at, list_at, map_entry, set_default, str_at};

use super::common::{AGE, NAME, age, container_cells, integer, keep_field, name, or, resource, since, text, wide};
use super::job;
use super::pod::warnings;
use super::validate::not_negative;
use crate::strategy::{Column, Strategy, WriteContext};

/// Defaults, as Kubernetes' docs give them.
const SUCCESSFUL_KEPT: i64 = 3;
const FAILED_KEPT: i64 = 1;
/// A Job's name is the CronJob's with eleven characters more, and its pods carry that as a label of 63 at most.
const NAME_MAX: usize = 52;

const COLUMNS: &[Column] = &[
    NAME,
    text("Schedule"),
    text("Timezone"),
    Column {
        name: "Suspend",
        kind: "boolean",
        format: "",
        priority: 0,
    },
    integer("Active"),
    text("Last Schedule"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub struct CronJobStrategy;

impl Strategy for CronJobStrategy {
    resource!("batch", "v1", "cronjobs");

    fn apply_defaults(&self, object: &mut Value) {
        let spec = map_entry(object, "spec");
        if spec
            .get("concurrencyPolicy")
            .and_then(Value::as_str)
            .unwrap_or("")
            .is_empty()
        {
            spec.insert("concurrencyPolicy".into(), "Allow".into());
        }
        set_default(spec, "suspend", false);
        set_default(spec, "successfulJobsHistoryLimit", SUCCESSFUL_KEPT);
        set_default(spec, "failedJobsHistoryLimit", FAILED_KEPT);
        let mut template = spec.remove("jobTemplate").unwrap_or_default();
        map_entry(&mut template, "metadata");
        job::nested_defaults(map_entry(&mut template, "spec"));
        spec.insert("jobTemplate".into(), template);
        map_entry(object, "status");
    }
    fn prepare_for_create(&self, object: &mut Value, _ctx: &WriteContext) {
        object["status"] = json!({});
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "status");
    }
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        keep_field(new, old, "spec");
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        schedule(str_at(spec, "/schedule"), &path.child("schedule"), errors);
        not_negative(
            errors,
            &path.child("startingDeadlineSeconds"),
            int_at(spec, "/startingDeadlineSeconds"),
        );
        if let Some(zone) = spec.get("timeZone").and_then(Value::as_str) {
            zone_name(zone, &path.child("timeZone"), errors);
        }
        let policy = str_at(spec, "/concurrencyPolicy");
        if !matches!(policy, "Allow" | "Forbid" | "Replace") {
            let known = ["Allow", "Forbid", "Replace"];
            errors.not_supported(&path.child("concurrencyPolicy"), policy, &known);
        }
        let template = spec.get("jobTemplate").unwrap_or(&Value::Null);
        job::template_of_cron_job(template, &path.child("jobTemplate"), errors);
        for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            not_negative(errors, &path.child(key), spec.get(key).and_then(Value::as_i64));
        }
        let name = object::name(object);
        if name.len() > NAME_MAX {
            let detail = format!("must be no more than {NAME_MAX} characters");
            errors.invalid(&Path::new("metadata").child("name"), name, &detail);
        }
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let path = Path::new("spec").child("jobTemplate").child("spec").child("template");
        let template = new.pointer("/spec/jobTemplate/spec/template");
        warnings::of_template(template.unwrap_or(&Value::Null), &path)
    }
    fn tracks_generation(&self) -> bool {
        true
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let (containers, images) = container_cells(list_at(object, "/spec/jobTemplate/spec/template/spec/containers"));
        let suspended = match object.pointer("/spec/suspend").and_then(Value::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = match str_at(object, "/status/lastScheduleTime") {
            "" => "<none>".to_owned(),
            time => since(time, now),
        };
        vec![
            name(object),
            str_at(object, "/spec/schedule").into(),
            or(str_at(object, "/spec/timeZone"), "<none>").into(),
            suspended.into(),
            list_at(object, "/status/active").len().into(),
            last.into(),
            age(object, now),
            containers.into(),
            images.into(),
            "<none>".into(),
        ]
    }
}

fn schedule(text: &str, path: &Path, errors: &mut FieldErrors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    if let Err(error) = Schedule::parse(text) {
        errors.invalid(path, text, &error);
    }
    if text.contains("TZ") {
        errors.invalid(
            path,
            text,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        );
    }
}

fn zone_name(zone: &str, path: &Path, errors: &mut FieldErrors) {
    if zone.is_empty() {
        return errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return errors.invalid(path, zone, detail);
    }
    if let Err(error) = time_zone(zone) {
        errors.invalid(path, zone, &error);
    }
}

#[cfg(test)]
mod tests;
