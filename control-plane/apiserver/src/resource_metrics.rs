//! `metrics.k8s.io`: what nodes and pods use, asked of the agents at the moment of the question. Nothing of it is stored.
//!
//! As with metrics-server, a pod is there once it has a figure, and a node that does not answer is left out, its pods with
//! it. Labels and names come from the caches of Nodes and Pods.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use skiff_api::kind::{self, ResourceInfo};
use skiff_api::status::{ApiResult, ApiStatus, Subject};
use skiff_store::watch_cache::CachedObject;

use crate::body::Body;
use crate::clock;
use crate::handlers::list::selects;
use crate::handlers::options::ListOptions;
use crate::negotiate::{self, Form, Shape};
use crate::plugins::{PluginRequest, Subresource};
use crate::query::Query;
use crate::registry::{Resource, cache_status};
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::table;

pub mod collect;
mod objects;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

pub struct ResourceMetrics;

#[async_trait]
impl Subresource for ResourceMetrics {
    fn group(&self) -> &'static str {
        GROUP
    }
    fn resources(&self) -> &'static [&'static str] {
        &["nodes", "pods"]
    }
    fn subresource(&self) -> &'static str {
        ""
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let row = kind::find(GROUP, VERSION, &request.info.resource, "").ok_or_else(ApiStatus::no_such_path)?;
        let resource = server.registry.served("", row.resource)?;
        resource.cache.fresh().await.map_err(cache_status)?;
        if request.info.verb == "get" {
            return get(server, row, resource, request.info, request.parts).await;
        }
        let form = Form::negotiate_collection(&request.parts)?;
        let query = Query::parse(request.parts.uri.query().unwrap_or(""));
        let options = ListOptions::parse(&query, resource, false)?;
        let namespace = Some(request.info.namespace.as_str()).filter(|ns| row.namespaced && !ns.is_empty());
        let snapshot = resource.cache.list(namespace);
        let selected = snapshot.iter().filter(|object| selects(&options, object));
        let selected: Vec<&CachedObject> = selected.map(|object| &**object).collect();
        let items = measure(server, row, &selected).await;
        reply(&form, row, &query, items)
    }
}

async fn get(
    server: &Arc<ApiServer>,
    row: &'static ResourceInfo,
    resource: &Resource,
    info: RequestInfo,
    parts: Parts,
) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&parts, true)?;
    let (namespace, name) = (info.namespace.as_str(), info.name.as_str());
    let object = resource
        .cache
        .get(&resource.key(namespace, name))
        .ok_or_else(|| ApiStatus::not_found(resource.subject(name)))?;
    let Some(item) = measure(server, row, &[&object]).await.pop() else {
        // Known, but nobody tells its figures: named as metrics-server names it.
        let (kind, name) = match row.namespaced {
            true => ("podmetrics", format!("{namespace}/{name}")),
            false => ("nodemetrics", name.to_owned()),
        };
        return Err(ApiStatus::not_found(Subject {
            group: GROUP,
            resource: kind,
            name: &name,
        }));
    };
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    match form.shape {
        Shape::Object => negotiate::render(&form, 200, &item),
        _ => reply(&form, row, &query, vec![item]),
    }
}

/// The metrics of these nodes or pods, in their order, without those that have none.
async fn measure(server: &Arc<ApiServer>, row: &ResourceInfo, selected: &[&CachedObject]) -> Vec<Value> {
    let node_of = |object: &CachedObject| match row.namespaced {
        true => {
            let field = object.fields.iter().find(|(field, _)| *field == "spec.nodeName");
            field.map(|(_, node)| node.clone()).unwrap_or_default()
        }
        false => object.name.clone(),
    };
    let nodes = selected.iter().map(|object| node_of(object)).collect();
    let usages = collect::usage_of(server, nodes).await;
    let now = clock::now_seconds();
    let item = |object: &&CachedObject| {
        let usage = usages.get(&node_of(object))?;
        match row.namespaced {
            true => objects::pod(object, usage, now),
            false => Some(objects::node(object, usage, now)),
        }
    };
    selected.iter().filter_map(item).collect()
}

fn reply(form: &Form, row: &ResourceInfo, query: &Query, items: Vec<Value>) -> ApiResult<Response<Body>> {
    match form.shape {
        Shape::Table => {
            let include = table::Include::parse(query)?;
            let table = objects::table(&items, row.namespaced, include, form.shape_version);
            negotiate::render(form, 200, &table)
        }
        Shape::Object => {
            // Items of a list do not repeat their kind.
            let bare = items.into_iter().map(|mut item| {
                if let Some(map) = item.as_object_mut() {
                    map.remove("kind");
                    map.remove("apiVersion");
                }
                item
            });
            let list = json!({
                "kind": format!("{}List", row.kind), "apiVersion": row.api_version(), "metadata": {},
                "items": bare.collect::<Vec<_>>(),
            });
            negotiate::render(form, 200, &list)
        }
        Shape::PartialMetadata | Shape::PartialMetadataList => Err(ApiStatus::not_acceptable(
            "metrics are served whole or as a Table".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
