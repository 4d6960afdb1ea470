//! Subresources that are more than a part of their object, one file each.

pub mod binding;
pub mod connect;
pub mod eviction;
pub mod finalize;
pub mod ledger;
pub mod log;
pub mod node_proxy;
pub mod scale;
pub mod token;

use std::sync::Arc;

use serde_json::{Value, json};
use skiff_api::status::ApiResult;

use crate::body::RequestBody;
use crate::handlers::Scope;
use crate::plugins::PluginRequest;
use crate::query::Query;
use crate::server::ApiServer;

/// What the verbs' handlers need, out of a request for a subresource; and the request's body.
fn scope(
    server: &Arc<ApiServer>,
    request: PluginRequest,
    subresource: &'static str,
) -> ApiResult<(Scope, RequestBody)> {
    let PluginRequest {
        info,
        parts,
        body,
        user,
    } = request;
    let resource = server.registry.served(&info.group, &info.resource)?.clone();
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let namespace = if resource.info.namespaced {
        info.namespace
    } else {
        String::new()
    };
    Ok((
        Scope {
            server: server.clone(),
            resource,
            subresource,
            namespace,
            name: info.name,
            user,
            query,
            parts,
        },
        body,
    ))
}

/// The Status of a success that has nothing else to say.
fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}
