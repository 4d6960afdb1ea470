//! The connections that agents opened: how the control plane reaches a node without dialling it. After the upgrade the
//! roles turn round: the agent is the HTTP/2 server, we are its client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use skiff_api::object::{self, str_at};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use crate::authz::node::node_name;
use crate::body::{Body, RequestBody};
use crate::plugins::{Access, PluginRequest, Route};
use crate::server::ApiServer;

/// The protocol that the agent asks to upgrade to.
const PROTOCOL: &str = "skiff-tunnel";
/// A dead tunnel is found within fifteen seconds.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What one answer may be ahead of its reader: 5 MB/s over a link of 50 ms.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Room for as many streams as an agent serves (512), so that no number of readers that stand still holds up another one.
const CONNECTION_WINDOW_BYTES: u32 = 512 * STREAM_WINDOW_BYTES;
/// What hyper may take of a request's body before the agent has room for it.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// A refusal of the agent longer than this is cut.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How long an agent may take to begin to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Live tunnels by node name.
#[derive(Default)]
pub struct Tunnels {
    nodes: Mutex<HashMap<String, Tunnel>>,
    next: AtomicU64,
}

struct Tunnel {
    /// Tells an old tunnel of a node from its successor.
    id: u64,
    sender: SendRequest<RequestBody>,
}

impl Tunnels {
    /// Sends a request to the agent of `node`. Its authority is of no importance.
    ///
    /// # Errors
    /// 503 when the node has no live tunnel, 504 when it does not answer.
    pub async fn request(&self, node: &str, request: Request<RequestBody>) -> ApiResult<Response<Incoming>> {
        let sender = self.lock().get(node).map(|tunnel| tunnel.sender.clone());
        let Some(mut sender) = sender else {
            return Err(ApiStatus::unavailable(format!(
                "node {node:?} is not connected to this control plane"
            )));
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(ApiStatus::unavailable(format!(
                "the connection to node {node:?} broke: {error}"
            ))),
            Err(_) => Err(ApiStatus::timeout(format!("node {node:?} did not answer in time"), 1)),
        }
    }
    /// Whether a node has a tunnel here.
    pub fn is_connected(&self, node: &str) -> bool {
        self.lock().contains_key(node)
    }
    /// The newest tunnel of a node wins: its older one is most likely dead and not yet noticed.
    fn insert(&self, node: &str, sender: SendRequest<RequestBody>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(node.to_owned(), Tunnel { id, sender });
        id
    }
    fn remove(&self, node: &str, id: u64) {
        let mut nodes = self.lock();
        if nodes.get(node).is_some_and(|tunnel| tunnel.id == id) {
            nodes.remove(node);
        }
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Tunnel>> {
        // The map is consistent after every single call, so a panic elsewhere does not spoil it.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's error as a Status of ours.
pub async fn refusal(response: Response<Incoming>) -> Box<ApiStatus> {
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(status) if object::kind(&status) == "Status" => {
            ApiStatus::new(code, str_at(&status, "/reason"), str_at(&status, "/message"))
        }
        _ => ApiStatus::new(code, "", String::from_utf8_lossy(&bytes)),
    }
}

/// `GET /skiff/v1/tunnel`, asked for by agents with their client certificate.
pub struct TunnelRoute;

#[async_trait]
impl Route for TunnelRoute {
    fn prefix(&self) -> &'static str {
        "/skiff/v1/tunnel"
    }
    fn access(&self) -> Access {
        Access::Authenticated
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        if request.parts.method != Method::GET {
            return Err(ApiStatus::method_not_allowed());
        }
        let Some(node) = node_name(&request.user).map(str::to_owned) else {
            let why = format!("User {:?} is not a node", request.user.name);
            return Err(ApiStatus::forbidden(Subject::default(), &why));
        };
        let asks = request
            .parts
            .headers
            .get(UPGRADE)
            .is_some_and(|value| value == PROTOCOL);
        let Some(upgrade) = request.parts.extensions.remove::<OnUpgrade>().filter(|_| asks) else {
            return Err(ApiStatus::bad_request(format!(
                "this path is for an HTTP/1.1 upgrade to {PROTOCOL}"
            )));
        };
        tokio::spawn(run(server.clone(), node, upgrade));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        Ok(response)
    }
}

/// One tunnel from its upgrade to its end.
async fn run(server: Arc<ApiServer>, node: String, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(node, %error, "tunnel was not upgraded"),
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // What was broken off adds up over the life of a tunnel, and must not end it.
        .max_local_error_reset_streams(None);
    let (sender, connection) = match builder.handshake(upgraded).await {
        Ok(parts) => parts,
        Err(error) => return tracing::debug!(node, %error, "tunnel did not come up"),
    };
    let id = server.tunnels.insert(&node, sender);
    tracing::info!(node, "node connected");
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(node, %error, "tunnel broke");
            }
        }
        () = server.draining.cancelled() => {}
    }
    server.tunnels.remove(&node, id);
    tracing::info!(node, "node disconnected");
}
