//! A byte stream with two deadlines that hyper does not have: the first bytes must come, and the peer must keep taking.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::Timeouts;

/// Length of the HTTP/2 connection preface; hyper waits for it without a deadline.
pub(super) const HTTP2_PREFACE_BYTES: usize = 24;

pub(super) struct Guarded<S> {
    stream: S,
    /// Bytes still to come before `deadline` stops counting.
    awaited: usize,
    /// For the first bytes, later for writes.
    deadline: Pin<Box<Sleep>>,
    write_stalled: bool,
    write_stall: Duration,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, awaited: usize, timeouts: Timeouts) -> Self {
        let deadline = Box::pin(sleep(timeouts.first_bytes));
        Self {
            stream,
            awaited,
            deadline,
            write_stalled: false,
            write_stall: timeouts.write_stall,
        }
    }

    /// Keeps the stall clock: running while writes are pending.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.write_stalled = false;
            return poll;
        }
        if self.awaited > 0 {
            // The first-bytes deadline still runs and is the shorter one.
            return poll;
        }
        if !self.write_stalled {
            self.write_stalled = true;
            self.deadline.as_mut().reset(Instant::now() + self.write_stall);
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no data"))),
            Poll::Pending => poll,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.awaited > 0 {
            match &poll {
                Poll::Ready(_) => this.awaited = this.awaited.saturating_sub(buf.filled().len() - before),
                Poll::Pending => {
                    if this.deadline.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "the client sent no request",
                        )));
                    }
                }
            }
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch_write(cx, poll)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch_write(cx, poll)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch_write(cx, poll)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch_write(cx, poll)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
