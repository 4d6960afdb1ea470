//! Protobuf → JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::json::{micro_time_value, number_from_float, raw_json, schema_of, time_value};
use super::super::{CodecError, DEPTH_MAX, OBJECTS_MAX, zero};
use super::wire::{Reader, Wire, error};
use crate::quantity::Quantity;
use crate::schema::{Codec, Field, Message, Type};
use crate::time;

type Result<T> = std::result::Result<T, CodecError>;

pub(super) fn message(message: &'static Message, bytes: &[u8]) -> Result<Value> {
    let mut decoder = Decoder { depth: 0, objects: 0 };
    let value = decoder.message(message, bytes, None)?;
    Ok(if value.is_null() {
        zero::of_message(message)
    } else {
        value
    })
}

struct Decoder {
    depth: usize,
    objects: usize,
}

impl Decoder {
    fn message(&mut self, message: &'static Message, bytes: &[u8], old: Option<Value>) -> Result<Value> {
        if message.codec != Codec::Struct {
            return self.special(message, bytes);
        }
        let mut map = match old {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        self.fields(message, bytes, &mut map)?;
        zero::fill(message, &mut map);
        self.count(&map)?;
        Ok(Value::Object(map))
    }

    /// Bounds the memory that a small body can ask for.
    fn count(&mut self, map: &Map<String, Value>) -> Result<()> {
        self.objects += usize::from(!map.is_empty());
        if self.objects > OBJECTS_MAX {
            Err(CodecError::TooManyValues)
        } else {
            Ok(())
        }
    }

    /// Reads the fields of a struct into the JSON object; those of inlined messages go into the same one.
    fn fields(&mut self, message: &'static Message, bytes: &[u8], map: &mut Map<String, Value>) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(CodecError::TooDeep);
        }
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            let Some(field) = message.field_by_number(number) else {
                continue;
            };
            match (field.ty, field.inline) {
                (Type::Message(inner), true) => self.fields(inner, wire.bytes()?, map)?,
                _ => self.field(field, wire, map)?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(&mut self, field: &'static Field, wire: Wire<'_>, map: &mut Map<String, Value>) -> Result<()> {
        if field.repeated {
            let slot = map.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = slot else {
                unreachable!("a repeated field only ever gets a list")
            };
            return self.items(&field.ty, wire, items);
        }
        if let Type::Map(value_type) = field.ty {
            let (key, value) = self.entry(value_type, wire)?;
            let slot = map.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = slot else {
                unreachable!("a map field only ever gets an object")
            };
            if entries.is_empty() {
                self.objects += 1;
            }
            entries.insert(key, value);
            return Ok(());
        }
        let old = map.remove(field.json);
        let value = self.value(&field.ty, wire, old)?;
        // What a pointer points to is written even if it is null (an empty raw extension).
        if field.pointer || !zero::is_left_out(field, &value) {
            map.insert(field.json.to_owned(), value);
        }
        Ok(())
    }

    fn items(&mut self, ty: &Type, wire: Wire<'_>, items: &mut Vec<Value>) -> Result<()> {
        match (ty, wire) {
            // Numbers may come packed, though Kubernetes does not write them so.
            (Type::Bool | Type::Int32 | Type::Int64, Wire::Bytes(bytes)) => {
                let mut reader = Reader::new(bytes);
                while let Some(number) = reader.packed()? {
                    items.push(self.value(ty, Wire::Varint(number), None)?);
                }
            }
            _ => {
                let value = self.value(ty, wire, None)?;
                items.push(if value.is_null() { zero::of_type(ty) } else { value });
            }
        }
        Ok(())
    }

    fn entry(&mut self, ty: &Type, wire: Wire<'_>) -> Result<(String, Value)> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(wire.bytes()?);
        while let Some((number, wire)) = reader.field()? {
            match number {
                1 => key = wire.text()?.to_owned(),
                2 => value = Some(self.value(ty, wire, None)?),
                _ => {}
            }
        }
        let value = match (value, ty) {
            (Some(value), _) if !value.is_null() => value,
            (_, Type::Bytes) => String::new().into(),
            _ => zero::of_type(ty),
        };
        Ok((key, value))
    }

    fn value(&mut self, ty: &Type, wire: Wire<'_>, old: Option<Value>) -> Result<Value> {
        Ok(match ty {
            Type::String => wire.text()?.into(),
            Type::Bytes => STANDARD.encode(wire.bytes()?).into(),
            Type::Bool => (wire.varint()? != 0).into(),
            Type::Int32 => (wire.varint()? as i32).into(),
            Type::Int64 => (wire.varint()? as i64).into(),
            Type::Double => match wire {
                Wire::Fixed64(bits) => number_from_float(f64::from_bits(bits))
                    .ok_or_else(|| error("json: unsupported value: not a finite number"))?,
                _ => return Err(error("proto: wrong wireType")),
            },
            Type::Message(message) => return self.message(message, wire.bytes()?, old),
            Type::Any | Type::Map(_) => return Err(error("proto: a value of this type is not in protobuf")),
        })
    }

    fn special(&mut self, message: &'static Message, bytes: &[u8]) -> Result<Value> {
        // All of these are small messages with at most three fields; the numbers are those of the table.
        let mut reader = Reader::new(bytes);
        let (mut numbers, mut texts) = ([0u64; 3], [None::<Wire<'_>>; 3]);
        let mut list = Vec::new();
        while let Some((number, wire)) = reader.field()? {
            let Some(slot) = (number as usize).checked_sub(1).filter(|slot| *slot < 3) else {
                continue;
            };
            match (message.codec, slot, wire) {
                (Codec::BareList, 0, _) | (Codec::SchemaOrStringArray, 1, _) => list.push(wire.text()?.into()),
                (Codec::SchemaOrArray, 1, _) => {
                    let item = self.nested_schema(message, wire)?;
                    list.push(item);
                }
                (_, _, Wire::Varint(number)) => numbers[slot] = number,
                _ => texts[slot] = Some(wire),
            }
        }
        match message.codec {
            Codec::Time | Codec::MicroTime if bytes.is_empty() => Ok(Value::Null),
            Codec::Time => checked_seconds(numbers[0] as i64).map(time_value),
            Codec::MicroTime => {
                let nanos = u32::try_from(numbers[1]).ok().filter(|nanos| *nanos < 1_000_000_000);
                let nanos = nanos.ok_or_else(|| error("proto: nanoseconds out of range"))?;
                Ok(micro_time_value(checked_seconds(numbers[0] as i64)?, nanos))
            }
            Codec::Duration => Ok(time::format_go_duration(numbers[0] as i64).into()),
            Codec::Quantity => match text(texts[0])? {
                "" => Ok("0".into()),
                text => Quantity::parse(text)
                    .map(|quantity| quantity.to_string().into())
                    .map_err(|error| CodecError::Protobuf(error.to_string())),
            },
            Codec::IntOrString if numbers[0] == 1 => Ok(text(texts[2])?.into()),
            Codec::IntOrString => Ok((numbers[1] as i32).into()),
            Codec::RawJson => match texts[0].map(Wire::bytes).transpose()? {
                None | Some([]) => Ok(Value::Null),
                Some(json) => raw_json(json),
            },
            Codec::BareList => Ok(Value::Array(list)),
            Codec::SchemaOrArray | Codec::SchemaOrStringArray if !list.is_empty() => Ok(Value::Array(list)),
            Codec::SchemaOrArray | Codec::SchemaOrStringArray => match texts[0] {
                Some(schema) => self.nested_schema(message, schema),
                None => Ok(Value::Null),
            },
            Codec::SchemaOrBool => match texts[1] {
                Some(schema) => self.nested_schema(message, schema),
                None => Ok((numbers[0] != 0).into()),
            },
            Codec::Struct => unreachable!("structs are decoded by their fields"),
        }
    }

    fn nested_schema(&mut self, union: &'static Message, wire: Wire<'_>) -> Result<Value> {
        self.message(schema_of(union), wire.bytes()?, None)
    }
}

fn text(wire: Option<Wire<'_>>) -> Result<&str> {
    wire.map_or(Ok(""), Wire::text)
}

/// Times that RFC 3339 can write: years 0 to 9999.
fn checked_seconds(seconds: i64) -> Result<i64> {
    if time::RFC3339_SECONDS.contains(&seconds) {
        Ok(seconds)
    } else {
        Err(error("Time.MarshalJSON: year outside of range [0,9999]"))
    }
}
