//! What the runtime shows of one pod, in lifecycle's own words.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One look at the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub sandbox: Sandbox,
    /// Address of the node, for `status.hostIP`.
    pub host_ip: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Sandbox {
    /// The runtime answered, and has nothing of this pod.
    Absent,
    Known(SandboxView),
    /// The runtime did not answer. Nothing may be concluded from it.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SandboxView {
    pub ip: String,
    pub containers: Vec<ContainerView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    Created,
    Running,
    Exited,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerView {
    pub name: String,
    /// How many containers of this name came before: the restart count.
    pub attempt: u32,
    pub phase: ContainerPhase,
    /// `wasm://…`
    pub id: String,
    pub image: String,
    /// What `imageID` shows: `repository@sha256:…`.
    pub image_id: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    /// What the container itself says of its readiness; true unless it can and does say otherwise.
    #[serde(default = "ready")]
    pub ready: bool,
}

fn ready() -> bool {
    true
}

impl ContainerView {
    pub fn is_running(&self) -> bool {
        self.phase == ContainerPhase::Running
    }
    pub fn has_exited(&self) -> bool {
        self.phase == ContainerPhase::Exited
    }
}
