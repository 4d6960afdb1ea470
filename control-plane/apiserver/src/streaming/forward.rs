//! Port-forward: each connection that the client opens becomes one request to the node.
//!
//! A client speaks SPDY, bare or inside WebSocket messages, and opens two streams for a connection: `data`, and `error` for
//! the text of what went wrong. Or it speaks the older WebSocket form: ports in the query, two channels for each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::codec::{BytesCodec, Framed};

use super::node::{FromNode, NodeStream, Session, Target, ToNode};
use super::session::Lease;
use super::spdy::{self, Sender, Stream};
use super::upgrade::Upgrade;
use super::websocket::{self, Dialect, Socket};
use crate::server::ApiServer;

/// SPDY inside WebSocket messages.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
pub const WEBSOCKET: &[&str] = &[TUNNELLED, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];
pub const SPDY: &[&str] = &["portforward.k8s.io"];

/// The second stream of a connection follows the first within this time; kubelet's.
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages of all ports that wait to be written, in the older form.
const MESSAGES_MAX: usize = 4;
/// Pieces that wait for one port, in the older form.
const PIECES_MAX: usize = 4;

/// A session from the upgrade to its end.
pub async fn run(upgrade: Upgrade, connection: OnUpgrade, target: Target, ports: Vec<u16>, lease: Lease) {
    let upgraded = match connection.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a session was not upgraded"),
    };
    let server = lease.server().clone();
    let session = async {
        match upgrade {
            Upgrade::WebSocket {
                protocol: TUNNELLED, ..
            } => {
                let (incoming, outgoing) = websocket::bytes(websocket::accept(upgraded).await);
                let (streams, life) = spdy::session::open(incoming, outgoing);
                serve(&server, &target, streams, life).await;
            }
            Upgrade::WebSocket { protocol, .. } => {
                let socket = websocket::accept(upgraded).await;
                channels(&server, &target, ports, socket, Dialect::of(protocol)).await;
            }
            Upgrade::Spdy { .. } => {
                let (outgoing, incoming) = Framed::new(TokioIo::new(upgraded), BytesCodec::new()).split();
                let incoming = incoming.scan((), |(), read| std::future::ready(read.ok().map(BytesMut::freeze)));
                let (streams, life) = spdy::session::open(incoming, outgoing);
                serve(&server, &target, streams, life).await;
            }
        }
    };
    tokio::select! {
        () = session => {}
        () = lease.lost() => {}
    }
}

/// Pairs streams to connections and carries each, until the session ends.
async fn serve(
    server: &Arc<ApiServer>,
    target: &Target,
    mut streams: mpsc::Receiver<Stream>,
    life: impl Future<Output = Result<(), spdy::SpdyError>>,
) {
    let pairing = async {
        let mut waiting = Waiting::default();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                stream = streams.recv() => {
                    let Some(stream) = stream else { break };
                    if let Some(pair) = waiting.add(stream) {
                        connections.spawn(connection(server.clone(), target.clone(), pair));
                    }
                }
                // Streams without a partner are dropped, and so reset.
                () = waiting.overdue() => {}
                Some(_) = connections.join_next() => {}
            }
        }
    };
    tokio::select! {
        () = pairing => {}
        ended = life => if let Err(error) = ended {
            tracing::debug!(%error, "a SPDY session broke");
        }
    }
}

/// The two streams of one connection.
struct Pair {
    port: u16,
    data: Stream,
    /// What the client says on the stream of errors is read by nobody.
    error: Sender,
}

/// Streams whose partner has not come yet, by request.
#[derive(Default)]
struct Waiting(HashMap<String, (tokio::time::Instant, bool, u16, Stream)>);

