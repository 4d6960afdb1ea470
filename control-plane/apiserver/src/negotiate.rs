//! Which form an answer takes.

use hyper::Response;
use hyper::http::request::Parts;
use serde_json::Value;
use skiff_api::status::ApiResult;

use crate::body::Body;

/// An object in the form that the client accepts.
pub fn respond_object(_parts: &Parts, code: u16, object: &Value) -> ApiResult<Response<Body>> {
    let mut response = Response::new(Body::full(object.to_string()));
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
