//! `nodes/NAME/proxy/PATH`: what an agent tells of itself, passed on through its tunnel: metrics, statistics, health.
//!
//! Who may read one of them is asked as kubelet asks since fine-grained authorization: `nodes/metrics`, `nodes/stats` or
//! `nodes/healthz` is enough for its path, `nodes/proxy` for all.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response};
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::{Body, request_body};
use crate::negotiate::response_with_type;
use crate::plugins::{PluginRequest, Subresource};
use crate::request_info::RequestInfo;
use crate::server::ApiServer;

/// What is passed on; all else of the agent's is reached by subresources of pods.
const PATHS: [&str; 5] = [
    "healthz",
    "metrics",
    "metrics/cadvisor",
    "metrics/resource",
    "stats/summary",
];

pub struct NodeProxy;

#[async_trait]
impl Subresource for NodeProxy {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["nodes"]
    }
    fn subresource(&self) -> &'static str {
        "proxy"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        if request.parts.method != Method::GET {
            return Err(ApiStatus::method_not_allowed());
        }
        let path = request.info.rest.as_str();
        if !PATHS.contains(&path) {
            return Err(ApiStatus::no_such_path());
        }
        let name = node_name(&request.info.name);
        let nodes = server.registry.served("", "nodes")?;
        server.registry.get(nodes, "", name).await?;
        let query = request.parts.uri.query().unwrap_or("");
        let ask = Request::get(format!("http://node/{path}?{query}"))
            .body(request_body(Empty::<Bytes>::new()))
            .map_err(ApiStatus::internal)?;
        let response = server.tunnels.request(name, ask).await?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or("text/plain; charset=utf-8").to_owned();
        Ok(response_with_type(
            response.status().as_u16(),
            &content_type,
            Body::boxed(request_body(response.into_body())),
        ))
    }
}

/// `https:NAME:10250` → `NAME`: scheme and port are of no importance, there is one tunnel.
fn node_name(given: &str) -> &str {
    let name = given
        .strip_prefix("https:")
        .or_else(|| given.strip_prefix("http:"))
        .unwrap_or(given);
    name.split(':').next().unwrap_or(name)
}

/// The subresource of nodes that is enough for what the proxy is asked, if there is one.
pub fn fine_grained(info: &RequestInfo) -> Option<&'static str> {
    let proxy = info.group.is_empty() && info.resource == "nodes" && info.subresource == "proxy";
    if !proxy || info.verb != "get" {
        return None;
    }
    match info.rest.split('/').next()? {
        "metrics" => Some("metrics"),
        "stats" => Some("stats"),
        "healthz" => Some("healthz"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, path: &str) -> RequestInfo {
        RequestInfo::parse(&method, path, "")
    }

    #[test]
    fn each_path_has_its_own_right() {
        let of = |path: &str| fine_grained(&info(Method::GET, &format!("/api/v1/nodes/n1/proxy/{path}")));
        assert_eq!(of("metrics"), Some("metrics"));
        assert_eq!(of("metrics/cadvisor"), Some("metrics"));
        assert_eq!(of("stats/summary"), Some("stats"));
        assert_eq!(of("healthz"), Some("healthz"));
        assert_eq!((of("run/a/b"), of("")), (None, None));
        assert_eq!(
            fine_grained(&info(Method::POST, "/api/v1/nodes/n1/proxy/metrics")),
            None
        );
        assert_eq!(
            fine_grained(&info(Method::GET, "/api/v1/namespaces/a/pods/n1/proxy/metrics")),
            None
        );
    }

    #[test]
    fn a_port_or_scheme_changes_nothing() {
        for given in ["n1", "n1:10250", "https:n1:10250", "https:n1:"] {
            assert_eq!(node_name(given), "n1", "{given}");
        }
    }
}
