//! The streams of an interactive call: what `kubectl exec` and `kubectl attach` bring to a container.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Size of the client's terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Streams as the caller asked for them; None = not asked for. The callee closes what it writes to when it is done; the end
/// of `stdin` is the client's.
pub struct StreamIo {
    pub stdin: Option<BoxRead>,
    pub stdout: Option<BoxWrite>,
    /// With a terminal there is none: everything goes to `stdout`.
    pub stderr: Option<BoxWrite>,
    pub tty: bool,
    /// Sizes as they change; the first is the size at the start. Empty without a terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
}
