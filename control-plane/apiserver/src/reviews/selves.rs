//! SelfSubjectReview: who am I (`kubectl auth whoami`).

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::json;
use skiff_api::status::ApiResult;
use skiff_api::{object, time};

use super::{answer, track_manager, user_json};
use crate::authn::unix_now;
use crate::body::Body;
use crate::plugins::{PluginRequest, Subresource};
use crate::server::ApiServer;

const GROUP: &str = "authentication.k8s.io";

pub struct SelfReview;

#[async_trait]
impl Subresource for SelfReview {
    fn group(&self) -> &'static str {
        GROUP
    }
    fn resources(&self) -> &'static [&'static str] {
        &["selfsubjectreviews"]
    }
    fn subresource(&self) -> &'static str {
        ""
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let mut review = request.object(server, GROUP, "v1", "SelfSubjectReview").await?;
        track_manager(&request, &mut review, "SelfSubjectReview", "");
        let status = json!({"userInfo": user_json(&request.user)});
        let mut answer = answer(review, GROUP, "SelfSubjectReview", status);
        let created = time::format_rfc3339(unix_now());
        object::metadata_mut(&mut answer).insert("creationTimestamp".into(), created.into());
        request.respond(201, &answer)
    }
}
