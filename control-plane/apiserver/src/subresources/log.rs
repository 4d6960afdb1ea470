//! `pods/NAME/log`: the agent's log stream, passed on through its tunnel.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response};
use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, list_at, str_at};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use crate::body::{Body, request_body};
use crate::negotiate::response_with_type;
use crate::plugins::{PluginRequest, Subresource};
use crate::query::{Query, percent_encode};
use crate::server::ApiServer;
use crate::tunnel::refusal;

/// The options that travel to the agent.
const PASSED_ON: [&str; 7] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "timestamps",
    "limitBytes",
];

pub struct PodLog;

#[async_trait]
impl Subresource for PodLog {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }
    fn subresource(&self) -> &'static str {
        "log"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let query = Query::parse(request.parts.uri.query().unwrap_or(""));
        check_options(&query)?;
        let pods = server.registry.served("", "pods")?;
        let (namespace, name) = (request.info.namespace.as_str(), request.info.name.as_str());
        let pod = server.registry.get(pods, namespace, name).await?.value;
        let container = choose_container(&pod, query.get("container").unwrap_or(""))?;
        let node = str_at(&pod, "/spec/nodeName");
        if node.is_empty() {
            // Nobody runs it yet, so there is nothing to read: an empty log, as in Kubernetes.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = hyper::StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let response = server
            .tunnels
            .request(node, ask(namespace, name, &container, &query)?)
            .await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(response_with_type(
            200,
            "text/plain",
            Body::boxed(request_body(response.into_body())),
        ))
    }
}

/// The request to the agent.
fn ask(namespace: &str, pod: &str, container: &str, query: &Query) -> ApiResult<Request<crate::body::RequestBody>> {
    let passed: Vec<String> = query
        .iter()
        .filter(|(key, _)| PASSED_ON.contains(key))
        .map(|(key, value)| format!("{key}={}", percent_encode(value)))
        .collect();
    // Names are DNS labels and need no escaping.
    let uri = format!(
        "http://node/containerLogs/{namespace}/{pod}/{container}?{}",
        passed.join("&")
    );
    Request::get(uri)
        .body(request_body(Empty::<Bytes>::new()))
        .map_err(ApiStatus::internal)
}

/// The container that is meant: the named one, or the only one.
fn choose_container(pod: &Value, wanted: &str) -> ApiResult<String> {
    let names = |pointer: &str| -> Vec<String> {
        list_at(pod, pointer)
            .iter()
            .map(|container| str_at(container, "/name").to_owned())
            .collect()
    };
    let containers = names("/spec/containers");
    let init = names("/spec/initContainers");
    let ephemeral = names("/spec/ephemeralContainers");
    let name = object::name(pod);
    if wanted.is_empty() {
        if let ([only], true, true) = (containers.as_slice(), init.is_empty(), ephemeral.is_empty()) {
            return Ok(only.clone());
        }
        let mut choices = format!("[{}]", containers.join(" "));
        if !init.is_empty() {
            choices.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
        }
        if !ephemeral.is_empty() {
            choices.push_str(&format!(
                " or one of the ephemeral containers: [{}]",
                ephemeral.join(" ")
            ));
        }
        return Err(ApiStatus::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: {choices}"
        )));
    }
    if containers
        .iter()
        .chain(&init)
        .chain(&ephemeral)
        .any(|container| container == wanted)
    {
        return Ok(wanted.to_owned());
    }
    Err(ApiStatus::bad_request(format!(
        "container {wanted} is not valid for pod {name}"
    )))
}

/// The rules of PodLogOptions.
fn check_options(query: &Query) -> ApiResult<()> {
    let mut errors = FieldErrors::new();
    let mut number = |key: &str, min: i64| -> ApiResult<()> {
        let Some(text) = query.get(key).filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let value: i64 = text
            .parse()
            .map_err(|_| ApiStatus::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        if value < min {
            errors.invalid(
                &Path::new(key),
                value,
                &format!("must be greater than or equal to {min}"),
            );
        }
        Ok(())
    };
    number("tailLines", 0)?;
    number("limitBytes", 1)?;
    number("sinceSeconds", 1)?;
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        errors.forbidden(
            &Path::new(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiStatus::invalid(
        Subject {
            group: "",
            resource: "PodLogOptions",
            name: "",
        },
        &errors,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_only_container_needs_no_name() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(choose_container(&pod, "").unwrap(), "a");
        assert_eq!(
            choose_container(&pod, "b").unwrap_err().message,
            "container b is not valid for pod p"
        );
    }

    #[test]
    fn several_containers_are_listed() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(
            choose_container(&pod, "").unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(choose_container(&pod, "i").unwrap(), "i");
    }

    #[test]
    fn only_known_options_travel() {
        let query = Query::parse("tailLines=5&sinceTime=2026-01-01T00:00:00Z&container=a&x=y");
        let request = ask("n", "p", "c", &query).unwrap();
        assert_eq!(
            request.uri().to_string(),
            "http://node/containerLogs/n/p/c?tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z"
        );
        assert_eq!(check_options(&Query::parse("tailLines=-1")).unwrap_err().code, 422);
        assert_eq!(check_options(&Query::parse("tailLines=x")).unwrap_err().code, 400);
    }
}
