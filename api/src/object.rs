//! Access to the fields that every object has, on plain JSON values.
//!
//! Objects travel as `serde_json::Value` so that unknown fields survive; typed views (k8s-openapi) are made where logic
//! needs them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The string at a `/`-separated JSON pointer, or `""`.
pub fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The integer at a JSON pointer, if there is one.
pub fn int_at(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The boolean at a JSON pointer; absent is false, as in Kubernetes.
pub fn bool_at(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a JSON pointer; absent or null is empty.
pub fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub fn api_version(object: &Value) -> &str {
    str_at(object, "/apiVersion")
}
pub fn kind(object: &Value) -> &str {
    str_at(object, "/kind")
}
pub fn name(object: &Value) -> &str {
    str_at(object, "/metadata/name")
}
pub fn namespace(object: &Value) -> &str {
    str_at(object, "/metadata/namespace")
}
pub fn uid(object: &Value) -> &str {
    str_at(object, "/metadata/uid")
}
pub fn resource_version(object: &Value) -> &str {
    str_at(object, "/metadata/resourceVersion")
}
pub fn generation(object: &Value) -> i64 {
    int_at(object, "/metadata/generation").unwrap_or(0)
}
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    object.pointer("/metadata/deletionTimestamp").and_then(Value::as_str)
}
pub fn is_terminating(object: &Value) -> bool {
    deletion_timestamp(object).is_some()
}
pub fn finalizers(object: &Value) -> Vec<&str> {
    list_at(object, "/metadata/finalizers")
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// `metadata.labels` (or any string map at `pointer`); values that are not strings are left out.
pub fn string_map(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map(|map| {
            map.iter()
                .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
                .collect()
        })
        .unwrap_or_default()
}
pub fn labels(object: &Value) -> BTreeMap<String, String> {
    string_map(object, "/metadata/labels")
}
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    string_map(object, "/metadata/annotations")
}

/// The object's map at `key`, made empty when absent or null. `value` itself becomes a map if it is not one.
pub fn map_entry<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let slot = as_map(value).entry(key).or_insert_with(|| Value::Object(Map::new()));
    as_map(slot)
}

/// `metadata` for writing.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_entry(object, "metadata")
}

/// `value` as a map, replaced by an empty one when it is something else.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("just made an object"),
    }
}

/// Sets `map[key]` unless it is present and not null. This is how defaults are applied.
pub fn set_default(map: &mut Map<String, Value>, key: &str, default: impl Into<Value>) {
    match map.get(key) {
        None | Some(Value::Null) => {
            map.insert(key.to_owned(), default.into());
        }
        Some(_) => {}
    }
}

/// The owner reference with `controller: true`, if any.
pub fn controller_of(object: &Value) -> Option<&Value> {
    list_at(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| bool_at(owner, "/controller"))
}
