//! `pods/NAME/exec`, `attach` and `portforward`: checks in Kubernetes' words, then a session of `streaming.rs`.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::Value;
use skiff_api::object::{self, list_at, str_at};
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::plugins::{PluginRequest, Subresource};
use crate::query::{Query, percent_encode};
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::streaming::exec::{self, Wanted};
use crate::streaming::forward;
use crate::streaming::node::{NodeStream, Target};
use crate::streaming::session::{self, Lease};
use crate::streaming::upgrade::{self, Upgrade};

/// Ports of one port-forward in the older WebSocket form; there are two channels for each, and 255 channels.
const PORTS_MAX: usize = 64;

/// `exec` or `attach`: one differs from the other by its name and its command.
pub struct PodStreams(pub &'static str);
pub struct PodPortForward;

#[async_trait]
impl Subresource for PodStreams {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }
    fn subresource(&self) -> &'static str {
        self.0
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        run(server, request, self.0).await
    }
}

#[async_trait]
impl Subresource for PodPortForward {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }
    fn subresource(&self) -> &'static str {
        "portforward"
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let lease = Lease::take(server, session::asked(&request)).await?;
        let pod = pod(server, &request.info).await?;
        let target = target(&pod)?;
        let upgrade = upgrade::negotiate(&request.parts.headers, forward::WEBSOCKET, forward::SPDY)?;
        let query = Query::parse(request.parts.uri.query().unwrap_or(""));
        let ports = match &upgrade {
            Upgrade::WebSocket { protocol, .. } if !protocol.starts_with("SPDY/") => ports(&query)?,
            _ => Vec::new(),
        };
        let connection = session::connection(&mut request)?;
        let response = upgrade.response();
        tokio::spawn(forward::run(upgrade, connection, target, ports, lease));
        Ok(response)
    }
}

/// exec and attach. The node is asked first: what it refuses is an ordinary error, before any upgrade.
async fn run(server: &Arc<ApiServer>, mut request: PluginRequest, verb: &str) -> ApiResult<Response<Body>> {
    let lease = Lease::take(server, session::asked(&request)).await?;
    let pod = pod(server, &request.info).await?;
    let query = Query::parse(request.parts.uri.query().unwrap_or(""));
    let container = container(&pod, query.get("container").unwrap_or(""))?;
    let target = target(&pod)?;
    let wanted = wanted(&query)?;
    let upgrade = upgrade::negotiate(&request.parts.headers, exec::WEBSOCKET, exec::SPDY)?;
    let connection = session::connection(&mut request)?;
    let Target {
        namespace,
        pod,
        pod_uid,
        ..
    } = &target;
    let options = options(&query, wanted, verb == "exec");
    let path = format!("/{verb}/{namespace}/{pod}/{pod_uid}/{container}?{options}");
    let node = NodeStream::open(server, &target, &path).await?;
    let response = upgrade.response();
    tokio::spawn(exec::run(upgrade, connection, wanted, node, lease));
    Ok(response)
}

async fn pod(server: &Arc<ApiServer>, info: &RequestInfo) -> ApiResult<Value> {
    let pods = server.registry.served("", "pods")?;
    Ok(server.registry.get(pods, &info.namespace, &info.name).await?.value)
}

fn target(pod: &Value) -> ApiResult<Target> {
    let node = str_at(pod, "/spec/nodeName");
    if node.is_empty() {
        let why = format!("pod {} does not have a host assigned", object::name(pod));
        return Err(ApiStatus::bad_request(why));
    }
    Ok(Target {
        node: node.to_owned(),
        namespace: object::namespace(pod).to_owned(),
        pod: object::name(pod).to_owned(),
        pod_uid: str_at(pod, "/metadata/uid").to_owned(),
    })
}

