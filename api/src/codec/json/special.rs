//! Types that decode themselves in Go: times, quantities, int-or-string, raw JSON and the unions of CRD schemas.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::{CodecError, zero};
use super::path::Path;
use super::typed::Decoder;
use crate::quantity::Quantity;
use crate::schema::{Codec, Message, Type};
use crate::time;

type Result<T> = std::result::Result<T, CodecError>;

impl Decoder<'_> {
    /// A value of a message that is no plain struct; null if it is null or does not fit.
    pub(super) fn special(&mut self, message: &'static Message, path: &Path) -> Result<Value> {
        match (message.codec, self.scan.peek()?) {
            (Codec::BareList, _) => self.list(&Type::String, path),
            (Codec::RawJson, _) => self.free(path, false),
            (_, b'n') => self.null(),
            (Codec::Time | Codec::MicroTime | Codec::Duration, b'"') => self.time(message.codec),
            (Codec::Time | Codec::MicroTime | Codec::Duration, _) => {
                let kind = self.skip_naming()?;
                self.fatal_mismatch(kind, path, "string");
                Ok(Value::Null)
            }
            (Codec::Quantity, b'"') => {
                let text = self.scan.string()?;
                Ok(self.quantity(&text))
            }
            (Codec::Quantity, _) => {
                let text = self.scan.raw()?;
                Ok(self.quantity(text))
            }
            (Codec::IntOrString, b'"') => Ok(Value::String(self.scan.string()?.into_owned())),
            (Codec::IntOrString, b'-' | b'0'..=b'9') => {
                let text = self.scan.number()?;
                Ok(text.parse::<i32>().map(Value::from).unwrap_or_else(|_| {
                    self.fatal_mismatch(&format!("number {text}"), path, "int32");
                    Value::Null
                }))
            }
            (Codec::IntOrString, _) => {
                let kind = self.skip_naming()?;
                self.fatal_mismatch(kind, path, "int32");
                Ok(Value::Null)
            }
            (_, token) => self.schema_union(message, token, path),
        }
    }

    fn time(&mut self, codec: Codec) -> Result<Value> {
        let text = self.scan.string()?;
        let value = match codec {
            Codec::Duration => match time::parse_go_duration(&text) {
                Some(nanos) => Ok(time::format_go_duration(nanos).into()),
                None => Err(format!("time: invalid duration {text:?}")),
            },
            Codec::Time => time::go_parse(&text, time::RFC3339_LAYOUT).map(|parsed| time_value(parsed.seconds)),
            _ => time::go_parse(&text, time::RFC3339_MICRO_LAYOUT)
                .map(|parsed| micro_time_value(parsed.seconds, parsed.nanos)),
        };
        Ok(value.unwrap_or_else(|error| {
            self.fatal(error);
            Value::Null
        }))
    }

    fn quantity(&mut self, text: &str) -> Value {
        match Quantity::parse(text.trim()) {
            Ok(quantity) => quantity.to_string().into(),
            Err(error) => {
                self.fatal(error.to_string());
                Value::Null
            }
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Value> {
        let text = self.scan.string()?;
        // Line breaks are allowed, as in Go.
        let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        match STANDARD.decode(&clean) {
            Ok(_) => Ok(Value::String(clean)),
            Err(error) => {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => clean.len(),
                };
                self.mismatch_text(format!("illegal base64 data at input byte {at}"));
                Ok(Value::Null)
            }
        }
    }

    /// JSONSchemaProps or something else. What is inside is decoded without strictness, as in Go.
    fn schema_union(&mut self, message: &'static Message, token: u8, path: &Path) -> Result<Value> {
        let schema = schema_of(message);
        let was_quiet = std::mem::replace(&mut self.quiet, true);
        let value = match (message.codec, token) {
            (_, b'{') => self.message(schema, path, None)?,
            (Codec::SchemaOrBool, b't') => self.scan.literal("true").map(|()| Value::Bool(true))?,
            (Codec::SchemaOrBool, b'f') => self.scan.literal("false").map(|()| Value::Bool(false))?,
            (Codec::SchemaOrArray, b'[') => or_null(self.list(&Type::Message(schema), path)?),
            (Codec::SchemaOrStringArray, b'[') => or_null(self.list(&Type::String, path)?),
            (Codec::SchemaOrBool, _) => {
                self.skip_naming()?;
                self.fatal("boolean or JSON schema expected".to_owned());
                Value::Null
            }
            _ => {
                self.skip_naming()?;
                zero::of_message(message)
            }
        };
        self.quiet = was_quiet;
        Ok(value)
    }
}

/// An empty list is written as null.
fn or_null(list: Value) -> Value {
    if list.as_array().is_some_and(Vec::is_empty) {
        Value::Null
    } else {
        list
    }
}

/// The JSONSchemaProps message of a union.
pub(in crate::codec) fn schema_of(union: &'static Message) -> &'static Message {
    union
        .fields()
        .iter()
        .find_map(|field| field.message())
        .expect("a schema union has a field of the schema's type")
}

/// A time as Go prints it; its zero is null.
pub(in crate::codec) fn time_value(seconds: i64) -> Value {
    if seconds == time::GO_ZERO_SECONDS {
        Value::Null
    } else {
        time::format_rfc3339(seconds).into()
    }
}

/// Likewise with six digits of fraction.
pub(in crate::codec) fn micro_time_value(seconds: i64, nanos: u32) -> Value {
    if seconds == time::GO_ZERO_SECONDS && nanos == 0 {
        return Value::Null;
    }
    match seconds.checked_mul(1_000_000) {
        Some(micros) => time::format_micro(micros + i64::from(nanos / 1000)).into(),
        None => Value::Null,
    }
}
