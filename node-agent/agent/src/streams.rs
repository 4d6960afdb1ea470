//! `exec` and `attach`: the channel frames in the two bodies of one request, to and from the runtime's streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skiff_api::channel::{self, Decoder, Frame};
use skiff_runtime::io::BoxWrite;
use skiff_runtime::{Runtime, RuntimeError, StreamIo, TerminalSize};
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::server::sessions::Held;

/// Frames on their way to the control plane; with the longest payload (64 KiB) this bounds what a slow reader holds here.
const FRAMES_MAX: usize = 4;
/// Bytes of stdin that wait for the guest.
const STDIN_BYTES_MAX: usize = 64 << 10;
/// Sizes of the terminal that wait for the runtime. One that never looks must not stop stdin, so further ones are dropped.
const SIZES_MAX: usize = 16;

/// What is to be done in a running container.
pub(crate) enum Call {
    Exec(Vec<String>),
    Attach,
}

/// The streams that the client has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

pub(crate) struct Session {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) pod_uid: String,
    pub(crate) container: String,
    pub(crate) call: Call,
    pub(crate) wanted: Wanted,
}

impl Session {
    /// Starts it. What is received is the answer's body; dropping the receiver ends the session.
    pub(crate) fn start(self, body: Incoming, held: Held) -> mpsc::Receiver<Bytes> {
        let (frames, receiver) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(async move {
            tokio::select! {
                () = self.run(body, frames) => {}
                () = held.cancelled.cancelled() => {}
            }
        });
        receiver
    }

    async fn run(self, body: Incoming, frames: mpsc::Sender<Bytes>) {
        let (stdin, theirs) = tokio::io::duplex(STDIN_BYTES_MAX);
        let (sizes, resize) = mpsc::channel(SIZES_MAX);
        let writer = |channel, wanted: bool| -> Option<BoxWrite> {
            wanted.then(|| Box::new(FrameWriter::new(channel, &frames)) as BoxWrite)
        };
        let io = StreamIo {
            stdin: self.wanted.stdin.then(|| Box::new(theirs) as _),
            stdout: writer(channel::STDOUT, self.wanted.stdout),
            stderr: writer(channel::STDERR, self.wanted.stderr && !self.wanted.tty),
            tty: self.wanted.tty,
            resize,
        };
        let feeding = async {
            feed(body, self.wanted.stdin.then_some(stdin), sizes).await;
            // Only the command or the client ends a session: a script's stdin ends long before its output.
            std::future::pending::<()>().await
        };
        let status = tokio::select! {
            status = self.call(io) => status,
            () = feeding => return,
            () = frames.closed() => return,
        };
        // An error means that the client left in this moment.
        let _ = frames
            .send(Frame::new(channel::ERROR, status.to_string()).encode())
            .await;
    }

    /// How it ended, in kubelet's words.
    async fn call(&self, io: StreamIo) -> Value {
        match &self.call {
            Call::Exec(command) => match self.runtime.exec(&self.pod_uid, &self.container, command, io).await {
                Ok(code) => channel::exit_status(code),
                Err(error) => failure("error executing command in container", &error),
            },
            Call::Attach => match self.runtime.attach(&self.pod_uid, &self.container, io).await {
                Ok(()) => channel::exit_status(0),
                Err(error) => failure("error attaching to container", &error),
            },
        }
    }
}

fn failure(attempted: &str, error: &RuntimeError) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {attempted}: {error}"),
        "details": {"causes": [{"message": format!("{attempted}: {error}")}]},
    })
}

/// Hands on what the client sends, until its end or until it sends what is no frame. The end of stdin, by a close frame or
/// with the body, is the drop of its pipe.
async fn feed(mut body: Incoming, mut stdin: Option<DuplexStream>, sizes: mpsc::Sender<TerminalSize>) {
    let mut decoder = Decoder::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        decoder.push(&data);
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            match frame.channel {
                channel::STDIN => {
                    if let Some(pipe) = &mut stdin
                        && pipe.write_all(&frame.payload).await.is_err()
                    {
                        // A guest that closed its stdin does not want the rest, and its output goes on.
                        stdin = None;
                    }
                }
                channel::CLOSE if frame.payload[..] == [channel::STDIN] => stdin = None,
                channel::RESIZE => {
                    if let Some((width, height)) = channel::terminal_size(&frame.payload) {
                        let _ = sizes.try_send(TerminalSize { width, height });
                    }
                }
                _ => {}
            }
        }
    }
}

/// Writes one channel's frames; waits while the control plane does not take them.
struct FrameWriter {
    channel: u8,
    frames: PollSender<Bytes>,
}

impl FrameWriter {
    fn new(channel: u8, frames: &mpsc::Sender<Bytes>) -> Self {
        let frames = PollSender::new(frames.clone());
        Self { channel, frames }
    }
}

impl AsyncWrite for FrameWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(this.frames.poll_reserve(cx)).map_err(gone)?;
        let piece = &buf[..buf.len().min(channel::PAYLOAD_BYTES_MAX)];
        let frame = Frame::new(this.channel, Bytes::copy_from_slice(piece)).encode();
        this.frames.send_item(frame).map_err(gone)?;
        Poll::Ready(Ok(piece.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
