//! Deployment: pods kept running in a number, and replaced step by step when they change.
//! Lifecycle: controllers/src/deployment.rs

use serde_json::{Map, Value, json};
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::object::{self, int_at, map_entry, set_default, str_at};

use super::common::{AGE, NAME, age, container_cells, keep_field, name, resource, sub_mut, text, wide};
use super::pod::{defaults, warnings};
use super::replica_set::{counters, replicas, selector_is_fixed, selector_text, template_rules};
use super::validate::{
    at_most_100_percent, int_or_percent, label_selector, not_negative, percent_of, selector_is_empty,
};
use crate::strategy::{Column, Strategy, WriteContext};

/// Defaults, as Kubernetes' docs give them.
const REVISION_HISTORY_LIMIT: i64 = 10;
const PROGRESS_DEADLINE_SECONDS: i64 = 600;
const MAX_STEP: &str = "25%";

const COLUMNS: &[Column] = &[
    NAME,
    text("Ready"),
    text("Up-to-date"),
    text("Available"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub struct DeploymentStrategy;

impl Strategy for DeploymentStrategy {
    resource!("apps", "v1", "deployments");

    fn apply_defaults(&self, object: &mut Value) {
        let spec = map_entry(object, "spec");
        set_default(spec, "replicas", 1);
        set_default(spec, "revisionHistoryLimit", REVISION_HISTORY_LIMIT);
        set_default(spec, "progressDeadlineSeconds", PROGRESS_DEADLINE_SECONDS);
        set_default(spec, "strategy", json!({}));
        if let Some(strategy) = sub_mut(spec, "strategy") {
            set_default(strategy, "type", "RollingUpdate");
            if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
                set_default(strategy, "rollingUpdate", json!({}));
                if let Some(rolling) = sub_mut(strategy, "rollingUpdate") {
                    set_default(rolling, "maxUnavailable", MAX_STEP);
                    set_default(rolling, "maxSurge", MAX_STEP);
                }
            }
        }
        set_default(spec, "template", json!({}));
        if let Some(template) = sub_mut(spec, "template") {
            defaults::template(template);
        }
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
        match old.pointer("/metadata/labels") {
            Some(labels) => new["metadata"]["labels"] = labels.clone(),
            None => {
                object::metadata_mut(new).remove("labels");
            }
        }
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        not_negative(errors, &path.child("replicas"), int_at(spec, "/replicas"));
        selector(spec, &path, errors);
        template_rules(spec, &path, true, errors);
        strategy(spec, &path.child("strategy"), errors);
        let ready = int_at(spec, "/minReadySeconds").unwrap_or(0);
        not_negative(errors, &path.child("minReadySeconds"), Some(ready));
        not_negative(
            errors,
            &path.child("revisionHistoryLimit"),
            int_at(spec, "/revisionHistoryLimit"),
        );
        if let Some(deadline) = int_at(spec, "/progressDeadlineSeconds") {
            let path = path.child("progressDeadlineSeconds");
            not_negative(errors, &path, Some(deadline));
            if deadline <= ready {
                errors.invalid(&path, deadline, "must be greater than minReadySeconds");
            }
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        selector_is_fixed(new, old, errors);
    }
    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        counters(new, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
        let path = Path::new("status").child("unavailableReplicas");
        not_negative(errors, &path, int_at(new, "/status/unavailableReplicas"));
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let path = Path::new("spec").child("template");
        warnings::of_template(new.pointer("/spec/template").unwrap_or(&Value::Null), &path)
    }
    fn tracks_generation(&self) -> bool {
        true
    }
    fn raises_generation(&self, new: &Value, old: &Value) -> bool {
        // Annotations count too: the controller copies them to replica sets.
        object::annotations(new) != object::annotations(old)
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let count = |pointer: &str| int_at(object, pointer).unwrap_or(0);
        let (containers, images) = container_cells(object::list_at(object, "/spec/template/spec/containers"));
        vec![
            name(object),
            format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")).into(),
            count("/status/updatedReplicas").into(),
            count("/status/availableReplicas").into(),
            age(object, now),
            containers.into(),
            images.into(),
            selector_text(object).into(),
        ]
    }
    fn scale(&self, object: &Value) -> Option<(i64, i64, String)> {
        Some(replicas(object))
    }
}

fn selector(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("selector");
    match spec.get("selector").filter(|s| s.is_object()) {
        None => errors.required(&path, ""),
        Some(selector) => {
            label_selector(errors, &path, Some(selector));
            if selector_is_empty(selector) {
                errors.invalid(
                    &path,
                    Value::Object(Map::new()),
                    "empty selector is invalid for deployment",
                );
            }
        }
    }
}

fn strategy(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let rolling = spec.pointer("/strategy/rollingUpdate").filter(|r| r.is_object());
    let path_rolling = path.child("rollingUpdate");
    match str_at(spec, "/strategy/type") {
        "Recreate" => {
            if rolling.is_some() {
                errors.forbidden(&path_rolling, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => match rolling {
            Some(rolling) => rolling_update(rolling, &path_rolling, errors),
            None => errors.required(&path_rolling, "this should be defaulted and never be nil"),
        },
        other => {
            let rolling = rolling.map_or("null".to_owned(), |r| {
                format!(
                    "{{\"MaxUnavailable\":{},\"MaxSurge\":{}}}",
                    r["maxUnavailable"], r["maxSurge"]
                )
            });
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", Value::from(other));
            let body = format!("Unsupported value: {shown}: supported values: \"Recreate\", \"RollingUpdate\"");
            errors.push(FieldError {
                kind: ErrorType::NotSupported,
                path: path.to_string(),
                body,
            });
        }
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut FieldErrors) {
    let step = |key: &str| rolling.get(key).cloned().unwrap_or(Value::Null);
    let (unavailable, surge) = (step("maxUnavailable"), step("maxSurge"));
    int_or_percent(errors, &path.child("maxUnavailable"), &unavailable);
    int_or_percent(errors, &path.child("maxSurge"), &surge);
    let amount = |value: &Value| value.as_i64().or_else(|| percent_of(value)).unwrap_or(0);
    let malformed = |value: &Value| value.is_string() && percent_of(value).is_none();
    if amount(&unavailable) == 0 && amount(&surge) == 0 && !malformed(&surge) && !malformed(&unavailable) {
        errors.invalid(
            &path.child("maxUnavailable"),
            unavailable.clone(),
            "may not be 0 when `maxSurge` is 0",
        );
    }
    at_most_100_percent(errors, &path.child("maxUnavailable"), &unavailable);
}

#[cfg(test)]
mod tests;