impl Waiting {
    /// A stream that does not say what it is is dropped, and so reset.
    fn add(&mut self, stream: Stream) -> Option<Pair> {
        let header = |wanted: &str| {
            let found = stream.headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        let port: u16 = header("port")?.parse().ok().filter(|port| *port > 0)?;
        let is_data = match header("streamtype")?.as_str() {
            "data" => true,
            "error" => false,
            _ => return None,
        };
        let request = header("requestid")?;
        match self.0.remove(&request) {
            Some((_, other_is_data, other_port, other)) if other_is_data != is_data && other_port == port => {
                let (data, error) = if is_data { (stream, other) } else { (other, stream) };
                let error = error.sender;
                Some(Pair { port, data, error })
            }
            _ => {
                let due = tokio::time::Instant::now() + PAIR_TIMEOUT;
                self.0.insert(request, (due, is_data, port, stream));
                None
            }
        }
    }

    /// Waits for the next that is overdue, and drops it.
    async fn overdue(&mut self) {
        let next = self.0.iter().map(|(request, (due, ..))| (*due, request.clone())).min();
        match next {
            Some((due, request)) => {
                tokio::time::sleep_until(due).await;
                self.0.remove(&request);
            }
            None => std::future::pending().await,
        }
    }
}

/// Opens the connection on the node. The error is for the user, in kubelet's words.
async fn open(server: &Arc<ApiServer>, target: &Target, port: u16) -> Result<NodeStream, String> {
    let Target {
        namespace,
        pod,
        pod_uid,
        ..
    } = target;
    let path = format!("/portForward/{namespace}/{pod}/{pod_uid}/{port}");
    let opened = NodeStream::open(server, target, &path).await;
    opened.map_err(|error| format!("error forwarding port {port} to pod {pod}, uid {pod_uid}: {error}"))
}

async fn connection(server: Arc<ApiServer>, target: Target, pair: Pair) {
    let Pair { port, data, mut error } = pair;
    let reset = data.receiver.reset_token();
    let carrying = async {
        match open(&server, &target, port).await {
            Ok(node) => {
                let (to_node, from_node, session) = node.split();
                carry(data, to_node, from_node, session).await;
            }
            Err(why) => {
                // The client may be gone already.
                let _ = error.send(why.into()).await;
                data.sender.finish().await;
            }
        }
    };
    tokio::select! {
        () = carrying => {}
        // The client broke the connection off.
        () = reset.cancelled() => {}
    }
    // kubectl waits for it before it is done with the connection.
    error.finish().await;
}

/// Both directions, each to its own end.
async fn carry(data: Stream, mut to_node: ToNode, mut from_node: FromNode, session: Session) {
    let Stream {
        mut receiver,
        mut sender,
        ..
    } = data;
    let inward = async {
        while let Some(piece) = receiver.next().await {
            let Ok(bytes) = piece else { return false };
            // A pod that reads no more may still say something; what the client says is dropped.
            to_node.send(bytes).await;
        }
        to_node.finish();
        true
    };
    let outward = async {
        while let Some(bytes) = from_node.bytes().await {
            let Ok(bytes) = bytes else { return false };
            if sender.send(bytes).await.is_err() {
                return false;
            }
        }
        sender.finish().await;
        true
    };
    let whole = async {
        let (inward, outward) = tokio::join!(inward, outward);
        inward && outward
    };
    if whole.await {
        session.finished();
    }
}

/// The older form: a data and an error channel for each port, each opened by a message with the port.
async fn channels(server: &Arc<ApiServer>, target: &Target, ports: Vec<u16>, socket: Socket, dialect: Dialect) {
    let (mut sink, mut incoming) = socket.split();
    let (messages, mut queue) = mpsc::channel::<Message>(MESSAGES_MAX);
    let mut connections = JoinSet::new();
    let mut inputs = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let (input, pieces) = mpsc::channel(PIECES_MAX);
        inputs.push(input);
        // The query's reader allows no more ports than there are channels.
        let channel = u8::try_from(2 * index).unwrap_or(u8::MAX - 1);
        let (server, target, messages) = (server.clone(), target.clone(), messages.clone());
        connections
            .spawn(async move { port_channel(&server, &target, port, channel, dialect, pieces, messages).await });
    }
    drop(messages);
    let inward = async {
        while let Some(Ok(message)) = incoming.next().await {
            let Some(frame) = dialect.frame(message) else { continue };
            let input = inputs
                .get(usize::from(frame.channel / 2))
                .filter(|_| frame.channel % 2 == 0);
            if let Some(input) = input {
                // An error means that this port is done.
                let _ = input.send(frame.payload).await;
            }
        }
    };
    let outward = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(websocket::goodbye()).await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

async fn port_channel(
    server: &Arc<ApiServer>,
    target: &Target,
    port: u16,
    channel: u8,
    dialect: Dialect,
    mut pieces: mpsc::Receiver<Bytes>,
    messages: mpsc::Sender<Message>,
) -> Result<(), mpsc::error::SendError<Message>> {
    let (data, error) = (channel, channel + 1);
    for channel in [data, error] {
        messages.send(dialect.message(channel, &port.to_le_bytes())).await?;
    }
    let node = match open(server, target, port).await {
        Ok(node) => node,
        Err(why) => return messages.send(dialect.message(error, why.as_bytes())).await,
    };
    let (mut to_node, mut from_node, session) = node.split();
    let inward = async {
        while let Some(bytes) = pieces.recv().await {
            to_node.send(bytes).await;
        }
    };
    let outward = async {
        while let Some(Ok(bytes)) = from_node.bytes().await {
            messages.send(dialect.message(data, &bytes)).await?;
        }
        Ok(())
    };
    // This form has no end of one direction: the pod's end is the connection's.
    tokio::select! {
        () = inward => Ok(()),
        ended = outward => {
            if ended.is_ok() {
                session.finished();
            }
            ended
        }
    }
}
