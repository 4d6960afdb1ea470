//! Messages of the field table as OpenAPI schemas, in the forms of v2 and v3.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use skiff_api::schema::{Codec, Field, ListType, MapType, Message, Schema, Type};

use super::descriptions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

/// The schemas that a document needs: those asked for and all that they refer to.
pub(super) struct Schemas {
    dialect: Dialect,
    done: BTreeMap<String, Value>,
    waiting: BTreeSet<&'static str>,
}

/// Name of the schema of patch bodies.
const PATCH: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.Patch";

impl Schemas {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            done: BTreeMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// A reference to the schema of a kind, which becomes part of the document.
    pub(super) fn reference(&mut self, group: &str, version: &str, kind: &str) -> Value {
        match Schema::get().message_for(group, version, kind) {
            Some(message) => self.reference_to(message),
            None => json!({"type": "object"}),
        }
    }

    /// A reference to a message of `meta.k8s.io/v1` that is not necessarily a kind.
    pub(super) fn meta_reference(&mut self, name: &str) -> Value {
        let full_name = format!("k8s.io.apimachinery.pkg.apis.meta.v1.{name}");
        match Schema::get().message(&full_name) {
            Some(message) => self.reference_to(message),
            None => json!({"type": "object"}),
        }
    }

    pub(super) fn finish(mut self) -> Value {
        while let Some(name) = self.waiting.pop_first() {
            if let Some(message) = Schema::get().message(name) {
                let schema = self.message_schema(message);
                self.done.insert(message.openapi_name(), schema);
            }
        }
        self.done.into_iter().collect::<Map<_, _>>().into()
    }

