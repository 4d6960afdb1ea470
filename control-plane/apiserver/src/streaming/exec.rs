//! exec and attach: the client's channels, whatever carries them, and the frames to and from the node.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skiff_api::channel::{self, Frame};
use tokio::sync::mpsc;
use tokio_util::codec::{BytesCodec, Framed};

use super::node::{FromNode, NodeStream, ToNode};
use super::session::Lease;
use super::spdy::{self, Receiver, Sender};
use super::upgrade::Upgrade;
use super::websocket::{self, Dialect, ending};

pub const WEBSOCKET: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
pub const SPDY: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"];

/// A SPDY client opens its streams within this time; kubelet's.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// After the end was told the client closes the connection. Closing it here at once could lose the end on its way.
const LINGER: Duration = Duration::from_secs(5);
/// A resize message is about 30 bytes; a stream of them without an end of line is not one.
const RESIZE_BYTES_MAX: usize = 1024;

/// The streams that the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A session from the upgrade to its end.
pub async fn run(upgrade: Upgrade, connection: OnUpgrade, wanted: Wanted, node: NodeStream, lease: Lease) {
    let upgraded = match connection.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a session was not upgraded"),
    };
    let session = async {
        match upgrade {
            Upgrade::WebSocket { protocol, .. } => over_websocket(upgraded, Dialect::of(protocol), wanted, node).await,
            Upgrade::Spdy { protocol } => over_spdy(upgraded, protocol, wanted, node).await,
        }
    };
    tokio::select! {
        () = session => {}
        () = lease.lost() => {}
    }
}

async fn over_websocket(upgraded: Upgraded, dialect: Dialect, wanted: Wanted, node: NodeStream) {
    let (mut sink, mut messages) = websocket::accept(upgraded).await.split();
    let (mut to_node, mut from_node, session) = node.split();
    let inward = async {
        while let Some(Ok(message)) = messages.next().await {
            let Some(frame) = dialect.frame(message) else { continue };
            if matches!(frame.channel, channel::STDIN | channel::RESIZE | channel::CLOSE) {
                // A node that wants no more is about to tell its end.
                to_node.send(frame.encode()).await;
            }
        }
    };
    let outward = async {
        // An empty message tells old clients that the session is up.
        sink.send(dialect.message(greeting_channel(wanted), b"")).await?;
        let status = loop {
            match next(&mut from_node).await {
                Next::Output(frame) => sink.send(dialect.message(frame.channel, &frame.payload)).await?,
                Next::End(status) => break status,
            }
        };
        if let Some(message) = dialect.ending(&status) {
            sink.send(message).await?;
        }
        // Without a code kubectl takes the end for a broken connection.
        sink.send(websocket::goodbye()).await
    };
    let ended = tokio::select! {
        () = inward => false,
        told = outward => told.is_ok(),
    };
    if ended {
        session.finished();
        let rest = async { while let Some(Ok(_)) = messages.next().await {} };
        // Whether the client closed in time or not, it is over.
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

/// The lowest channel that we write.
fn greeting_channel(wanted: Wanted) -> u8 {
    match (wanted.stdout, wanted.stderr) {
        (true, _) => channel::STDOUT,
        (false, true) => channel::STDERR,
        (false, false) => channel::ERROR,
    }
}

enum Next {
    Output(Frame),
    /// A Status.
    End(Value),
}

async fn next(from_node: &mut FromNode) -> Next {
    let broken = |why: String| {
        Next::End(json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {why}"),
        }))
    };
    match from_node.frame().await {
        Some(Ok(frame)) if frame.channel == channel::ERROR => match serde_json::from_slice(&frame.payload) {
            Ok(status) => Next::End(status),
            Err(error) => broken(format!("the node's answer cannot be read: {error}")),
        },
        Some(Ok(frame)) => Next::Output(frame),
        Some(Err(error)) => broken(error.to_string()),
        None => broken("the node ended the session".to_owned()),
    }
}

