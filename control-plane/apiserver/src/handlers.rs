//! From an authorised request to its verb. One verb a file.

use std::sync::Arc;

use hyper::Response;
use hyper::http::request::Parts;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::authn::UserInfo;
use crate::body::{Body, RequestBody};
use crate::plugins::PluginRequest;
use crate::query::Query;
use crate::registry::Resource;
use crate::request_info::RequestInfo;
use crate::server::ApiServer;

pub mod body;
pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod managed;
pub mod metadata;
pub mod options;
pub mod patch;
pub mod reply;
pub mod update;
pub mod watch;
pub mod write;

#[cfg(test)]
mod tests;

/// What a verb's handler is given.
pub struct Scope {
    pub server: Arc<ApiServer>,
    pub resource: Arc<Resource>,
    /// `""` or `status`.
    pub subresource: &'static str,
    /// `""` for cluster-wide resources and for all namespaces.
    pub namespace: String,
    /// `""` for collections.
    pub name: String,
    pub user: UserInfo,
    pub query: Query,
    pub parts: Parts,
}

/// Calls the handler of a request.
pub async fn dispatch(
    server: &Arc<ApiServer>,
    info: &RequestInfo,
    parts: Parts,
    body: RequestBody,
    user: UserInfo,
) -> ApiResult<Response<Body>> {
    if !info.is_resource {
        return crate::builtin::handle(server, info, &parts).await;
    }
    if let Some(row) = skiff_api::kind::find(&info.group, &info.version, &info.resource, &info.subresource)
        && let Some(plugin) = server.subresource(info)
    {
        // Across namespaces one may list, nothing else.
        if row.namespaced && info.namespace.is_empty() && info.verb != "list" {
            return Err(ApiStatus::no_such_path());
        }
        // Connections (`proxy`, `exec`) take every method and say so themselves.
        let verb_allowed = row.verbs.is_empty() || row.verbs.contains(&info.verb.as_str());
        if !verb_allowed {
            return Err(ApiStatus::method_not_allowed());
        }
        return plugin
            .handle(
                server,
                PluginRequest {
                    info: info.clone(),
                    parts,
                    body,
                    user,
                },
            )
            .await;
    }
    if let Some(answer) = crate::absent::custom_resource_definitions(info, &parts) {
        return answer;
    }
    let scope = scope(server, info, parts, user)?;
    let row = if scope.subresource.is_empty() {
        Some(scope.resource.info)
    } else {
        scope.resource.status
    };
    if !row.is_some_and(|row| row.verbs.contains(&info.verb.as_str())) {
        return Err(ApiStatus::method_not_allowed());
    }
    match info.verb.as_str() {
        "get" => get::handle(scope).await,
        "list" => list::handle(scope).await,
        "watch" => watch::handle(scope).await,
        "create" => create::handle(scope, body).await,
        "update" => update::handle(scope, body).await,
        "patch" => patch::handle(scope, body).await,
        "delete" => delete::handle(scope, body).await,
        "deletecollection" => delete::handle_collection(scope, body).await,
        _ => Err(ApiStatus::method_not_allowed()),
    }
}

/// Finds the resource and checks that path and scope fit.
fn scope(server: &Arc<ApiServer>, info: &RequestInfo, parts: Parts, user: UserInfo) -> ApiResult<Scope> {
    let resource = server.registry.served(&info.group, &info.resource)?.clone();
    if resource.info.version != info.version {
        return Err(ApiStatus::no_such_path());
    }
    let subresource = match info.subresource.as_str() {
        "" => "",
        "status" if resource.status.is_some() && info.rest.is_empty() => "status",
        _ => return Err(crate::absent::connection(info).unwrap_or_else(ApiStatus::no_such_path)),
    };
    let namespace = if resource.info.namespaced {
        info.namespace.clone()
    } else if info.namespace.is_empty() || info.resource == "namespaces" {
        String::new()
    } else {
        return Err(ApiStatus::no_such_path());
    };
    if resource.info.namespaced && namespace.is_empty() {
        // Across namespaces one may list and watch, nothing else.
        if info.names_object() {
            return Err(ApiStatus::no_such_path());
        }
        if !matches!(info.verb.as_str(), "list" | "watch") {
            return Err(ApiStatus::method_not_allowed());
        }
    }
    if info.names_object() && info.verb == "create" {
        return Err(ApiStatus::method_not_allowed());
    }
    if !info.names_object() && matches!(info.verb.as_str(), "update" | "patch") {
        return Err(ApiStatus::method_not_allowed());
    }
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let name = if info.names_object() || info.legacy_watch {
        info.name.clone()
    } else {
        String::new()
    };
    Ok(Scope {
        server: server.clone(),
        resource,
        subresource,
        namespace,
        name,
        user,
        query,
        parts,
    })
}
