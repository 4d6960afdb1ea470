//! The port between the node agent and whatever runs containers (wasm, later OCI).
//!
//! `list` is the only source of truth. The wake sender handed to a runtime at construction says "look again at this
//! pod", never what happened. Every call is safe to repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub mod contract;
pub mod error;
pub mod fake;
pub mod io;
pub mod usage;

pub use error::RuntimeError;
pub use io::{BoxRead, BoxWrite, StreamIo, TerminalSize};
pub use usage::{ContainerUsage, Figures, HostUsage, Usage};

/// Says "look again at the pod with this uid". Bounded; a full channel means that a look is due anyway.
pub type WakeSender = tokio::sync::mpsc::Sender<String>;

/// Told what something waits for, whenever that changes.
pub type Says<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// An image on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As the pod names it.
    pub reference: String,
    /// `sha256:…` of the manifest: what status.containerStatuses[].imageID ends with.
    pub digest: String,
    /// Size in bytes of all layers.
    pub size_bytes: u64,
}

/// A pod's surroundings: one per pod, made before its containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    /// Address that the pod's servers bind.
    pub ip: IpAddr,
    pub hostname: String,
    /// Directory for the pod's logs: `<log_dir>/<container>/<restart count>.log`.
    pub log_dir: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// One directory of the node that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: String,
    pub read_only: bool,
}

/// Limits of one container, from `resources`. Absent = no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes over all memories and tables of the instance. Over it → `OOMKilled`, exit code 137.
    pub memory_limit_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    pub cpu_request_millis: Option<u64>,
    /// Bytes that the guest may write to its writable mounts and logs.
    pub ephemeral_storage_limit_bytes: Option<u64>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub pod_uid: String,
    /// Container name within the pod.
    pub name: String,
    /// Restart count; makes the container's identity unique: `<pod_uid>/<name>/<attempt>`.
    pub attempt: u32,
    pub image: Image,
    /// `command` + `args` after expansion of `$(VAR)`; empty = the module's name only.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub resources: Resources,
    /// What the pod's `skiff.dev/config` names, for guests that ask for it (`wasi:config`).
    #[serde(default)]
    pub config: Vec<(String, String)>,
    /// TCP ports from `ports`, in order. An http component serves on the first (8080 when there is none).
    pub ports: Vec<u16>,
    /// `stdin` and `stdinOnce`.
    #[serde(default)]
    pub stdin: StdinMode,
}

/// What those who attach may write to the container's stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StdinMode {
    /// Nothing: it is open and silent.
    #[default]
    Silent,
    /// It stays open when they leave.
    Open,
    /// It ends with the first of them.
    Once,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    Created,
    Running,
    Exited,
}

/// What a runtime knows of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub pod_uid: String,
    pub name: String,
    pub attempt: u32,
    pub phase: ContainerPhase,
    /// `wasm://<id>`, for status.containerStatuses[].containerID.
    pub id: String,
    pub image: Image,
    /// Seconds since the epoch; 0 = not yet.
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `DeadlineExceeded`, … when exited; a waiting reason while created.
    pub reason: String,
    /// One paragraph for a human; for a trap its symbolised backtrace.
    pub message: String,
    /// Usage so far, as of the container's last change; [`Runtime::usage`] reads what is used now.
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    /// What the container itself says; true unless it can and does say otherwise.
    #[serde(default = "ready")]
    pub ready: bool,
}

fn ready() -> bool {
    true
}

/// A pod as a runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    pub ip: IpAddr,
    pub created_at: i64,
    pub containers: Vec<ContainerState>,
}

/// Credentials for a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullCredentials {
    pub username: String,
    pub password: String,
}

#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// RuntimeClass handler that it answers to: `wasm`.
    fn name(&self) -> &'static str;
    /// Makes the image ready to start (pulled, verified, compiled). With `pull = false` only looks locally.
    async fn ensure_image(
        &self,
        reference: &str,
        pull: bool,
        credentials: &[PullCredentials],
    ) -> Result<Image, RuntimeError>;
    /// As [`Runtime::ensure_image`]; tells `says` whenever it waits for something else, in words for `kubectl describe`.
    async fn ensure_image_saying(
        &self,
        reference: &str,
        pull: bool,
        credentials: &[PullCredentials],
        _says: Says<'_>,
    ) -> Result<Image, RuntimeError> {
        self.ensure_image(reference, pull, credentials).await
    }
    /// Forgets the images whose references are not `in_use`. Returns the bytes freed.
    async fn collect_images(&self, in_use: &BTreeSet<String>) -> Result<u64, RuntimeError>;
    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError>;
    /// Ends and forgets all of the pod.
    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError>;
    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError>;
    async fn start_container(&self, pod_uid: &str, name: &str) -> Result<(), RuntimeError>;
    /// Asks the container to end, and ends it after `grace_period_seconds`. Answers at once; `list` tells the rest.
    async fn stop_container(&self, pod_uid: &str, name: &str, grace_period_seconds: u64) -> Result<(), RuntimeError>;
    /// Forgets an exited container (all attempts but the newest exited one keep only their logs).
    async fn remove_container(&self, pod_uid: &str, name: &str) -> Result<(), RuntimeError>;
    /// Runs `command` beside the container's guest, over `io`, to its end. Returns its exit code. `command` is not empty.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such container or it does not run; [`RuntimeError::Unsupported`] when the
    /// runtime cannot.
    async fn exec(
        &self,
        _pod_uid: &str,
        _container: &str,
        _command: &[String],
        _io: StreamIo,
    ) -> Result<i32, RuntimeError> {
        Err(RuntimeError::Unsupported {
            what: "exec".to_owned(),
        })
    }
    /// Connects `io` to the running container's own stdin, stdout and stderr, until the container ends or `io` is closed.
    ///
    /// # Errors
    /// As [`Runtime::exec`].
    async fn attach(&self, _pod_uid: &str, _container: &str, _io: StreamIo) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported {
            what: "attach".to_owned(),
        })
    }
    /// Reads what the containers use now.
    async fn usage(&self) -> Result<Usage, RuntimeError> {
        Ok(Usage::default())
    }
    /// Every sandbox with its containers.
    async fn list(&self) -> Result<Vec<SandboxState>, RuntimeError>;
    /// One pod out of `list`, None when it has no sandbox here. Called often: a runtime that can answer without listing
    /// everything should.
    async fn inspect(&self, pod_uid: &str) -> Result<Option<SandboxState>, RuntimeError> {
        Ok(self
            .list()
            .await?
            .into_iter()
            .find(|sandbox| sandbox.pod_uid == pod_uid))
    }
}
