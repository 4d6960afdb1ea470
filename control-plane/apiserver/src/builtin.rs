//! Paths of the server itself: health, version, metrics, discovery.

use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{Method, Response};
use serde_json::json;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::{discovery, health, negotiate};

/// The version that clients are told: Kubernetes' number decides their behaviour, the suffix says who we are.
pub const GIT_VERSION: &str = concat!("v1.36.2+skiff", env!("CARGO_PKG_VERSION"));

/// When the binary was made; a release build sets it, and a reproducible one sets the date of its commit.
const BUILD_DATE: &str = match option_env!("SKIFF_BUILD_DATE") {
    Some(date) => date,
    None => "2026-11-24T00:00:00Z",
};

/// Answers a non-resource path.
pub async fn handle(server: &Arc<ApiServer>, info: &RequestInfo, parts: &Parts) -> ApiResult<Response<Body>> {
    let path = info.path.trim_end_matches('/');
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] if reads => Ok(health::handle(server, &segments, parts).await),
        [] | ["version" | "metrics" | "api" | "apis"] if !reads => {
            Err(ApiStatus::method_not_allowed().with_details(json!({})))
        }
        [] => negotiate::respond_object(parts, 200, &json!({ "paths": paths(server) })),
        ["version"] => negotiate::respond_object(parts, 200, &version()),
        ["metrics"] => Ok(negotiate::response_with_type(
            200,
            skiff_api::exposition::CONTENT_TYPE,
            Body::full(server.metrics.render(&server.limiter)),
        )),
        ["api" | "apis", ..] if reads => discovery::handle(server, &segments, parts),
        ["api" | "apis", ..] => Err(ApiStatus::no_such_path()),
        _ => Ok(negotiate::text(404, "404 page not found\n")),
    }
}

fn version() -> serde_json::Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": GIT_VERSION,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": BUILD_DATE,
        "goVersion": "none (Rust)", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

/// Go's name of this machine's architecture, which clients compare.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What `/` lists.
fn paths(server: &ApiServer) -> Vec<String> {
    let mut paths: Vec<String> = ["/api", "/apis", "/healthz", "/livez", "/metrics", "/readyz", "/version"]
        .map(str::to_owned)
        .to_vec();
    for (group, version) in discovery::group_versions(server) {
        if group.is_empty() {
            paths.push(format!("/api/{version}"));
        } else {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.extend(
        server
            .plugins
            .routes
            .iter()
            .map(|route| route.prefix().trim_end_matches('/').to_owned()),
    );
    paths.sort();
    paths.dedup();
    paths
}
