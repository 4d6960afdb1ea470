//! Clear answers about what clients ask for although discovery does not offer it: connections into pods, and custom
//! resource definitions.

use hyper::Response;
use hyper::http::request::Parts;
use serde_json::json;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::negotiate;
use crate::request_info::RequestInfo;

/// Why a connection into a pod or a node cannot be had, as `kubectl exec` and its kin show it; none for other requests.
pub fn connection(info: &RequestInfo) -> Option<Box<ApiStatus>> {
    if !info.group.is_empty() || !matches!(info.resource.as_str(), "pods" | "nodes") {
        return None;
    }
    let why = match info.subresource.as_str() {
        "exec" => "a WASM container is one module without a shell, exec is not available",
        "attach" => "attach is not available for WASM containers, see their output with kubectl logs",
        "portforward" => "port-forward is not available, use the pod's own IP on its node",
        "proxy" => "the proxy subresource is not available, use the pod's own IP on its node",
        _ => return None,
    };
    Some(ApiStatus::new(501, "NotImplemented", why).with_details(json!({ "name": info.name, "kind": info.resource })))
}

/// kubectl lists custom resource definitions before it says that it does not know a kind. There are none, and told so it
/// names the kind instead of this path.
pub fn custom_resource_definitions(info: &RequestInfo, parts: &Parts) -> Option<ApiResult<Response<Body>>> {
    let asked = (
        info.group.as_str(),
        info.version.as_str(),
        info.resource.as_str(),
        info.verb.as_str(),
    );
    if asked != ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "list") {
        return None;
    }
    let list = json!({
        "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {}, "items": [],
    });
    Some(negotiate::respond_object(parts, 200, &list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: hyper::Method, path: &str) -> RequestInfo {
        RequestInfo::parse(&method, path, "")
    }

    #[test]
    fn only_connections_are_told_why() {
        let exec = connection(&info(hyper::Method::POST, "/api/v1/namespaces/a/pods/b/exec")).expect("exec is absent");
        assert_eq!((exec.code, exec.reason.as_str()), (501, "NotImplemented"));
        assert!(exec.message.contains("exec is not available"), "{exec}");
        assert!(connection(&info(hyper::Method::GET, "/api/v1/nodes/b/proxy/stats")).is_some());
        for other in [
            "/api/v1/namespaces/a/pods/b/foo",
            "/api/v1/namespaces/a/configmaps/b/exec",
            "/apis/a/v1/pods/b/exec",
        ] {
            assert!(connection(&info(hyper::Method::GET, other)).is_none(), "{other}");
        }
    }
}
