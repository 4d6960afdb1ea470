//! `pods/NAME/eviction`: a delete that disruption budgets may refuse. (There are no budgets yet, so nothing refuses.)

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::object::{self, map_entry, str_at};
use skiff_api::status::{ApiResult, ApiStatus};

use super::{scope, success};
use crate::body::Body;
use crate::clock;
use crate::handlers::delete::delete_one;
use crate::handlers::options::DeleteOptions;
use crate::kinds::pod::has_ended;
use crate::negotiate::Form;
use crate::plugins::{PluginRequest, Subresource};
use crate::server::ApiServer;

pub struct Eviction;

#[async_trait]
impl Subresource for Eviction {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }
    fn subresource(&self) -> &'static str {
        "eviction"
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let form = Form::negotiate(&request.parts, false)?;
        let eviction = request.object(server, "", "", "").await?;
        check_kind(&eviction)?;
        let name = request.info.name.clone();
        if object::name(&eviction) != name {
            return Err(ApiStatus::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let dry_run = request.dry_run();
        let (scope, _) = scope(server, request, "")?;
        let empty = json!({});
        let wished = eviction
            .get("deleteOptions")
            .filter(|o| o.is_object())
            .unwrap_or(&empty);
        let mut options = DeleteOptions::parse(Some(wished), &scope.query)?;
        options.dry_run |= dry_run;
        if !options.dry_run {
            announce(server, &scope.namespace, &name, &options).await?;
        }
        let mut warnings = Vec::new();
        delete_one(&scope, &scope.namespace, &name, &options, &mut warnings).await?;
        crate::handlers::reply::status(&form, 201, &success(201))
    }
}

/// Both versions of Eviction mean the same.
fn check_kind(eviction: &Value) -> ApiResult<()> {
    let (version, kind) = (object::api_version(eviction), object::kind(eviction));
    if matches!(version, "" | "policy/v1" | "policy/v1beta1") && matches!(kind, "" | "Eviction") {
        return Ok(());
    }
    Err(ApiStatus::bad_request(format!(
        "no kind {kind:?} is registered for version {version:?}"
    )))
}

/// Writes into a pod that lives on for a while why it goes. What a precondition rules out is left to the delete.
async fn announce(server: &ApiServer, namespace: &str, name: &str, options: &DeleteOptions) -> ApiResult<()> {
    let pods = server.registry.served("", "pods")?;
    let stored = server.registry.get(pods, namespace, name).await?;
    let pod = &stored.value;
    let refused = options.uid.as_ref().is_some_and(|uid| uid != object::uid(pod))
        || options
            .resource_version
            .as_ref()
            .is_some_and(|version| *version != stored.revision.to_string());
    let stays = !str_at(pod, "/spec/nodeName").is_empty() && !has_ended(pod) && !object::is_terminating(pod);
    // A delete that insists on a version must find that version.
    if refused || !stays || options.resource_version.is_some() {
        return Ok(());
    }
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": clock::now(),
    });
    let change = |pod: &mut Value| {
        let conditions = map_entry(pod, "status")
            .entry("conditions")
            .or_insert_with(|| json!([]));
        if let Value::Array(conditions) = conditions {
            conditions.retain(|c| str_at(c, "/type") != "DisruptionTarget");
            conditions.push(condition.clone());
        }
        Ok(())
    };
    server
        .registry
        .update_with(pods, namespace, name, change)
        .await
        .map(drop)
}
