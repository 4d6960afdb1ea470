//! YAML bodies.

use super::{CodecError, Decoded};
use crate::schema::Message;

/// Decodes a YAML (or JSON) body.
pub fn decode(body: &[u8], message: Option<&'static Message>) -> Result<Decoded, CodecError> {
    super::json::decode(body, message)
}
