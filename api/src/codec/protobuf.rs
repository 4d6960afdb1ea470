//! Protobuf ⇄ JSON over the field table, with Kubernetes' envelope.
//!
//! kubectl since 1.32 and helm since 4 send protobuf for everything typed. What comes out of [`decode`] is what Go would
//! print as JSON for the same object; fields that the table does not know are dropped, as in Go.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod wire;

use serde_json::Value;

use super::CodecError;
use crate::schema::{Message, Schema};
use wire::{Reader, Wire};

/// What every protobuf body of Kubernetes starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The body has the protobuf envelope.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(&MAGIC)
}

/// What the envelope says: kind and object bytes.
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

/// The `apiVersion` and `kind` in the envelope; both may be empty.
pub fn type_of(body: &[u8]) -> Result<(&str, &str), CodecError> {
    open(body).map(|envelope| (envelope.api_version, envelope.kind))
}

/// Decodes an enveloped object. Errors: `Protobuf` for bytes that do not parse, `UnknownKind`, `TooDeep`, `TooManyValues`.
pub fn decode(body: &[u8]) -> Result<Value, CodecError> {
    decode_with_default(body, None)
}

/// The same, with the message to assume if the envelope does not name a kind.
pub fn decode_with_default(body: &[u8], default: Option<&'static Message>) -> Result<Value, CodecError> {
    let envelope = open(body)?;
    let message = match default {
        Some(message) if envelope.kind.is_empty() => message,
        _ => message_of(envelope.api_version, envelope.kind)?,
    };
    let mut value = decode::message(message, envelope.raw)?;
    if let (Some(map), true) = (value.as_object_mut(), message.field("kind").is_some()) {
        for (key, text) in [("kind", envelope.kind), ("apiVersion", envelope.api_version)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), text.into());
            }
        }
    }
    Ok(value)
}

/// Encodes an object, whose own `apiVersion` and `kind` say what it is, with the envelope. The object should be normalised
/// (see `codec::json`); a value that does not fit its field is an error.
pub fn encode(object: &Value) -> Result<Vec<u8>, CodecError> {
    let message = message_of(crate::object::api_version(object), crate::object::kind(object))?;
    encode_as(object, message)
}

/// The same for a known message (a WatchEvent names no kind).
pub fn encode_as(object: &Value, message: &'static Message) -> Result<Vec<u8>, CodecError> {
    let mut out = MAGIC.to_vec();
    wire::nested(&mut out, 1, |out| {
        wire::write_bytes(out, 1, crate::object::api_version(object).as_bytes());
        wire::write_bytes(out, 2, crate::object::kind(object).as_bytes());
        Ok(())
    })?;
    wire::nested(&mut out, 2, |out| encode::message(message, object, out))?;
    // Content encoding and content type are always written, empty.
    wire::write_bytes(&mut out, 3, b"");
    wire::write_bytes(&mut out, 4, b"");
    Ok(out)
}

fn message_of(api_version: &str, kind: &str) -> Result<&'static Message, CodecError> {
    Schema::get()
        .message_for_api_version(api_version, kind)
        .filter(|message| message.in_proto)
        .ok_or_else(|| CodecError::UnknownKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        })
}

fn open(body: &[u8]) -> Result<Envelope<'_>, CodecError> {
    let Some(unknown) = body.strip_prefix(&MAGIC) else {
        return Err(CodecError::Protobuf(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned(),
        ));
    };
    let mut envelope = Envelope {
        api_version: "",
        kind: "",
        raw: &[],
    };
    let mut reader = Reader::new(unknown);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Wire::Bytes(type_meta)) => {
                let mut reader = Reader::new(type_meta);
                while let Some((number, value)) = reader.field()? {
                    match number {
                        1 => envelope.api_version = value.text()?,
                        2 => envelope.kind = value.text()?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}
