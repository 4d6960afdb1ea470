//! WebSocket as transport: the channel protocols' dialects, and SPDY's bytes inside messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use skiff_api::channel::{self, Frame};
use skiff_api::object::str_at;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Longest message. kubectl sends 32 KiB at once; JavaScript clients send what a program wrote.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// What is read ahead, and gathered for one write: a TLS record.
const BUFFER_BYTES: usize = 16 * 1024;

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The server's side of an upgraded connection.
pub async fn accept(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// An orderly end.
pub fn goodbye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// Binary messages as one byte stream, both ways.
pub fn bytes(
    socket: Socket,
) -> (
    impl Stream<Item = Bytes> + Unpin,
    impl Sink<Bytes, Error = Error> + Unpin,
) {
    let (sink, messages) = socket.split();
    let incoming = messages.scan((), |(), message| std::future::ready(message.ok().map(payload)));
    let outgoing = sink.with(|bytes: Bytes| std::future::ready(Ok::<_, Error>(Message::Binary(bytes))));
    (incoming, outgoing)
}

/// What a message carries; nothing for pings and their like.
fn payload(message: Message) -> Bytes {
    match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => text.into(),
        _ => Bytes::new(),
    }
}

/// How one sub-protocol writes channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// A digit and base64 instead of a byte and bytes.
    pub base64: bool,
    /// The error channel carries a Status; before version 4 it is the bare text of an error.
    pub status: bool,
}

impl Dialect {
    pub fn of(protocol: &str) -> Self {
        Self {
            base64: protocol.contains("base64"),
            status: protocol.starts_with("v4.") || protocol.starts_with("v5."),
        }
    }

    pub fn message(self, channel: u8, payload: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{channel}{}", STANDARD.encode(payload)));
        }
        let mut message = BytesMut::with_capacity(1 + payload.len());
        message.put_u8(channel);
        message.put_slice(payload);
        Message::Binary(message.freeze())
    }

    /// None for pings, and for what says nothing.
    pub fn frame(self, message: Message) -> Option<Frame> {
        let mut bytes = payload(message);
        let channel = bytes.split_to_checked(1)?[0];
        if !self.base64 {
            return Some(Frame::new(channel, bytes));
        }
        let channel = channel.checked_sub(b'0')?;
        Some(Frame::new(channel, STANDARD.decode(&bytes).ok()?))
    }

    /// The last message: how it ended. Old dialects say nothing of a success.
    pub fn ending(self, status: &Value) -> Option<Message> {
        ending(self.status, status).map(|text| self.message(channel::ERROR, text.as_bytes()))
    }
}

/// What the error channel says of an end, in a protocol with or without Status objects.
pub fn ending(with_status: bool, status: &Value) -> Option<String> {
    if with_status {
        return Some(status.to_string());
    }
    (str_at(status, "/status") != "Success").then(|| str_at(status, "/message").to_owned())
}

/// `split_to` that refuses instead of panicking.
trait SplitTo {
    fn split_to_checked(&mut self, at: usize) -> Option<Bytes>;
}

impl SplitTo for Bytes {
    fn split_to_checked(&mut self, at: usize) -> Option<Bytes> {
        (self.len() >= at).then(|| self.split_to(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_dialect_reads_what_it_writes() {
        for protocol in [
            "v5.channel.k8s.io",
            "v4.base64.channel.k8s.io",
            "base64.channel.k8s.io",
            "",
        ] {
            let dialect = Dialect::of(protocol);
            let message = dialect.message(channel::STDIN, b"a\0\xff");
            assert_eq!(message.is_text(), protocol.contains("base64"));
            assert_eq!(
                dialect.frame(message),
                Some(Frame::new(channel::STDIN, &b"a\0\xff"[..]))
            );
        }
        assert_eq!(
            Dialect::of("base64.channel.k8s.io").message(1, b"hi"),
            Message::text("1aGk=")
        );
    }

    #[test]
    fn what_is_no_frame_says_nothing() {
        let binary = Dialect::of("v5.channel.k8s.io");
        assert_eq!(binary.frame(Message::Binary(Bytes::new())), None);
        assert_eq!(binary.frame(Message::Ping(Bytes::new())), None);
        let base64 = Dialect::of("base64.channel.k8s.io");
        assert_eq!(base64.frame(Message::text("0*")), None);
        assert_eq!(base64.frame(Message::text("!")), None);
    }

    #[test]
    fn only_newer_dialects_tell_of_a_success() {
        let (good, bad) = (
            json!({"status": "Success"}),
            json!({"status": "Failure", "message": "no"}),
        );
        let old = Dialect::of("v2.channel.k8s.io");
        assert_eq!(old.ending(&good), None);
        assert_eq!(old.ending(&bad), Some(Message::Binary(Bytes::from_static(b"\x03no"))));
        let new = Dialect::of("v4.channel.k8s.io").ending(&good).unwrap();
        assert_eq!(new.into_data()[1..], *br#"{"status":"Success"}"#);
    }
}
