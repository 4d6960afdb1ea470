//! What can go wrong in the agent as a whole; what goes wrong with one pod is told in that pod's status and events.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The text after `--token` is not a join token.
    #[error("invalid join token: {why}")]
    Token { why: &'static str },
    /// The server answered with a certificate authority that the token does not name.
    #[error(
        "the server's CA certificate does not match the token (token pins sha256:{expected}, server has sha256:{found})"
    )]
    WrongAuthority { expected: String, found: String },
    /// Not joined yet, and no token was given.
    #[error("this node has no certificate in {path:?} and no join token was given")]
    NotJoined { path: PathBuf },
    /// The server refused.
    #[error("{attempted}: server answered {status}: {message}")]
    Refused {
        attempted: &'static str,
        status: u16,
        message: String,
    },
    /// The server does not know the join token (any more).
    #[error(
        "the server does not accept the join token: it is wrong or has expired, make another with `skiff token create`"
    )]
    TokenRefused,
    /// The server could not be reached.
    #[error("could not {attempted}: {why}")]
    Unreachable { attempted: &'static str, why: String },
    /// A certificate, key or address is malformed.
    #[error("could not {attempted}: {why}")]
    Malformed { attempted: &'static str, why: String },
    #[error("could not {attempted} {path:?}")]
    File {
        attempted: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("could not {attempted}")]
    Api {
        attempted: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("could not {attempted}")]
    Runtime {
        attempted: &'static str,
        #[source]
        source: skiff_runtime::RuntimeError,
    },
}

impl AgentError {
    /// Whether trying again later may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Runtime { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Api { source, .. } => !matches!(&**source, kube::Error::Api(status) if status.code < 500),
            _ => false,
        }
    }
}

/// An error with its causes, for one log line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
