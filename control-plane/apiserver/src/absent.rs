//! Clear answers about what clients ask for although discovery does not offer it: proxied connections, and custom resource
//! definitions.

use hyper::Response;
use hyper::http::request::Parts;
use serde_json::json;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::negotiate;
use crate::request_info::RequestInfo;

/// Why a proxied connection to a pod cannot be had; none for other requests.
pub fn connection(info: &RequestInfo) -> Option<Box<ApiStatus>> {
    if !info.group.is_empty() || info.resource != "pods" {
        return None;
    }
    if info.subresource != "proxy" {
        return None;
    }
    let why = "the proxy subresource is not available, use port-forward or the pod's own IP on its node";
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
        let proxy = connection(&info(hyper::Method::GET, "/api/v1/namespaces/a/pods/b/proxy")).expect("it is absent");
        assert_eq!((proxy.code, proxy.reason.as_str()), (501, "NotImplemented"));
        assert!(proxy.message.contains("use port-forward"), "{proxy}");
        for other in [
            "/api/v1/namespaces/a/pods/b/foo",
            "/api/v1/namespaces/a/configmaps/b/exec",
            "/apis/a/v1/pods/b/exec",
        ] {
            assert!(connection(&info(hyper::Method::GET, other)).is_none(), "{other}");
        }
    }
}
