//! Event: something that happened to an object.            Lifecycle: the event expiry controller removes old ones.
//!
//! The core group and `events.k8s.io` serve the same objects under different field names. They rest in the core form.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use skiff_api::canonical;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{self, as_map, int_at, str_at};
use skiff_store::watch_cache::Decorate;

use super::common::{NAME, or, resource, since, text, wide};
use super::validate::{invalid_each, not_negative};
use crate::strategy::{Column, NameRule, Strategy};

/// Longest action, reason and reporting instance, and longest message, of events with an eventTime.
const FIELD_CHARS_MAX: usize = 128;
const MESSAGE_CHARS_MAX: usize = 1024;

/// Field names of the core group, and of `events.k8s.io`.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

const COLUMNS: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    wide("Count"),
    Column { priority: 1, ..NAME },
];

/// Events as the core group has them.
pub struct EventStrategy;
/// Events as `events.k8s.io/v1` has them.
pub struct EventsV1Strategy;

impl Strategy for EventStrategy {
    resource!("", "v1", "events");

    fn apply_defaults(&self, object: &mut Value) {
        core_zeros(as_map(object));
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        common_rules(object, "reportingComponent", errors);
    }
    fn name_rule(&self) -> NameRule {
        // Whatever fits into a URL, for the sake of old clients.
        NameRule::PathSegment
    }
    fn allows_create_on_update(&self) -> bool {
        true
    }
    fn metadata_checks(&self) -> usize {
        2
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(object, now)
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |pointer: &str| str_at(object, pointer).to_owned();
        vec![
            ("involvedObject.kind", text("/involvedObject/kind")),
            ("involvedObject.namespace", text("/involvedObject/namespace")),
            ("involvedObject.name", text("/involvedObject/name")),
            ("involvedObject.uid", text("/involvedObject/uid")),
            ("involvedObject.apiVersion", text("/involvedObject/apiVersion")),
            (
                "involvedObject.resourceVersion",
                text("/involvedObject/resourceVersion"),
            ),
            ("involvedObject.fieldPath", text("/involvedObject/fieldPath")),
            ("reason", text("/reason")),
            ("reportingComponent", text("/reportingComponent")),
            ("source", source(object)),
            ("type", text("/type")),
        ]
    }
}

/// The stored core form as events.k8s.io serves it. Bytes that are no JSON stay as they are.
fn served_bytes(stored: &Bytes, revision: u64) -> Bytes {
    let converted = serde_json::from_slice(stored).map(|object| canonical::to_bytes(&from_core(object)));
    canonical::with_resource_version(&converted.unwrap_or_else(|_| stored.clone()), revision)
}

impl Strategy for EventsV1Strategy {
    resource!("events.k8s.io", "v1", "events");

    fn converts(&self) -> bool {
        true
    }
    fn to_storage(&self, object: Value) -> Value {
        to_core(object)
    }
    fn out_of_storage(&self, object: Value) -> Value {
        from_core(object)
    }
    fn decorate(&self) -> Decorate {
        served_bytes
    }
    fn apply_defaults(&self, object: &mut Value) {
        new_zeros(as_map(object));
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let core = to_core(object.clone());
        common_rules(&core, "reportingController", errors);
        strict_rules(&core, errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        for (field, shown) in [
            ("regarding", "involvedObject"),
            ("reason", "reason"),
            ("reportingController", "reportingController"),
            ("reportingInstance", "reportingInstance"),
            ("action", "action"),
            ("note", "message"),
            ("type", "type"),
            ("eventTime", "eventTime"),
        ] {
            super::validate::immutable(errors, &Path::new(shown), new.get(field), old.get(field));
        }
    }
    fn allows_create_on_update(&self) -> bool {
        true
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(&to_core(object.clone()), now)
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |pointer: &str| str_at(object, pointer).to_owned();
        vec![
            ("regarding.kind", text("/regarding/kind")),
            ("regarding.namespace", text("/regarding/namespace")),
            ("regarding.name", text("/regarding/name")),
            ("regarding.uid", text("/regarding/uid")),
            ("regarding.apiVersion", text("/regarding/apiVersion")),
            ("regarding.resourceVersion", text("/regarding/resourceVersion")),
            ("regarding.fieldPath", text("/regarding/fieldPath")),
            ("reason", text("/reason")),
            ("reportingController", text("/reportingController")),
            ("type", text("/type")),
        ]
    }
}

/// The core form of an event of `events.k8s.io/v1`.
pub fn to_core(event: Value) -> Value {
    let mut event = event;
    let map = as_map(&mut event);
    for (core, new) in RENAMED {
        if let Some(value) = map.remove(new) {
            map.insert(core.into(), value);
        }
    }
    core_zeros(map);
    map.insert("apiVersion".into(), "v1".into());
    event
}

/// The `events.k8s.io/v1` form of a core event.
pub fn from_core(event: Value) -> Value {
    let mut event = event;
    let map = as_map(&mut event);
    for (core, new) in RENAMED {
        if let Some(value) = map.remove(core) {
            map.insert(new.into(), value);
        }
    }
    new_zeros(map);
    // Left out when empty here, always shown in the core group.
    for key in ["reportingController", "reportingInstance"] {
        if map.get(key).and_then(Value::as_str) == Some("") {
            map.remove(key);
        }
    }
    map.insert("apiVersion".into(), "events.k8s.io/v1".into());
    event
}

/// What Kubernetes shows even when it is empty.
fn core_zeros(map: &mut Map<String, Value>) {
    for key in ["involvedObject", "source"] {
        object::set_default(map, key, json!({}));
    }
    for key in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        map.entry(key).or_insert(Value::Null);
    }
    for key in ["reportingComponent", "reportingInstance"] {
        object::set_default(map, key, "");
    }
}

