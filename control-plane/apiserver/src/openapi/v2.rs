//! The OpenAPI v2 document: the same paths and schemas in the older form, all groups in one.

use serde_json::{Map, Value, json};
use skiff_api::kind::ResourceInfo;
use skiff_api::object::{list_at, str_at};

use super::schemas::{Dialect, Schemas};
use super::{info, paths};

pub(super) fn document(rows: &[&'static ResourceInfo]) -> Value {
    let mut schemas = Schemas::new(Dialect::V2);
    let paths = paths::of(rows, &mut schemas);
    let paths: Map<String, Value> = match paths {
        Value::Object(paths) => paths.into_iter().map(|(path, item)| (path, path_item(item))).collect(),
        _ => Map::new(),
    };
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {
            "BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"},
        },
        "security": [{"BearerToken": []}],
    })
}

fn path_item(item: Value) -> Value {
    let Value::Object(item) = item else { return item };
    let convert = |(key, value): (String, Value)| {
        let value = if key == "parameters" {
            parameters(&value)
        } else {
            operation(value)
        };
        (key, value)
    };
    item.into_iter().map(convert).collect::<Map<_, _>>().into()
}

/// Types of parameters stand beside their names.
fn parameters(list: &Value) -> Value {
    let flat = |parameter: &Value| {
        let mut flat = parameter.clone();
        let map = skiff_api::object::as_map(&mut flat);
        if let Some(Value::Object(schema)) = map.remove("schema") {
            map.extend(schema);
        }
        flat
    };
    list_at(list, "").iter().map(flat).collect::<Vec<_>>().into()
}

fn operation(mut operation: Value) -> Value {
    let mut list: Vec<Value> = list_at(&parameters(&operation["parameters"]), "").to_vec();
    let map = skiff_api::object::as_map(&mut operation);
    if let Some(body) = map.remove("requestBody") {
        let content = body["content"].as_object();
        let types: Vec<&String> = content.map(|content| content.keys().collect()).unwrap_or_default();
        map.insert("consumes".into(), json!(types));
        let schema = content
            .and_then(|content| content.values().next())
            .map(|first| first["schema"].clone());
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        list.insert(0, parameter);
    }
    if list.is_empty() {
        map.remove("parameters");
    } else {
        map.insert("parameters".into(), list.into());
    }
    let mut produces = Vec::new();
    let mut responses = Map::new();
    for (code, response) in operation["responses"].as_object().into_iter().flatten() {
        let mut flat = json!({"description": str_at(response, "/description")});
        if let Some(content) = response.get("content").and_then(Value::as_object) {
            if produces.is_empty() {
                produces = content.keys().cloned().collect();
            }
            if let Some(first) = content.values().next() {
                flat["schema"] = first["schema"].clone();
            }
        }
        responses.insert(code.clone(), flat);
    }
    operation["responses"] = responses.into();
    operation["produces"] = json!(produces);
    operation["schemes"] = json!(["https"]);
    operation
}
