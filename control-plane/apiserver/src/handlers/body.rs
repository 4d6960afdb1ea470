//! Request bodies: reading within the limits, decoding by Content-Type.

use http_body_util::BodyExt;
use hyper::http::request::Parts;
use serde_json::Value;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::RequestBody;
use crate::server::ApiServer;

/// Reads and decodes an object.
pub async fn read_object(
    _server: &ApiServer,
    _parts: &Parts,
    body: &mut RequestBody,
    _group: &str,
    _version: &str,
    _kind: &str,
) -> ApiResult<Value> {
    let bytes = body.collect().await.map_err(|e| ApiStatus::bad_request(e.to_string()))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| ApiStatus::bad_request(e.to_string()))
}
