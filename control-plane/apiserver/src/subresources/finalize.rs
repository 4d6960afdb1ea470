//! `namespaces/NAME/finalize`: changes `spec.finalizers` alone; without any left, a deleted namespace goes.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use skiff_api::status::ApiResult;

use super::scope;
use crate::body::Body;
use crate::handlers::update;
use crate::plugins::{PluginRequest, Subresource};
use crate::server::ApiServer;

pub struct Finalize;

#[async_trait]
impl Subresource for Finalize {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["namespaces"]
    }
    fn subresource(&self) -> &'static str {
        "finalize"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let (scope, body) = scope(server, request, "finalize")?;
        update::handle(scope, body).await
    }
}
