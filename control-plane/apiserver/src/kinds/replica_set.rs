//! ReplicaSet: pods kept running in a number.            Lifecycle: controllers/src/replicaset.rs

use serde_json::{Map, Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, int_at, map_entry, set_default, str_at};
use skiff_api::selector::LabelSelector;

use super::common::{AGE, NAME, age, container_cells, integer, keep_field, name, or, resource, sub_mut, wide};
use super::pod::{defaults, validate, warnings};
use super::validate::{
    IMMUTABLE, invalid_raw, label_selector, not_negative, selector_is_empty, selector_text as shown,
};
use crate::strategy::{Column, Strategy, WriteContext};

const COLUMNS: &[Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub struct ReplicaSetStrategy;

impl Strategy for ReplicaSetStrategy {
    resource!("apps", "v1", "replicasets");

    fn apply_defaults(&self, object: &mut Value) {
        let spec = map_entry(object, "spec");
        set_default(spec, "replicas", 1);
        set_default(spec, "template", json!({}));
        if let Some(template) = sub_mut(spec, "template") {
            defaults::template(template);
        }
        set_default(map_entry(object, "status"), "replicas", 0);
    }
    fn prepare_for_create(&self, object: &mut Value, _ctx: &WriteContext) {
        object["status"] = json!({"replicas": 0});
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
        not_negative(errors, &path.child("replicas"), int_at(spec, "/replicas"));
        not_negative(errors, &path.child("minReadySeconds"), int_at(spec, "/minReadySeconds"));
        let selector_path = path.child("selector");
        match spec.get("selector").filter(|s| s.is_object()) {
            None => errors.required(&selector_path, ""),
            Some(selector) => {
                label_selector(errors, &selector_path, Some(selector));
                if selector_is_empty(selector) {
                    errors.invalid(
                        &selector_path,
                        Value::Object(Map::new()),
                        "empty selector is invalid for deployment",
                    );
                }
            }
        }
        template_rules(spec, &path, true, errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        selector_is_fixed(new, old, errors);
    }
    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        counters(
            new,
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
            errors,
        );
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let path = Path::new("spec").child("template");
        warnings::of_template(new.pointer("/spec/template").unwrap_or(&Value::Null), &path)
    }
    fn tracks_generation(&self) -> bool {
        true
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let count = |pointer: &str| Value::from(int_at(object, pointer).unwrap_or(0));
        let (containers, images) = container_cells(object::list_at(object, "/spec/template/spec/containers"));
        vec![
            name(object),
            count("/spec/replicas"),
            count("/status/replicas"),
            count("/status/readyReplicas"),
            age(object, now),
            containers.into(),
            images.into(),
            or(&selector_text(object), "<none>").into(),
        ]
    }
    fn scale(&self, object: &Value) -> Option<(i64, i64, String)> {
        Some(replicas(object))
    }
}

/// `spec.selector` in the short form, `app=web,tier in (a,b)`.
pub(super) fn selector_text(object: &Value) -> String {
    let selector = object.pointer("/spec/selector").unwrap_or(&Value::Null);
    LabelSelector::from_json(selector)
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

/// Wanted replicas, current replicas, selector: what `scale` shows.
pub(super) fn replicas(object: &Value) -> (i64, i64, String) {
    let count = |pointer: &str| int_at(object, pointer).unwrap_or(0);
    (
        count("/spec/replicas"),
        count("/status/replicas"),
        selector_text(object),
    )
}

/// The selector parses and picks the template's labels; the template makes pods that run for ever.
pub(super) fn template_rules(spec: &Value, path: &Path, selects: bool, errors: &mut FieldErrors) {
    let template = spec.get("template").unwrap_or(&Value::Null);
    let template_path = path.child("template");
    if selects {
        let selector = spec.get("selector").filter(|s| s.is_object());
        let parsed = match selector {
            Some(selector) => LabelSelector::from_json(selector),
            None => Ok(LabelSelector::nothing()),
        };
        match parsed {
            Ok(parsed) => {
                let labels = template.pointer("/metadata/labels").filter(|l| l.is_object());
                if !parsed.is_everything() && !parsed.matches_json(labels) {
                    let labels = labels.cloned().unwrap_or(Value::Null);
                    let path = template_path.child("metadata").child("labels");
                    errors.invalid(&path, labels, "`selector` does not match template `labels`");
                }
            }
            Err(_) => {
                let text = shown(selector.unwrap_or(&Value::Null));
                invalid_raw(errors, &path.child("selector"), &text, "invalid label selector");
                return;
            }
        }
    }
    validate::template(template, &template_path, errors);
    let spec_path = template_path.child("spec");
    let policy = str_at(template, "/spec/restartPolicy");
    if policy != "Always" && matches!(policy, "OnFailure" | "Never") {
        errors.not_supported(&spec_path.child("restartPolicy"), policy, &["Always"]);
    }
    if template
        .pointer("/spec/activeDeadlineSeconds")
        .is_some_and(|s| !s.is_null())
    {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&spec_path.child("activeDeadlineSeconds"), detail);
    }
}

/// A set never changes which pods are its own.
pub(super) fn selector_is_fixed(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (new.pointer("/spec/selector"), old.pointer("/spec/selector"));
    if new != old {
        let text = new.map_or("null".to_owned(), shown);
        invalid_raw(errors, &Path::new("spec").child("selector"), &text, IMMUTABLE);
    }
}

/// Counters of a status: none negative, none above `replicas`, available at most ready.
pub(super) fn counters(object: &Value, parts: &[&str], errors: &mut FieldErrors) {
    let path = Path::new("status");
    let count = |key: &str| int_at(object, &format!("/status/{key}"));
    for key in ["observedGeneration", "replicas"].iter().chain(parts) {
        not_negative(errors, &path.child(key), count(key));
    }
    let total = count("replicas").unwrap_or(0);
    for key in parts {
        if let Some(part) = count(key).filter(|part| *part > total) {
            errors.invalid(&path.child(key), part, "cannot be greater than status.replicas");
        }
    }
    if let (Some(available), ready) = (count("availableReplicas"), count("readyReplicas").unwrap_or(0))
        && available > ready
    {
        errors.invalid(
            &path.child("availableReplicas"),
            available,
            "cannot be greater than readyReplicas",
        );
    }
}

#[cfg(test)]
mod tests;
