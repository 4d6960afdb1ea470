//! The v2 document in the protobuf form that kubectl and client-go ask for (`openapi.v2.Document`).
//!
//! Field numbers are those of the public OpenAPIv2 protobuf definition. Only what our documents contain is written.

use serde_json::Value;
use skiff_api::object::{list_at, str_at};

/// A protobuf message being written.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn bytes(&mut self, field: u32, content: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(content.len() as u64);
        self.0.extend_from_slice(content);
    }
    fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }
    fn texts(&mut self, field: u32, list: &[Value]) {
        for text in list.iter().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }
    fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }
    fn message(&mut self, field: u32, content: Self) {
        self.bytes(field, &content.0);
    }
    /// `NamedX { name = 1, value = 2 }`
    fn named(&mut self, field: u32, name: &str, value: Self) {
        let mut named = Self::default();
        named.text(1, name);
        named.message(2, value);
        self.message(field, named);
    }
    /// Every `x-…` of an object as a NamedAny holding YAML (JSON is YAML).
    fn extensions(&mut self, field: u32, object: &Value) {
        for (name, value) in object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.starts_with("x-"))
        {
            let mut any = Self::default();
            any.text(2, &format!("{value}\n"));
            self.named(field, name, any);
        }
    }
}

pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(1, str_at(document, "/swagger"));
    let mut info = Writer::default();
    info.text(1, str_at(document, "/info/title"));
    info.text(2, str_at(document, "/info/version"));
    out.message(2, info);
    let mut paths = Writer::default();
    for (path, item) in members(document, "/paths") {
        paths.named(2, path, path_item(item));
    }
    out.message(8, paths);
    let mut definitions = Writer::default();
    for (name, definition) in members(document, "/definitions") {
        definitions.named(1, name, schema(definition));
    }
    out.message(9, definitions);
    out.0
}

fn members<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

fn path_item(item: &Value) -> Writer {
    let mut out = Writer::default();
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(found) = item.get(method) {
            out.message(field, operation(found));
        }
    }
    for found in list_at(item, "/parameters") {
        out.message(9, parameter(found));
    }
    out
}

fn operation(operation: &Value) -> Writer {
    let mut out = Writer::default();
    out.texts(1, list_at(operation, "/tags"));
    out.text(3, str_at(operation, "/description"));
    out.text(5, str_at(operation, "/operationId"));
    out.texts(6, list_at(operation, "/produces"));
    out.texts(7, list_at(operation, "/consumes"));
    for found in list_at(operation, "/parameters") {
        out.message(8, parameter(found));
    }
    let mut responses = Writer::default();
    for (code, found) in members(operation, "/responses") {
        let mut response = Writer::default();
        response.text(1, str_at(found, "/description"));
        if let Some(found) = found.get("schema") {
            let mut item = Writer::default();
            item.message(1, schema(found));
            response.message(2, item);
        }
        let mut value = Writer::default();
        value.message(1, response);
        responses.named(1, code, value);
    }
    out.message(9, responses);
    out.texts(10, list_at(operation, "/schemes"));
    out.extensions(13, operation);
    out
}

/// `ParametersItem { Parameter { BodyParameter | NonBodyParameter { query | path } } }`
fn parameter(parameter: &Value) -> Writer {
    let place = str_at(parameter, "/in");
    let required = parameter["required"] == true;
    let mut own = Writer::default();
    let mut choice = Writer::default();
    if place == "body" {
        own.text(1, str_at(parameter, "/description"));
        own.text(2, str_at(parameter, "/name"));
        own.text(3, place);
        own.flag(4, required);
        own.message(5, schema(&parameter["schema"]));
        choice.message(1, own);
    } else {
        own.flag(1, required);
        own.text(2, place);
        own.text(3, str_at(parameter, "/description"));
        own.text(4, str_at(parameter, "/name"));
        // A query parameter has allowEmptyValue before its type, a path parameter has not.
        own.text(if place == "query" { 6 } else { 5 }, str_at(parameter, "/type"));
        let mut non_body = Writer::default();
        non_body.message(if place == "query" { 3 } else { 4 }, own);
        choice.message(2, non_body);
    }
    let mut item = Writer::default();
    item.message(1, choice);
    item
}

fn schema(found: &Value) -> Writer {
    let mut out = Writer::default();
    out.text(1, str_at(found, "/$ref"));
    out.text(2, str_at(found, "/format"));
    out.text(4, str_at(found, "/description"));
    out.texts(19, list_at(found, "/required"));
    if let Some(additional) = found.get("additionalProperties") {
        let mut item = Writer::default();
        item.message(1, schema(additional));
        out.message(21, item);
    }
    if let Some(ty) = found.get("type").and_then(Value::as_str) {
        let mut item = Writer::default();
        item.text(1, ty);
        out.message(22, item);
    }
    if let Some(items) = found.get("items") {
        let mut item = Writer::default();
        item.message(1, schema(items));
        out.message(23, item);
    }
    if found.get("properties").is_some() {
        let mut properties = Writer::default();
        for (name, property) in members(found, "/properties") {
            properties.named(1, name, schema(property));
        }
        out.message(25, properties);
    }
    out.extensions(31, found);
    out
}
