//! The stdin of a guest or of a shell: bytes from whoever is attached, waiting for the guest's reads.
//!
//! A container's own stdin is open and silent while nobody is attached. It ends when the container is asked to stop: that
//! is how a command learns of a graceful stop, WASI having no signals.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::session::{PIECE, STDIN_WINDOW};

#[derive(Clone, Default)]
pub(crate) struct Stdin(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    heeded: AtomicBool,
    /// Bytes were taken out.
    taken: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<u8>,
    closed: bool,
    /// Bytes taken out since [`Stdin::taken`] last said so.
    taken: usize,
    readers: Vec<Waker>,
}

impl State {
    fn take(&mut self, most: usize) -> Bytes {
        let count = most.min(self.waiting.len());
        self.taken += count;
        self.waiting.drain(..count).collect()
    }
}

impl Stdin {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic happens while stdin is held")
    }

    /// No more will come: readers see the end behind what waits.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.readers.drain(..).for_each(Waker::wake);
        drop(state);
        self.0.taken.notify_one();
    }

    /// True once the guest read or waited for stdin: it can learn of a stop, so it is given the grace period.
    pub(crate) fn is_heeded(&self) -> bool {
        self.0.heeded.load(Ordering::Relaxed)
    }

    fn heed(&self) {
        self.0.heeded.store(true, Ordering::Relaxed);
    }

    /// Appends as much as there is room for; returns how much. After the end everything is taken, and forgotten.
    pub(crate) fn push(&self, bytes: &[u8]) -> usize {
        let mut state = self.state();
        if state.closed {
            return bytes.len();
        }
        let count = bytes.len().min(STDIN_WINDOW - state.waiting.len());
        state.waiting.extend(&bytes[..count]);
        state.readers.drain(..).for_each(Waker::wake);
        count
    }

    /// Appends everything, waiting for room.
    pub(crate) async fn push_all(&self, mut bytes: &[u8]) {
        loop {
            bytes = &bytes[self.push(bytes)..];
            if bytes.is_empty() {
                return;
            }
            self.0.taken.notified().await;
        }
    }

    /// Forgets what waits, as a terminal does at Ctrl-C.
    pub(crate) fn clear(&self) {
        self.state().take(usize::MAX);
        self.0.taken.notify_one();
    }

    /// Waits until bytes were taken; returns how many since the last call. For one caller; pends for ever behind the end.
    pub(crate) async fn taken(&self) -> usize {
        loop {
            let taken = std::mem::take(&mut self.state().taken);
            if taken > 0 {
                return taken;
            }
            self.0.taken.notified().await;
        }
    }

    fn poll_take(&self, cx: &mut Context<'_>, most: usize) -> Poll<Bytes> {
        let mut state = self.state();
        let bytes = state.take(most);
        if bytes.is_empty() && !state.closed && most > 0 {
            if !state.readers.iter().any(|reader| reader.will_wake(cx.waker())) {
                state.readers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        drop(state);
        self.0.taken.notify_one();
        Poll::Ready(bytes)
    }

    /// The next bytes, at most [`PIECE`]; none = the end.
    pub(crate) async fn read(&self) -> Bytes {
        std::future::poll_fn(|cx| self.poll_take(cx, PIECE)).await
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        self.heed();
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if state.closed || !state.waiting.is_empty() {
                return Poll::Ready(());
            }
            if !state.readers.iter().any(|reader| reader.will_wake(cx.waker())) {
                state.readers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

#[async_trait::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.heed();
        let mut state = self.state();
        let bytes = state.take(size.min(PIECE));
        if bytes.is_empty() && state.closed {
            return Err(StreamError::Closed);
        }
        drop(state);
        self.0.taken.notify_one();
        Ok(bytes)
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.heed();
        self.poll_take(cx, out.remaining()).map(|bytes| {
            out.put_slice(&bytes);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_then_the_end() {
        let stdin = Stdin::default();
        let data: Vec<u8> = (0..3 * STDIN_WINDOW).map(|n| n as u8).collect();
        let (sent, writer) = (data.clone(), stdin.clone());
        let writing = tokio::spawn(async move {
            writer.push_all(&sent).await;
            writer.close();
        });
        let mut read = Vec::new();
        loop {
            let piece = stdin.read().await;
            if piece.is_empty() {
                break;
            }
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
        }
        writing.await.expect("no panic");
        assert!(read == data);
        assert_eq!(stdin.taken().await, data.len());
    }

    #[test]
    fn no_more_waits_than_the_window() {
        let stdin = Stdin::default();
        assert_eq!(stdin.push(&[1; STDIN_WINDOW]), STDIN_WINDOW);
        assert_eq!(stdin.push(&[1]), 0);
        stdin.clear();
        assert_eq!(stdin.push(&[1]), 1);
        stdin.close();
        assert_eq!(stdin.push(&[1; STDIN_WINDOW]), STDIN_WINDOW, "forgotten");
        assert!(!stdin.is_heeded());
    }
}
