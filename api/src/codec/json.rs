//! Strict JSON over the field table: one pass that parses, checks types, drops and lists unknown fields, finds duplicates
//! and brings every value into the form in which Go would print it.

mod path;
mod scan;
mod special;
#[cfg(test)]
mod tests;
mod typed;
mod write;

use serde_json::Value;

use super::{CodecError, Decoded};
use crate::schema::Message;

pub use write::{go_text, patched_text};

pub(super) use special::{micro_time_value, schema_of, time_value};

/// Decodes a JSON body.
///
/// With a message, the value is what Go would print after decoding: unknown fields are dropped (and listed), `null` and
/// empty optional fields are gone, fields that Go always writes are there, times are UTC in seconds, quantities
/// canonical. Without one (custom resources, patches) the value is the body; duplicate keys are listed, the last one wins.
///
/// Errors: `Syntax`, `TooDeep`, and `Type` for a value that does not fit its field. As in Go, a syntax error anywhere wins
/// over a type error, and of type errors the first is told. Bytes that are no UTF-8 become U+FFFD.
pub fn decode(body: &[u8], message: Option<&'static Message>) -> Result<Decoded, CodecError> {
    let text = String::from_utf8_lossy(body);
    typed::Decoder::new(&text).run(message)
}

/// The same for a value that is already parsed, such as the outcome of a patch.
pub fn decode_value(value: &Value, message: &'static Message) -> Result<Decoded, CodecError> {
    let body = serde_json::to_vec(value).expect("a JSON value always has a JSON text");
    decode(&body, Some(message))
}

/// What Go would print after decoding `value`: [`decode_value`] without the list of problems.
pub fn normalize(value: &Value, message: &'static Message) -> Result<Value, CodecError> {
    decode_value(value, message).map(|decoded| decoded.value)
}

/// JSON text inside of another format. No problems are listed.
pub(super) fn raw_json(text: &[u8]) -> Result<Value, CodecError> {
    decode(text, None).map(|decoded| decoded.value)
}

/// A number from its JSON text, as an integer if it is whole (Go prints `1.0` as `1`); none if it is out of range.
pub(super) fn number_from_text(text: &str) -> Option<Value> {
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    number_from_float(text.parse().ok()?)
}

/// A float as a JSON number; none for infinities and NaN.
pub(super) fn number_from_float(float: f64) -> Option<Value> {
    /// Whole floats below 2^53 are exact integers.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() <= EXACT_MAX {
        return Some((float as i64).into());
    }
    serde_json::Number::from_f64(float).map(Value::Number)
}