fn new_zeros(map: &mut Map<String, Value>) {
    for key in ["regarding", "deprecatedSource"] {
        object::set_default(map, key, json!({}));
    }
    for key in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"] {
        map.entry(key).or_insert(Value::Null);
    }
}

/// Rules of both forms, on the core form.
fn common_rules(event: &Value, controller_field: &str, errors: &mut FieldErrors) {
    const DETAIL: &str = "does not match event.namespace";
    let namespace = object::namespace(event);
    let about = str_at(event, "/involvedObject/namespace");
    let path = Path::new("involvedObject").child("namespace");
    if str_at(event, "/eventTime").is_empty() {
        let fits = if about.is_empty() {
            matches!(namespace, "" | "default")
        } else {
            namespace == about
        };
        if !fits {
            errors.invalid(&path, about, DETAIL);
        }
    } else {
        if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.invalid(&path, about, DETAIL);
        }
        let controller = str_at(event, "/reportingComponent");
        let path = Path::new(controller_field);
        if controller.is_empty() {
            errors.required(&path, "");
        }
        invalid_each(errors, &path, controller, names::qualified_name(controller));
        for key in ["reportingInstance", "action", "reason"] {
            let value = str_at(event, &format!("/{key}"));
            if value.is_empty() {
                errors.required(&Path::new(key), "");
            }
            at_most(errors, key, value, FIELD_CHARS_MAX);
        }
        at_most(errors, "message", str_at(event, "/message"), MESSAGE_CHARS_MAX);
    }
    invalid_each(
        errors,
        &Path::new("namespace"),
        namespace,
        names::dns1123_subdomain(namespace),
    );
}

fn at_most(errors: &mut FieldErrors, key: &str, value: &str, max: usize) {
    if value.len() > max {
        errors.invalid(&Path::new(key), "", &format!("can have at most {max} characters"));
    }
}

/// Rules of `events.k8s.io/v1` alone, on the core form.
fn strict_rules(event: &Value, errors: &mut FieldErrors) {
    if let Some(series) = event.get("series").filter(|s| s.is_object()) {
        let path = Path::new("series");
        let count = int_at(series, "/count").unwrap_or(0);
        if count < 2 {
            errors.invalid(&path.child("count"), "", "should be at least 2");
        }
        not_negative(errors, &path.child("count"), Some(count));
        if str_at(series, "/lastObservedTime").is_empty() {
            errors.required(&path.child("lastObservedTime"), "");
        }
    }
    if str_at(event, "/eventTime").is_empty() {
        errors.required(&Path::new("eventTime"), "");
    }
    let kind = str_at(event, "/type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", &format!("has invalid value: {kind}"));
    }
    for key in ["firstTimestamp", "lastTimestamp"] {
        if !str_at(event, &format!("/{key}")).is_empty() {
            errors.invalid(&Path::new(key), "", "needs to be unset");
        }
    }
    if int_at(event, "/count").unwrap_or(0) != 0 {
        errors.invalid(&Path::new("count"), "", "needs to be unset");
    }
    if !str_at(event, "/source/component").is_empty() || !str_at(event, "/source/host").is_empty() {
        errors.invalid(&Path::new("source"), "", "needs to be unset");
    }
}

/// Who reported it: the component, and the host or instance where it ran.
fn source(event: &Value) -> String {
    or(str_at(event, "/source/component"), str_at(event, "/reportingComponent")).to_owned()
}

fn row(event: &Value, now: i64) -> Vec<Value> {
    let time = |pointer: &str| str_at(event, pointer);
    let first = since(or(time("/firstTimestamp"), time("/eventTime")), now);
    let mut last = if time("/lastTimestamp").is_empty() {
        first.clone()
    } else {
        since(time("/lastTimestamp"), now)
    };
    let mut count = int_at(event, "/count").unwrap_or(0);
    if let Some(series) = event.get("series").filter(|s| s.is_object()) {
        last = since(str_at(series, "/lastObservedTime"), now);
        count = int_at(series, "/count").unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let (kind, name) = (
        str_at(event, "/involvedObject/kind").to_lowercase(),
        str_at(event, "/involvedObject/name"),
    );
    let target = if name.is_empty() {
        kind
    } else {
        format!("{kind}/{name}")
    };
    let host = or(time("/source/host"), time("/reportingInstance"));
    let source = if host.is_empty() {
        source(event)
    } else {
        format!("{}, {host}", source(event))
    };
    vec![
        last.into(),
        time("/type").into(),
        time("/reason").into(),
        target.into(),
        time("/involvedObject/fieldPath").into(),
        source.into(),
        time("/message").trim().into(),
        first.into(),
        count.into(),
        object::name(event).into(),
    ]
}

#[cfg(test)]
mod tests;