async fn over_spdy(upgraded: Upgraded, protocol: &str, wanted: Wanted, node: NodeStream) {
    let (outgoing, incoming) = Framed::new(TokioIo::new(upgraded), BytesCodec::new()).split();
    let incoming = incoming.scan((), |(), read| std::future::ready(read.ok().map(BytesMut::freeze)));
    let (streams, life) = spdy::session::open(incoming, outgoing);
    let mut life = std::pin::pin!(life);
    let (to_node, from_node, session) = node.split();
    let work = async {
        let Some(streams) = gather(streams, &expected(protocol, wanted)).await else {
            return false;
        };
        carry(streams, protocol, to_node, from_node).await;
        true
    };
    let ended = tokio::select! {
        ended = work => ended,
        broken = life.as_mut() => {
            if let Err(error) = broken {
                tracing::debug!(%error, "a SPDY session broke");
            }
            false
        }
    };
    if ended {
        session.finished();
        let _ = tokio::time::timeout(LINGER, life).await;
    }
}

/// The `streamtype`s that a client opens.
fn expected(protocol: &str, wanted: Wanted) -> Vec<&'static str> {
    let kinds = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr && !wanted.tty),
        ("resize", wanted.tty && protocol != "v2.channel.k8s.io"),
    ];
    kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect()
}

type Streams = HashMap<&'static str, spdy::Stream>;

async fn gather(mut accepted: mpsc::Receiver<spdy::Stream>, expected: &[&'static str]) -> Option<Streams> {
    let mut streams = Streams::new();
    let gathering = async {
        while streams.len() < expected.len() {
            let stream = accepted.recv().await?;
            let kind = stream
                .headers
                .iter()
                .find(|(name, _)| name == "streamtype")
                .map(|(_, kind)| kind.as_str());
            // Others are dropped, and so reset.
            if let Some(kind) = expected.iter().copied().find(|known| Some(*known) == kind) {
                streams.insert(kind, stream);
            }
        }
        Some(())
    };
    tokio::time::timeout(STREAMS_TIMEOUT, gathering).await.ok()??;
    Some(streams)
}

async fn carry(mut streams: Streams, protocol: &str, mut to_node: ToNode, mut from_node: FromNode) {
    let mut receiver = |kind| streams.remove(kind).map(|stream| (stream.receiver, stream.sender));
    let (mut stdin, mut resize) = (receiver("stdin"), receiver("resize"));
    let mut sender = |kind| streams.remove(kind).map(|stream| stream.sender);
    let (mut stdout, mut stderr, error) = (sender("stdout"), sender("stderr"), sender("error"));
    let inward = async {
        let mut sizes = BytesMut::new();
        loop {
            tokio::select! {
                piece = piece(&mut stdin) => {
                    let frame = match piece {
                        Some(bytes) => Frame::new(channel::STDIN, bytes),
                        None => {
                            stdin = None;
                            Frame::close(channel::STDIN)
                        }
                    };
                    to_node.send(frame.encode()).await;
                }
                piece = piece(&mut resize) => {
                    let Some(bytes) = piece else {
                        resize = None;
                        continue;
                    };
                    sizes.extend_from_slice(&bytes);
                    for line in lines(&mut sizes) {
                        to_node.send(Frame::new(channel::RESIZE, line).encode()).await;
                    }
                }
            }
        }
    };
    let outward = async {
        loop {
            match next(&mut from_node).await {
                Next::Output(frame) => {
                    let sender = if frame.channel == channel::STDERR {
                        &mut stderr
                    } else {
                        &mut stdout
                    };
                    // A client that reset one stream may still read the other.
                    if let Some(stream) = sender
                        && stream.send(frame.payload).await.is_err()
                    {
                        *sender = None;
                    }
                }
                Next::End(status) => break status,
            }
        }
    };
    let status: Value = tokio::select! {
        never = inward => match never {},
        status = outward => status,
    };
    for stream in [stdout, stderr].into_iter().flatten() {
        stream.finish().await;
    }
    if let Some(mut error) = error {
        if let Some(text) = ending(protocol == "v4.channel.k8s.io", &status) {
            // An error means that the client is gone.
            let _ = error.send(text.into()).await;
        }
        error.finish().await;
    }
}

/// The next piece of a stream, none at its end; of no stream nothing ever comes.
async fn piece(stream: &mut Option<(Receiver, Sender)>) -> Option<Bytes> {
    match stream {
        Some((receiver, _)) => receiver.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}

/// Takes the whole lines out of the buffer.
fn lines(buffer: &mut BytesMut) -> Vec<Bytes> {
    let mut lines = Vec::new();
    while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
        lines.push(buffer.split_to(end + 1).freeze());
    }
    if buffer.len() > RESIZE_BYTES_MAX {
        buffer.clear();
    }
    lines
}
