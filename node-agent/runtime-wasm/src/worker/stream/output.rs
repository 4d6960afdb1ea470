//! Output of a guest into a session: waits for the client, so that the guest does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::session::{Frame, PIECE};

/// A terminal needs a carriage return before each newline.
pub(super) fn with_returns(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + 16);
    let mut before = 0;
    for byte in bytes {
        if *byte == b'\n' && before != b'\r' {
            text.push(b'\r');
        }
        text.push(*byte);
        before = *byte;
    }
    text
}

/// Both outputs of one session.
pub(crate) struct SessionOutput {
    frames: mpsc::Sender<Frame>,
    tty: bool,
}

impl SessionOutput {
    pub(super) fn new(frames: mpsc::Sender<Frame>, tty: bool) -> Self {
        Self { frames, tty }
    }
    pub(crate) fn stdout(&self) -> Sink {
        Sink::new(self.frames.clone(), false, self.tty)
    }
    pub(crate) fn stderr(&self) -> Sink {
        Sink::new(self.frames.clone(), true, self.tty)
    }
}

/// One of them. With a terminal there is one stream only.
#[derive(Clone)]
pub(crate) struct Sink {
    frames: PollSender<Frame>,
    stderr: bool,
    tty: bool,
    /// A place in the queue is reserved.
    ready: bool,
}

impl Sink {
    pub(super) fn new(frames: mpsc::Sender<Frame>, stderr: bool, tty: bool) -> Self {
        Self {
            frames: PollSender::new(frames),
            stderr: stderr && !tty,
            tty,
            ready: false,
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if !self.ready {
            ready!(self.frames.poll_reserve(cx)).map_err(|_| ())?;
            self.ready = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes at most a piece; returns how much. A place must have been reserved.
    fn put(&mut self, bytes: &[u8]) -> Result<usize, ()> {
        let bytes = &bytes[..bytes.len().min(PIECE)];
        let data: Bytes = match self.tty {
            true => with_returns(bytes).into(),
            false => Bytes::copy_from_slice(bytes),
        };
        let frame = if self.stderr {
            Frame::Stderr(data)
        } else {
            Frame::Stdout(data)
        };
        self.ready = false;
        // What is sent into a reserved place that nobody will look at is lost silently.
        if self.frames.get_ref().is_none_or(mpsc::Sender::is_closed) {
            return Err(());
        }
        self.frames.send_item(frame).map_err(|_| ())?;
        Ok(bytes.len())
    }

    /// Sends everything, unless the client is gone.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if std::future::poll_fn(|cx| self.poll_ready(cx)).await.is_err() {
                return;
            }
            match self.put(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(()) => return,
            }
        }
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        self.tty
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.fresh())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.fresh())
    }
}

impl Sink {
    fn fresh(&self) -> Self {
        Self {
            frames: self.frames.clone(),
            ready: false,
            ..*self
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {
        // A client that is gone is told by the write.
        let _ = std::future::poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.ready || bytes.len() > PIECE {
            return Err(StreamError::trap("more was written than was permitted"));
        }
        self.put(&bytes).map(|_| ()).map_err(|()| StreamError::Closed)
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => Ok(PIECE),
            Poll::Ready(Err(())) => Err(StreamError::Closed),
            Poll::Pending => Ok(0),
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let broken = |()| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        ready!(self.poll_ready(cx)).map_err(broken)?;
        Poll::Ready(self.put(bytes).map_err(broken))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_waits_for_its_reader() {
        let (frames, mut queue) = mpsc::channel(1);
        let mut out = SessionOutput::new(frames, true).stderr();
        assert_eq!(out.check_write().expect("open"), PIECE);
        OutputStream::write(&mut out, "a\nb\r\n".into()).expect("written");
        assert_eq!(out.check_write().expect("open"), 0);
        let Some(Frame::Stdout(data)) = queue.recv().await else {
            panic!("a terminal has one output")
        };
        assert_eq!(data, "a\r\nb\r\n");
        out.ready().await;
        assert_eq!(out.check_write().expect("open"), PIECE);
        drop(queue);
        assert!(OutputStream::write(&mut out, "x".into()).is_err());
    }

    #[tokio::test]
    async fn long_output_goes_in_pieces() {
        let (frames, mut queue) = mpsc::channel(8);
        let mut out = SessionOutput::new(frames, false).stdout();
        out.send(&vec![b'x'; 2 * PIECE + 1]).await;
        drop(out);
        let mut lengths = Vec::new();
        while let Some(Frame::Stdout(data)) = queue.recv().await {
            lengths.push(data.len());
        }
        assert_eq!(lengths, [PIECE, PIECE, 1]);
    }
}
