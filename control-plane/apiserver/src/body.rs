//! Bodies of requests and answers. An answer is mostly shared bytes that were made at write time; nothing is copied.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, SizeHint};

use crate::limiter::Permit;

/// What may go wrong while a body is read or written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

impl From<std::io::Error> for BodyError {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

/// The body of a request, from the network or from within the process.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// Wraps any byte body as a `RequestBody`.
pub fn request_body<B>(body: B) -> RequestBody
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body.map_err(|error| BodyError(error.into())).boxed_unsync()
}

/// The body of an answer.
pub struct Body {
    inner: Inner,
    /// Freed when the body has been sent or given up: the request's place in its budget.
    _held: Option<Permit>,
}

enum Inner {
    Chunks { chunks: VecDeque<Bytes>, left: u64 },
    Stream(BoxStream<'static, Result<Bytes, BodyError>>),
    Boxed(RequestBody),
}

impl Body {
    fn new(inner: Inner) -> Self {
        Self { inner, _held: None }
    }
    /// Keeps the permit until the body ends.
    #[must_use]
    pub fn holding(self, permit: Permit) -> Self {
        Self {
            _held: Some(permit),
            ..self
        }
    }
    pub fn empty() -> Self {
        Self::new(Inner::Chunks {
            chunks: VecDeque::new(),
            left: 0,
        })
    }
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::chunks(VecDeque::from([bytes.into()]))
    }
    /// Shared pieces, sent one after the other.
    pub fn chunks(chunks: VecDeque<Bytes>) -> Self {
        let left = chunks.iter().map(|c| c.len() as u64).sum();
        Self::new(Inner::Chunks { chunks, left })
    }
    /// A body of unknown length, flushed piece by piece: watches and logs.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self::new(Inner::Stream(Box::pin(stream)))
    }
    /// Someone else's body, passed on.
    pub fn boxed(body: RequestBody) -> Self {
        Self::new(Inner::Boxed(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().inner {
            Inner::Chunks { chunks, left } => Poll::Ready(chunks.pop_front().map(|chunk| {
                *left -= chunk.len() as u64;
                Ok(Frame::data(chunk))
            })),
            Inner::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|item| item.map(|r| r.map(Frame::data))),
            Inner::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }
    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Chunks { chunks, .. } => chunks.is_empty(),
            Inner::Stream(_) => false,
            Inner::Boxed(body) => body.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Chunks { left, .. } => SizeHint::with_exact(*left),
            Inner::Stream(_) => SizeHint::default(),
            Inner::Boxed(body) => body.size_hint(),
        }
    }
}