    fn reference_to(&mut self, message: &'static Message) -> Value {
        let name = message.openapi_name();
        if !self.done.contains_key(&name) {
            // Reserves the place, so that recursion ends.
            self.done.insert(name.clone(), Value::Null);
            self.waiting.insert(message.full_name);
        }
        match self.dialect {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }

    fn message_schema(&mut self, message: &'static Message) -> Value {
        let mut schema = self.body_of(message);
        if let Some(text) = descriptions::of_message(message.name) {
            schema["description"] = text.into();
        }
        if message.map_type == Some(MapType::Atomic) {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if message.is_kind {
            let kind = json!({"group": message.group, "kind": message.name, "version": message.version});
            let kinds: Vec<Value> = if message.package == "k8s.io.apimachinery.pkg.apis.meta.v1" {
                vec![json!({"group": "", "kind": message.name, "version": "v1"})]
            } else {
                vec![kind]
            };
            schema["x-kubernetes-group-version-kind"] = kinds.into();
        }
        schema
    }

    fn body_of(&mut self, message: &'static Message) -> Value {
        if message.full_name == PATCH {
            return json!({"type": "object"});
        }
        let one_of = |types: [&str; 2]| json!(types.map(|t| json!({"type": t})));
        match (message.codec, self.dialect) {
            (Codec::Time | Codec::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
            (Codec::Duration, _) | (Codec::Quantity, Dialect::V2) => json!({"type": "string"}),
            (Codec::Quantity, Dialect::V3) => json!({"oneOf": one_of(["string", "number"])}),
            (Codec::IntOrString, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
            (Codec::IntOrString, Dialect::V3) => {
                json!({"oneOf": one_of(["integer", "string"]), "format": "int-or-string"})
            }
            (Codec::RawJson, _) if message.name == "JSON" => json!({}),
            (Codec::RawJson, _) => json!({"type": "object"}),
            (Codec::BareList, _) => json!({"type": "array", "items": {"type": "string"}}),
            (Codec::SchemaOrArray | Codec::SchemaOrBool | Codec::SchemaOrStringArray, _) => json!({}),
            (Codec::Struct, _) => self.struct_schema(message),
        }
    }

    fn struct_schema(&mut self, message: &'static Message) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.json_fields() {
            properties.insert(field.json.to_owned(), self.field_schema(message, field));
            if field.required {
                required.push(field.json);
            }
        }
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            schema["properties"] = properties.into();
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    fn field_schema(&mut self, message: &Message, field: &Field) -> Value {
        let mut schema = if field.repeated {
            let mut item = self.value_schema(&field.ty);
            self.add_default(&mut item, zero(&field.ty));
            json!({"type": "array", "items": item})
        } else {
            self.value_schema(&field.ty)
        };
        let declared = field.default_value();
        if let Some(default) = declared {
            self.add_default(&mut schema, Some(default));
        } else if !field.repeated && !field.pointer {
            match &field.ty {
                // Go always writes a struct, so an empty one is what an absent one means.
                Type::Message(inner) if inner.codec == Codec::Struct => self.add_default(&mut schema, Some(json!({}))),
                Type::Message(_) | Type::Map(_) | Type::Any | Type::Bytes => {}
                scalar if !field.omitempty => self.add_default(&mut schema, zero(scalar)),
                _ => {}
            }
        }
        let mut set = |key: &str, value: Value| {
            let schema = with_siblings(&mut schema, self.dialect);
            schema.insert(key.to_owned(), value);
        };
        if let Some(text) = descriptions::of_field(message.name, field.json) {
            set("description", text.into());
        }
        let values = descriptions::values_of_field(message.name, field.json);
        if !values.is_empty() {
            set("enum", json!(values));
        }
        let strategies: Vec<&str> = [("merge", field.patch_merge), ("retainKeys", field.patch_retain_keys)]
            .into_iter()
            .filter_map(|(name, on)| on.then_some(name))
            .collect();
        if !strategies.is_empty() {
            set("x-kubernetes-patch-strategy", strategies.join(",").into());
        }
        if !field.patch_merge_key.is_empty() {
            set("x-kubernetes-patch-merge-key", field.patch_merge_key.into());
        }
        if let Some(list_type) = field.list_type {
            let name = match list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            set("x-kubernetes-list-type", name.into());
        }
        if !field.list_map_keys.is_empty() {
            set("x-kubernetes-list-map-keys", json!(field.list_map_keys));
        }
        match field.map_type {
            Some(MapType::Atomic) => set("x-kubernetes-map-type", "atomic".into()),
            Some(MapType::Granular) => set("x-kubernetes-map-type", "granular".into()),
            None => {}
        }
        schema
    }

    fn value_schema(&mut self, ty: &Type) -> Value {
        match ty {
            Type::String => json!({"type": "string"}),
            Type::Bytes => json!({"type": "string", "format": "byte"}),
            Type::Bool => json!({"type": "boolean"}),
            Type::Int32 => json!({"type": "integer", "format": "int32"}),
            Type::Int64 => json!({"type": "integer", "format": "int64"}),
            Type::Double => json!({"type": "number", "format": "double"}),
            Type::Any => json!({"type": "object"}),
            Type::Map(value) => json!({"type": "object", "additionalProperties": self.value_schema(value)}),
            // Not published as a schema of its own: shown in place.
            Type::Message(message) if message.codec == Codec::BareList => {
                json!({"type": "array", "items": {"type": "string"}})
            }
            Type::Message(message) => self.reference_to(message),
        }
    }

    /// Defaults exist in v3 only.
    fn add_default(&self, schema: &mut Value, default: Option<Value>) {
        if let (Dialect::V3, Some(default)) = (self.dialect, default) {
            with_siblings(schema, self.dialect).insert("default".into(), default);
        }
    }
}

/// The zero value that Go writes.
fn zero(ty: &Type) -> Option<Value> {
    match ty {
        Type::String => Some(json!("")),
        Type::Bool => Some(json!(false)),
        Type::Int32 | Type::Int64 | Type::Double => Some(json!(0)),
        Type::Message(message) if message.codec == Codec::Struct => Some(json!({})),
        _ => None,
    }
}

/// In v3 nothing may stand beside `$ref`, so it moves into `allOf`.
fn with_siblings(schema: &mut Value, dialect: Dialect) -> &mut Map<String, Value> {
    if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        let reference = schema.take();
        *schema = json!({"allOf": [reference]});
    }
    skiff_api::object::as_map(schema)
}
