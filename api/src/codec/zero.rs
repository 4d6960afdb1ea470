//! What Go writes for fields that were never set, and which set values it leaves out. Shared by the JSON and protobuf
//! decoders.

use serde_json::{Map, Value};

use crate::schema::{Codec, Field, Message, Type};

/// The value of a map entry or list item that is null or missing.
pub(super) fn of_type(ty: &Type) -> Value {
    match ty {
        Type::String => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Double => Value::from(0),
        Type::Bytes | Type::Any | Type::Map(_) => Value::Null,
        Type::Message(message) => of_message(message),
    }
}

/// A message in which nothing is set.
pub(super) fn of_message(message: &'static Message) -> Value {
    match message.codec {
        Codec::Struct => {
            let mut map = Map::new();
            fill(message, &mut map);
            Value::Object(map)
        }
        Codec::Duration => "0s".into(),
        Codec::Quantity => "0".into(),
        Codec::IntOrString => 0.into(),
        Codec::SchemaOrBool => false.into(),
        Codec::Time
        | Codec::MicroTime
        | Codec::RawJson
        | Codec::BareList
        | Codec::SchemaOrArray
        | Codec::SchemaOrStringArray => Value::Null,
    }
}

/// Adds to an object what Go always writes and `map` does not have.
pub(super) fn fill(message: &'static Message, map: &mut Map<String, Value>) {
    for field in message.always_written() {
        if !map.contains_key(field.json) {
            let zero = if field.pointer || field.repeated {
                Value::Null
            } else {
                of_type(&field.ty)
            };
            map.insert(field.json.to_owned(), zero);
        }
    }
}

/// The value is what the field holds anyway (null), or `omitempty` drops it: it is not written, unless always.
pub(super) fn is_left_out(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if field.pointer || !field.omitempty => false,
        Value::Bool(set) => matches!(field.ty, Type::Bool) && !set,
        Value::Number(number) => !matches!(field.ty, Type::Message(_)) && number.as_f64() == Some(0.0),
        Value::String(text) => !matches!(field.ty, Type::Message(_)) && text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => matches!(field.ty, Type::Map(_)) && map.is_empty(),
    }
}
