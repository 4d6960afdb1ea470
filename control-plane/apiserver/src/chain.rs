//! The filters that every request passes, in order.

use std::sync::Arc;

use hyper::{Request, Response};
use skiff_api::status::ApiStatus;

use crate::authn::UserInfo;
use crate::body::{Body, RequestBody};
use crate::server::ApiServer;

/// Everything after authentication.
pub async fn handle_as(_server: &Arc<ApiServer>, request: Request<RequestBody>, _user: UserInfo) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let status = ApiStatus::no_such_path();
    crate::negotiate::respond_object(&parts, status.code, &status.to_json()).expect("JSON is always acceptable here")
}
