//! SPDY/3.1, the little of it that kubectl's port-forward speaks (and the exec of clients from before WebSockets): streams
//! that the client opens, data both ways, nothing pushed. Small and bounded, because strangers write to it.
//!
//! Reading order: `headers` (the compressed header block), `frame` (bytes ⇄ frames), `session` (streams over a connection).

pub mod frame;
pub mod headers;
pub mod session;
#[cfg(test)]
mod tests;
mod window;

pub use session::{Receiver, Sender, Stream};

/// The peer broke the protocol or a bound; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("a control frame of {0} bytes is longer than {max}", max = frame::CONTROL_BYTES_MAX)]
    FrameTooLong(usize),
    #[error("version {0} of SPDY is not spoken here")]
    Version(u16),
    #[error("a control frame of type {0} has the wrong length")]
    Malformed(u16),
    #[error("a header block cannot be decompressed")]
    Compression,
    #[error("a header block is longer than {max} bytes or has more than {count} fields", max = headers::BLOCK_BYTES_MAX, count = headers::FIELDS_MAX)]
    HeadersTooLong,
    #[error("a header block is malformed")]
    Headers,
    #[error("stream {0} is not the client's next")]
    StreamId(u32),
    #[error("a window grew beyond its largest size")]
    Window,
}
