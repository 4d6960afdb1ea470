//! A guest's stdin: open and silent while the container runs, at its end when the container is asked to stop. That is
//! how a command learns of a graceful stop, WASI having no signals.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

#[derive(Clone, Default)]
pub(crate) struct Stdin {
    closed: CancellationToken,
    heeded: Arc<AtomicBool>,
}

impl Stdin {
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// True once the guest read or waited for stdin: it can learn of a stop, so it is given the grace period.
    pub(crate) fn is_heeded(&self) -> bool {
        self.heeded.load(Ordering::Relaxed)
    }

    fn heed(&self) {
        self.heeded.store(true, Ordering::Relaxed);
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        let waiting = Box::pin(self.closed.clone().cancelled_owned());
        Box::new(Reader {
            stdin: self.clone(),
            waiting,
        })
    }
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        self.heed();
        self.closed.cancelled().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        self.heed();
        match self.closed.is_cancelled() {
            true => Err(StreamError::Closed),
            false => Ok(Bytes::new()),
        }
    }
}

struct Reader {
    stdin: Stdin,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.stdin.heed();
        self.waiting.as_mut().poll(cx).map(|()| Ok(()))
    }
}
