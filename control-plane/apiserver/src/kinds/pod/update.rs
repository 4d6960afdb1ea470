//! What may change of a pod once it exists: images, the active deadline, additional tolerations, fewer scheduling gates.

use serde_json::{Map, Value};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{int_at, list_at, str_at};
use skiff_api::pod_settings;

use super::{diff, internal};

const ONLY_THESE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    settings(new, old, errors);
    let path = Path::new("spec");
    let (new, old) = (
        new.get("spec").unwrap_or(&Value::Null),
        old.get("spec").unwrap_or(&Value::Null),
    );
    for list in ["containers", "initContainers"] {
        let pointer = format!("/{list}");
        if list_at(new, &pointer).len() != list_at(old, &pointer).len() {
            return errors.forbidden(&path.child(list), "pod updates may not add or remove containers");
        }
    }
    if !active_deadline(new, old, &path, errors) {
        return;
    }
    tolerations(new, old, &path, errors);
    scheduling_gates(new, old, &path, errors);
    everything_else(new, old, &path, errors);
}

/// Settings in annotations. One that was there before is left alone: it may be older than its rule.
fn settings(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let before = old.pointer(super::ANNOTATIONS);
    let known = |key: &str, value: &Value| before.and_then(|before| before.get(key)) == Some(value);
    let mut changed = Map::new();
    for (key, value) in new
        .pointer(super::ANNOTATIONS)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !known(key, value) {
            changed.insert(key.clone(), value.clone());
        }
    }
    let path = Path::new("metadata").child("annotations");
    pod_settings::problems(Some(&Value::Object(changed)), &path, errors);
}

/// Whether the other checks are worth making.
fn active_deadline(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) -> bool {
    const MAX: i64 = i32::MAX as i64;
    let path = path.child("activeDeadlineSeconds");
    let (new, old) = (
        int_at(new, "/activeDeadlineSeconds"),
        int_at(old, "/activeDeadlineSeconds"),
    );
    match (new, old) {
        (Some(new), _) if !(0..=MAX).contains(&new) => errors.invalid(&path, new, &names::out_of_range(0, MAX)),
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(
                &path,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
            return true;
        }
        _ => return true,
    }
    false
}

fn tolerations(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let without_seconds = |toleration: &Value| {
        let mut map = toleration.as_object().cloned().unwrap_or_else(Map::new);
        map.remove("tolerationSeconds");
        map
    };
    let new: Vec<_> = list_at(new, "/tolerations").iter().map(without_seconds).collect();
    if !list_at(old, "/tolerations")
        .iter()
        .map(without_seconds)
        .all(|t| new.contains(&t))
    {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(&path.child("tolerations"), detail);
    }
}

fn scheduling_gates(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let old = list_at(old, "/schedulingGates");
    for (i, gate) in list_at(new, "/schedulingGates").iter().enumerate() {
        let name = str_at(gate, "/name");
        if !old.iter().any(|g| str_at(g, "/name") == name) {
            let path = path.child("schedulingGates").index(i).child("name");
            errors.forbidden(
                &path,
                &format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            );
        }
    }
}

fn everything_else(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut munged = new.clone();
    // What has been checked above, or may change freely, is taken from the old pod before comparing.
    for list in ["containers", "initContainers"] {
        let images: Vec<Value> = list_at(old, &format!("/{list}"))
            .iter()
            .map(|c| c.get("image").cloned().unwrap_or(Value::Null))
            .collect();
        for (container, image) in munged
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .zip(images)
        {
            container["image"] = image;
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(&mut munged, old, key);
    }
    let grace = |spec: &Value| int_at(spec, "/terminationGracePeriodSeconds");
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(new) == Some(1) {
        keep(&mut munged, old, "terminationGracePeriodSeconds");
    }
    // A pod that nobody may schedule yet can still be narrowed down to fewer nodes.
    if !list_at(old, "/schedulingGates").is_empty() {
        let narrowed = old
            .get("nodeSelector")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .all(|(key, value)| munged.pointer("/nodeSelector").and_then(|selector| selector.get(key)) == Some(value));
        if !narrowed {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            let shown = new.get("nodeSelector").cloned().unwrap_or(Value::Null);
            errors.invalid(&path.child("nodeSelector"), shown, detail);
        }
        keep(&mut munged, old, "nodeSelector");
    }
    if munged != *old {
        let shown = |spec: &Value| internal::pretty(&internal::POD_SPEC, &internal::pod_spec_view(spec));
        let diff = diff::unified(&shown(old), &shown(&munged));
        errors.forbidden(path, &format!("{ONLY_THESE}\n{diff}"));
    }
}

fn keep(munged: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(value) => munged[key] = value.clone(),
        None => {
            skiff_api::object::as_map(munged).remove(key);
        }
    }
}
