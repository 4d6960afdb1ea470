//! JSON → protobuf, byte for byte as Go writes it: fields ascending by number, scalars that are no pointers always.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::CodecError;
use super::super::json::schema_of;
use super::wire::{nested, write_bytes, write_fixed64, write_number};
use crate::quantity::Quantity;
use crate::schema::{Codec, Field, Message, Type};
use crate::time;

type Result<T> = std::result::Result<T, CodecError>;

/// The content of a message, without tag and length.
pub(super) fn message(message: &'static Message, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    if message.codec != Codec::Struct {
        return special(message, value, out);
    }
    if !matches!(value, Value::Object(_) | Value::Null) {
        return Err(misfit(message.name, value));
    }
    for field in message.proto_fields() {
        let number = field.number.expect("these are the fields with a number");
        match (field.ty, field.inline) {
            (Type::Message(inner), true) => nested(out, number, |out| self::message(inner, value, out))?,
            _ => {
                let value = value.get(field.json).filter(|value| !value.is_null());
                self::field(field, number, value, out)?;
            }
        }
    }
    Ok(())
}

fn field(field: &Field, number: u32, value: Option<&Value>, out: &mut Vec<u8>) -> Result<()> {
    if field.repeated {
        let Some(value) = value else { return Ok(()) };
        for item in value.as_array().ok_or_else(|| misfit(field.json, value))? {
            self::value(&field.ty, number, item, out)?;
        }
        return Ok(());
    }
    if let Type::Map(value_type) = field.ty {
        let Some(value) = value else { return Ok(()) };
        for (key, item) in value.as_object().ok_or_else(|| misfit(field.json, value))? {
            nested(out, number, |out| {
                write_bytes(out, 1, key.as_bytes());
                // Nil bytes have no value in their entry.
                if item.is_null() && matches!(value_type, Type::Bytes) {
                    return Ok(());
                }
                self::value(value_type, 2, item, out)
            })?;
        }
        return Ok(());
    }
    let is_bare_list = matches!(field.ty, Type::Message(m) if m.codec == Codec::BareList);
    match value {
        None if field.pointer || is_bare_list || matches!(field.ty, Type::Bytes) => Ok(()),
        None => self::value(&field.ty, number, &Value::Null, out),
        Some(value) => self::value(&field.ty, number, value, out),
    }
}

/// One value with its tag; null is the type's zero.
fn value(ty: &Type, number: u32, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match (ty, value) {
        (Type::Message(inner), _) => nested(out, number, |out| message(inner, value, out))?,
        (Type::String, Value::String(text)) => write_bytes(out, number, text.as_bytes()),
        (Type::String | Type::Bytes, Value::Null) => write_bytes(out, number, b""),
        (Type::Bytes, Value::String(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| misfit("bytes", value))?;
            write_bytes(out, number, &bytes);
        }
        (Type::Bool, Value::Bool(set)) => write_number(out, number, u64::from(*set)),
        (Type::Bool | Type::Int32 | Type::Int64, Value::Null) => write_number(out, number, 0),
        (Type::Int32 | Type::Int64, Value::Number(_)) => {
            // Negative numbers are written with 64 bits, for int32 too.
            let integer = value.as_i64().ok_or_else(|| misfit("integer", value))?;
            write_number(out, number, integer as u64);
        }
        (Type::Double, Value::Null) => write_fixed64(out, number, 0),
        (Type::Double, Value::Number(_)) => {
            write_fixed64(
                out,
                number,
                value.as_f64().ok_or_else(|| misfit("number", value))?.to_bits(),
            );
        }
        _ => return Err(misfit(&ty.go_name(), value)),
    }
    Ok(())
}

fn special(message: &'static Message, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    let text = || value.as_str().ok_or_else(|| misfit(message.name, value));
    match message.codec {
        // A zero time is an empty message.
        Codec::Time | Codec::MicroTime if value.is_null() => {}
        Codec::Time => {
            let seconds = time::parse_rfc3339(text()?).ok_or_else(|| misfit(message.name, value))?;
            write_number(out, 1, seconds as u64);
            write_number(out, 2, 0);
        }
        Codec::MicroTime => {
            let micros = time::parse_rfc3339_micros(text()?).ok_or_else(|| misfit(message.name, value))?;
            write_number(out, 1, micros.div_euclid(1_000_000) as u64);
            write_number(out, 2, (micros.rem_euclid(1_000_000) * 1000) as u64);
        }
        Codec::Duration => {
            let nanos = if value.is_null() {
                Some(0)
            } else {
                time::parse_go_duration(text()?)
            };
            write_number(out, 1, nanos.ok_or_else(|| misfit(message.name, value))? as u64);
        }
        Codec::Quantity => {
            let quantity = match value {
                Value::Null => Ok(Quantity::ZERO),
                Value::Number(number) => Quantity::parse(&number.to_string()),
                _ => Quantity::parse(text()?),
            };
            let quantity = quantity.map_err(|error| CodecError::Protobuf(error.to_string()))?;
            write_bytes(out, 1, quantity.to_string().as_bytes());
        }
        Codec::IntOrString => {
            let (kind, integer, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                Value::Null => (0, 0, ""),
                _ => (0, value.as_i64().ok_or_else(|| misfit(message.name, value))?, ""),
            };
            write_number(out, 1, kind);
            write_number(out, 2, integer as u64);
            write_bytes(out, 3, text.as_bytes());
        }
        Codec::RawJson => {
            if !value.is_null() {
                let json = serde_json::to_vec(value).expect("a JSON value always has a JSON text");
                write_bytes(out, 1, &json);
            }
        }
        Codec::BareList => strings(1, value, out)?,
        Codec::SchemaOrArray => match value {
            Value::Null => {}
            Value::Array(items) => {
                for item in items {
                    schema(message, 2, item, out)?;
                }
            }
            _ => schema(message, 1, value, out)?,
        },
        Codec::SchemaOrBool => match value {
            Value::Null => write_number(out, 1, 0),
            Value::Bool(allows) => write_number(out, 1, u64::from(*allows)),
            _ => {
                write_number(out, 1, 1);
                schema(message, 2, value, out)?;
            }
        },
        Codec::SchemaOrStringArray => match value {
            Value::Null => {}
            Value::Array(_) => strings(2, value, out)?,
            _ => schema(message, 1, value, out)?,
        },
        Codec::Struct => unreachable!("structs are encoded by their fields"),
    }
    Ok(())
}

fn schema(union: &'static Message, number: u32, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    nested(out, number, |out| message(schema_of(union), value, out))
}

fn strings(number: u32, list: &Value, out: &mut Vec<u8>) -> Result<()> {
    for item in list.as_array().into_iter().flatten() {
        value(&Type::String, number, item, out)?;
    }
    Ok(())
}

fn misfit(what: &str, value: &Value) -> CodecError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    CodecError::Protobuf(format!("proto: {kind} cannot be written as {what}"))
}
