//! The node's end of a session: one request over the node's tunnel, its two bodies the two directions.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use skiff_api::channel::{self, ChannelError};
use skiff_api::status::{ApiResult, ApiStatus};
use tokio::sync::mpsc;

use crate::body::{RequestBody, request_body};
use crate::server::ApiServer;
use crate::tunnel::refusal;

/// Pieces on their way to the node; a piece is at most a message of the client, 256 KiB.
const PIECES_MAX: usize = 2;

/// Where a pod runs.
#[derive(Clone, Debug)]
pub struct Target {
    pub node: String,
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
}

/// An open session on a node. Dropped before `finished` it is cancelled there.
pub struct NodeStream {
    /// None once the client has said all.
    to_node: Option<mpsc::Sender<Bytes>>,
    from_node: Incoming,
    cancel: Cancel,
}

/// Tells the node that nobody wants the session any more. Breaking the request off does not reach it while the request's
/// body waits for room.
struct Cancel {
    server: Arc<ApiServer>,
    node: String,
    session: String,
    armed: bool,
}

impl NodeStream {
    /// `POST <path>` to the node; the path as the agent serves it, without host.
    ///
    /// # Errors
    /// What the tunnel and the agent answer.
    pub async fn open(server: &Arc<ApiServer>, target: &Target, path: &str) -> ApiResult<Self> {
        let (to_node, mut pieces) = mpsc::channel(PIECES_MAX);
        let frames = futures::stream::poll_fn(move |cx| {
            let piece: Poll<Option<Bytes>> = pieces.poll_recv(cx);
            piece.map(|piece| piece.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))))
        });
        let session = uuid::Uuid::new_v4().to_string();
        let request = request("POST", path, &session, request_body(StreamBody::new(frames)))?;
        let mut cancel = Cancel {
            server: server.clone(),
            node: target.node.clone(),
            session,
            armed: true,
        };
        let response = server.tunnels.request(&target.node, request).await?;
        if !response.status().is_success() {
            cancel.armed = false;
            return Err(refusal(response).await);
        }
        Ok(Self {
            to_node: Some(to_node),
            from_node: response.into_body(),
            cancel,
        })
    }

    /// The two directions and what must be kept until both have ended.
    pub fn split(self) -> (ToNode, FromNode, Session) {
        let from_node = FromNode {
            body: self.from_node,
            decoder: channel::Decoder::default(),
        };
        (ToNode(self.to_node), from_node, Session(self.cancel))
    }
}

fn request(method: &str, path: &str, session: &str, body: RequestBody) -> ApiResult<Request<RequestBody>> {
    let request = Request::builder().method(method).uri(format!("http://node{path}"));
    request
        .header(channel::SESSION_HEADER, session)
        .body(body)
        .map_err(ApiStatus::internal)
}

/// Keeps the session on the node alive.
pub struct Session(Cancel);

impl Session {
    /// Both directions came to their end.
    pub fn finished(mut self) {
        self.0.armed = false;
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (server, node, session) = (
            self.server.clone(),
            self.node.clone(),
            std::mem::take(&mut self.session),
        );
        tokio::spawn(async move {
            let body = request_body(Empty::<Bytes>::new());
            let Ok(request) = request("DELETE", &format!("/sessions/{session}"), &session, body) else {
                return;
            };
            // A node without a tunnel has cancelled it itself.
            let _ = server.tunnels.request(&node, request).await;
        });
    }
}

pub struct ToNode(Option<mpsc::Sender<Bytes>>);

impl ToNode {
    /// Waits while the node does not take it. What the node does not want any more is dropped.
    pub async fn send(&mut self, bytes: Bytes) {
        if let Some(sender) = &self.0
            && sender.send(bytes).await.is_err()
        {
            self.0 = None;
        }
    }
    /// The end of this direction; the other goes on.
    pub fn finish(&mut self) {
        self.0 = None;
    }
}

pub struct FromNode {
    body: Incoming,
    decoder: channel::Decoder,
}

/// The node's stream broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the connection to the node broke: {0}")]
    Body(#[from] hyper::Error),
    #[error("the node sent what is no frame: {0}")]
    Frame(#[from] ChannelError),
}

impl FromNode {
    /// The next bytes, none at the end.
    pub async fn bytes(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Some(Ok(bytes)),
                    _ => {}
                },
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// The next frame, none at the end.
    pub async fn frame(&mut self) -> Option<Result<channel::Frame, Broken>> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(error) => return Some(Err(error.into())),
            }
            match self.bytes().await? {
                Ok(bytes) => self.decoder.push(&bytes),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
