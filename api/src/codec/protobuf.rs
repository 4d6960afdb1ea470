//! Protobuf over the field table.

use serde_json::Value;

use super::CodecError;

/// What every protobuf body of Kubernetes starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The body has the protobuf envelope.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(&MAGIC)
}

/// Decodes an enveloped object.
pub fn decode(body: &[u8]) -> Result<Value, CodecError> {
    Err(CodecError::Protobuf(format!("{} bytes", body.len())))
}

/// Encodes an object with its envelope.
pub fn encode(object: &Value) -> Result<Vec<u8>, CodecError> {
    Err(CodecError::Protobuf(object.to_string()))
}
