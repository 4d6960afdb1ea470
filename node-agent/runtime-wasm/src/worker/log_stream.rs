//! A guest's stdout or stderr: gathers bytes until a line is complete, and writes it to the container's log.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::logs::{ContainerLog, Stream};
use crate::limits;

/// One instance's end of a stream: gathers bytes until a line is complete.
pub(crate) struct LogStream {
    log: Arc<ContainerLog>,
    stream: Stream,
    pending: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    pub(crate) fn new(log: Arc<ContainerLog>, stream: Stream) -> Self {
        Self {
            log,
            stream,
            pending: Arc::default(),
        }
    }

    fn share(&self) -> Self {
        Self {
            log: self.log.clone(),
            stream: self.stream,
            pending: self.pending.clone(),
        }
    }

    pub(super) fn accept(&self, bytes: &[u8]) {
        self.log.taps.write(self.stream, bytes);
        let mut pending = self.pending.lock().expect("no panic happens while a line is held");
        let mut lines: Vec<(&[u8], bool)> = Vec::new();
        let joined;
        let mut rest = if pending.is_empty() {
            bytes
        } else {
            pending.extend_from_slice(bytes);
            joined = std::mem::take(&mut *pending);
            &joined[..]
        };
        loop {
            // A record never gets longer than the bound, whether or not the line ends there.
            let window = &rest[..rest.len().min(limits::LOG_LINE_BYTES_MAX + 1)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                lines.push((&rest[..end], false));
                rest = &rest[end + 1..];
            } else if rest.len() > limits::LOG_LINE_BYTES_MAX {
                lines.push((&rest[..limits::LOG_LINE_BYTES_MAX], true));
                rest = &rest[limits::LOG_LINE_BYTES_MAX..];
            } else {
                break;
            }
        }
        if !lines.is_empty() {
            self.log.write(self.stream, &lines);
        }
        pending.extend_from_slice(rest);
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        // The last handle of the instance writes what never got its newline.
        if Arc::strong_count(&self.pending) == 1 {
            let pending = std::mem::take(&mut *self.pending.lock().expect("no panic happens while a line is held"));
            if !pending.is_empty() {
                self.log.write(self.stream, &[(&pending, false)]);
            }
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.share())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.share())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.accept(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl tokio::io::AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.accept(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
