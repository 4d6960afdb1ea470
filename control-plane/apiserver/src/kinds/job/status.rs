//! What a Job's status may say; the controller keeps to it, and so must everyone else who writes one.

use serde_json::Value;
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::object::{int_at, str_at};

use crate::kinds::common::condition_is_true;
use crate::kinds::validate::not_negative;

pub(super) fn validate(job: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let count = |key: &str| int_at(job, &format!("/status/{key}"));
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(errors, &path.child(key), count(key));
    }
    if let Some(ready) = count("ready").filter(|ready| *ready > count("active").unwrap_or(0)) {
        errors.invalid(&path.child("ready"), ready, "cannot set more ready pods than active");
    }
    let has = |kind: &str| condition_is_true(job, kind);
    let (complete, failed) = (has("Complete"), has("Failed"));
    if complete || failed {
        for key in ["active", "terminating"] {
            if let Some(value) = count(key).filter(|value| *value > 0) {
                errors.invalid(&path.child(key), value, &format!("{key}>0 is invalid for finished job"));
            }
        }
        if str_at(job, "/status/startTime").is_empty() {
            errors.required(&path.child("startTime"), "startTime is required for finished job");
        }
    }
    completion_time(job, complete, &path.child("completionTime"), errors);
    if complete && failed {
        refuse(errors, "cannot set Complete=True and Failed=true conditions");
    }
    if complete && has("FailureTarget") {
        refuse(errors, "cannot set Complete=True and FailureTarget=true conditions");
    }
    if complete && !has("SuccessCriteriaMet") {
        refuse(
            errors,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }
    if failed && !has("FailureTarget") {
        refuse(
            errors,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
}

fn completion_time(job: &Value, complete: bool, path: &Path, errors: &mut FieldErrors) {
    let (start, end) = (str_at(job, "/status/startTime"), str_at(job, "/status/completionTime"));
    match (complete, end.is_empty()) {
        (true, true) => errors.required(path, "completionTime is required for Complete jobs"),
        (false, false) => {
            errors.invalid(
                path,
                end,
                "cannot set completionTime when there is no Complete=True condition",
            );
        }
        // RFC 3339 in UTC and whole seconds: the order of the texts is that of the times.
        (true, false) if end < start => errors.invalid(path, end, "completionTime cannot be set before startTime"),
        _ => {}
    }
}

fn refuse(errors: &mut FieldErrors, detail: &str) {
    errors.push(FieldError {
        kind: ErrorType::Invalid,
        path: "status.conditions".to_owned(),
        body: format!("Invalid value: {detail}"),
    });
}
