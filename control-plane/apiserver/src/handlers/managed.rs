//! managedFields: writes that are not apply own what they change; apply (server-side) owns what it names.

use bytes::Bytes;
use serde_json::Value;
use skiff_api::status::{ApiResult, ApiStatus};

use super::write::Write;

/// Brings `metadata.managedFields` of `new` up to date.
pub fn track(_write: &Write<'_>, _live: Option<&Value>, _new: &mut Value) -> ApiResult<()> {
    Ok(())
}

/// Server-side apply; 201 when it created the object.
pub async fn apply(_write: &mut Write<'_>, _document: &Bytes) -> ApiResult<(u16, Bytes)> {
    Err(ApiStatus::unsupported_media_type("apply is not served"))
}
