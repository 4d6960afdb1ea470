//! The connections that agents opened: how the control plane reaches a node without dialling it.

use std::collections::HashMap;
use std::sync::Mutex;

use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::RequestBody;

/// Live tunnels by node name.
#[derive(Default)]
pub struct Tunnels {
    nodes: Mutex<HashMap<String, SendRequest<RequestBody>>>,
}

impl Tunnels {
    /// Sends a request to the agent of `node`; 503 when it has no live tunnel.
    pub async fn request(&self, node: &str, request: Request<RequestBody>) -> ApiResult<Response<Incoming>> {
        let sender = self.nodes.lock().expect("no panic under this lock").get(node).cloned();
        let mut sender =
            sender.ok_or_else(|| ApiStatus::unavailable(format!("node {node:?} has no open connection to the control plane")))?;
        sender.send_request(request).await.map_err(|e| ApiStatus::unavailable(format!("node {node:?}: {e}")))
    }
}