/// The container that is meant: the named one, or the only one. (kubectl names the one of the annotation
/// `kubectl.kubernetes.io/default-container`; the API server does not look at it, here as in Kubernetes.)
fn container(pod: &Value, wanted: &str) -> ApiResult<String> {
    let names = |pointer| -> Vec<&str> {
        list_at(pod, pointer)
            .iter()
            .map(|container| str_at(container, "/name"))
            .collect()
    };
    let containers = names("/spec/containers");
    let name = object::name(pod);
    if wanted.is_empty() {
        return match containers.as_slice() {
            [only] => Ok((*only).to_owned()),
            several => Err(ApiStatus::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            ))),
        };
    }
    let others = names("/spec/initContainers")
        .into_iter()
        .chain(names("/spec/ephemeralContainers"));
    if containers.into_iter().chain(others).any(|known| known == wanted) {
        return Ok(wanted.to_owned());
    }
    Err(ApiStatus::bad_request(format!(
        "container {wanted} is not valid for pod {name}"
    )))
}

fn wanted(query: &Query) -> ApiResult<Wanted> {
    let wanted = Wanted {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        tty: query.flag("tty"),
    };
    if wanted.stdin || wanted.stdout || wanted.stderr {
        return Ok(wanted);
    }
    Err(ApiStatus::bad_request(
        "you must specify at least 1 of stdin, stdout, stderr",
    ))
}

/// The query for the agent, with kubelet's names.
fn options(query: &Query, wanted: Wanted, with_command: bool) -> String {
    let streams = [
        ("input", wanted.stdin),
        ("output", wanted.stdout),
        ("error", wanted.stderr),
        ("tty", wanted.tty),
    ];
    let mut options: Vec<String> = streams
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| format!("{name}=1"))
        .collect();
    if with_command {
        options.extend(
            query
                .all("command")
                .map(|word| format!("command={}", percent_encode(word))),
        );
    }
    options.join("&")
}

/// The ports that the older WebSocket form names in its query, one by one or with commas.
fn ports(query: &Query) -> ApiResult<Vec<u16>> {
    let given: Vec<&str> = ["ports", "port"].iter().flat_map(|key| query.all(key)).collect();
    if given.is_empty() {
        return Err(ApiStatus::bad_request("query parameter \"port\" is required"));
    }
    let mut ports = Vec::new();
    for text in given.iter().flat_map(|value| value.split(',')) {
        match text.parse::<u16>() {
            Ok(0) => return Err(ApiStatus::bad_request("port \"0\" must be > 0")),
            Ok(port) => ports.push(port),
            Err(_) => return Err(ApiStatus::bad_request(format!("unable to parse {text:?} as a port"))),
        }
    }
    if ports.len() > PORTS_MAX {
        return Err(ApiStatus::bad_request(format!(
            "at most {PORTS_MAX} ports can be forwarded at once"
        )));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_is_chosen_in_kubernetes_words() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&pod, "i").unwrap(), "i");
        let text = |wanted| container(&pod, wanted).unwrap_err().message;
        assert_eq!(
            text(""),
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        assert_eq!(text("x"), "container x is not valid for pod p");
        assert_eq!(target(&pod).unwrap_err().message, "pod p does not have a host assigned");
    }

    #[test]
    fn options_travel_escaped() {
        let query = Query::parse("command=sh&command=-c&command=echo+%26+%2F&stdin=true&stdout=1&tty=false&x=y");
        let wanted = wanted(&query).unwrap();
        assert_eq!(
            options(&query, wanted, true),
            "input=1&output=1&command=sh&command=-c&command=echo%20%26%20%2F"
        );
        assert_eq!(options(&query, wanted, false), "input=1&output=1");
        let none = super::wanted(&Query::parse("command=ls")).unwrap_err();
        assert_eq!(none.message, "you must specify at least 1 of stdin, stdout, stderr");
    }

    #[test]
    fn ports_of_the_older_form() {
        let read = |query| ports(&Query::parse(query)).map_err(|error| error.message);
        assert_eq!(read("ports=80,81&ports=82"), Ok(vec![80, 81, 82]));
        assert_eq!(read("port=80"), Ok(vec![80]));
        assert_eq!(read("").unwrap_err(), "query parameter \"port\" is required");
        assert_eq!(read("ports=x").unwrap_err(), "unable to parse \"x\" as a port");
        assert_eq!(read("ports=0").unwrap_err(), "port \"0\" must be > 0");
    }
}
