//! What agent and worker say to each other: frames of a 4-byte little-endian length and JSON, over a Unix socket.
//!
//! The agent says first what the connection is for. One of control is greeted with everything that runs; then answers and changes follow in one order, so that the agent's picture
//! of the worker is right whenever an answer arrives.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skiff_runtime::{ContainerSpec, Figures, RuntimeError, SandboxSpec, SandboxState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::engine::Flavour;
use crate::inspect::Kind;
use crate::limits;
use crate::session::Open;

/// Grows whenever an older worker would misunderstand; such a worker is ended by the agent instead of adopted.
pub(crate) const PROTOCOL: u32 = 3;
/// Name of the socket in the worker's directory.
pub(crate) const SOCKET: &str = "control.sock";

/// Compiled code, as the agent vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) path: PathBuf,
    /// The worker checks it on the open file before mapping.
    pub(crate) sha256: String,
    pub(crate) kind: Kind,
    pub(crate) p3: bool,
}

/// First on every connection, by the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    /// Calls and changes, as here.
    Control,
    /// One `exec` or `attach`: [`session`](crate::session).
    Session(Box<Open>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    CreateSandbox {
        spec: SandboxSpec,
    },
    RemoveSandbox {
        pod_uid: String,
    },
    CreateContainer {
        spec: Box<ContainerSpec>,
        artifact: Artifact,
    },
    StartContainer {
        pod_uid: String,
        name: String,
    },
    StopContainer {
        pod_uid: String,
        name: String,
        grace_period_seconds: u64,
    },
    RemoveContainer {
        pod_uid: String,
        name: String,
    },
    /// Answered after a report of what changed since the report of this number; 0 = everything.
    Usage {
        after: u64,
    },
}

/// What is told before the answer to a call.
pub(crate) enum About {
    Pod(String),
    Usage { after: u64 },
}

impl Call {
    /// What it concerns.
    pub(crate) fn about(&self) -> About {
        let pod_uid = match self {
            Self::CreateSandbox { spec } => &spec.pod_uid,
            Self::CreateContainer { spec, .. } => &spec.pod_uid,
            Self::RemoveSandbox { pod_uid }
            | Self::StartContainer { pod_uid, .. }
            | Self::StopContainer { pod_uid, .. }
            | Self::RemoveContainer { pod_uid, .. } => pod_uid,
            Self::Usage { after } => return About::Usage { after: *after },
        };
        About::Pod(pod_uid.clone())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) call: Call,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First on a connection of control, and again when changes were lost: everything that runs.
    All {
        protocol: u32,
        pid: u32,
        namespace: String,
        pods: Vec<(SandboxSpec, SandboxState)>,
    },
    /// A pod as it is now; None = gone.
    Changed { pod_uid: String, pod: Option<SandboxState> },
    /// What the containers use.
    Usage(UsageReport),
    /// The end of a call, after the pod's state that it led to, or the report that it asked for.
    Answer { id: u64, error: Option<WireError> },
}

/// What containers use whose figures changed, and what the worker uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UsageReport {
    /// Its number, from 1.
    pub(crate) report: u64,
    /// When all figures were read, those left out included: nanoseconds of the monotonic clock.
    pub(crate) read_nanos: u64,
    pub(crate) changed: Vec<ContainerFigures>,
    pub(crate) process: ProcessUsage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerFigures {
    pub(crate) pod_uid: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) figures: Figures,
    pub(crate) limit_hits: Vec<(String, u64)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProcessUsage {
    pub(crate) pid: u32,
    pub(crate) cpu_nanos: u64,
    /// Charged to no container.
    pub(crate) overhead_cpu_nanos: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) pools: Vec<PoolUsage>,
    pub(crate) instantiations: Instantiations,
}

/// One engine's pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PoolUsage {
    pub(crate) flavour: Flavour,
    pub(crate) slots: u64,
    pub(crate) instances: u64,
    pub(crate) core_instances: u64,
    pub(crate) memories: u64,
    pub(crate) tables: u64,
    pub(crate) stacks: u64,
    /// Slots of memories that were used before and keep their pages.
    pub(crate) warm_memories: u64,
    /// Bytes kept resident in slots that are not used.
    pub(crate) warm_bytes: u64,
}

/// How long instantiations took: counts per bucket, not summed up, and the sum.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Instantiations {
    pub(crate) buckets: Vec<u64>,
    pub(crate) sum_nanos: u64,
}

/// A `RuntimeError` on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum WireError {
    Unrunnable(String),
    /// The compiled code on disk is not what was compiled.
    Damaged(String),
    Sandbox(String),
    Create(String),
    Start(String),
    NotFound(String),
    /// It would be over a bound of the worker.
    Busy(String),
}

impl From<WireError> for RuntimeError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Unrunnable(why) | WireError::Damaged(why) => Self::Unrunnable { why },
            WireError::Sandbox(why) => Self::Sandbox { why },
            WireError::Create(why) => Self::Create { why },
            WireError::Start(why) => Self::Start { why },
            WireError::NotFound(what) => Self::NotFound { what },
            WireError::Busy(why) => Self::Unavailable { why },
        }
    }
}

/// How a worker is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerArgs {
    pub(crate) dir: PathBuf,
    pub(crate) namespace: String,
    pub(crate) slots: u32,
    pub(crate) threads: usize,
    /// Guests may reach nothing in these, beside what is always refused.
    pub(crate) denied: Vec<IpAddr>,
}

/// Reads one frame; None at the end of the stream. Errors: a frame over the bound, broken JSON, IO.
pub(crate) async fn read<T: for<'de> Deserialize<'de>>(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > limits::FRAME_BYTES_MAX {
        return Err(std::io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut body = Vec::new();
    // The length is only believed as bytes arrive.
    stream.take(u64::from(length)).read_to_end(&mut body).await?;
    if body.len() != length as usize {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Writes one frame.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> std::io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = u32::try_from(frame.len() - 4)
        .ok()
        .filter(|length| *length <= limits::FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| std::io::Error::other("a frame over the bound"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_over_the_bound_is_refused_before_it_is_read() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(&u32::MAX.to_le_bytes()).await.expect("write");
        assert!(read::<Message>(&mut ours).await.is_err());
    }

    #[tokio::test]
    async fn frames_arrive_as_sent_and_a_cut_one_is_the_end() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        write(&mut theirs, &Message::Answer { id: 7, error: None })
            .await
            .expect("write");
        theirs.write_all(&[9, 0, 0, 0, b'{']).await.expect("write");
        drop(theirs);
        assert!(matches!(
            read::<Message>(&mut ours).await,
            Ok(Some(Message::Answer { id: 7, error: None }))
        ));
        assert!(matches!(read::<Message>(&mut ours).await, Ok(None)));
    }
}
