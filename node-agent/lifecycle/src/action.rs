//! What a step asks for, and how the answers come back.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};

use crate::memory::PodMemory;

/// The result of one step. Actions are performed in order; a failed one is recorded and ends the round.
#[derive(Clone, Debug)]
pub struct Step {
    pub actions: Vec<Action>,
    pub events: Vec<PodEvent>,
    pub memory: PodMemory,
    pub status: PodStatus,
    /// Step again no later than this, even if nothing happens.
    pub wake_at: Option<Timestamp>,
    pub report: Report,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// In the background; answered by `Outcome::VolumesReady` or `VolumesFailed`.
    PrepareVolumes,
    /// In the background; answered by `Outcome::ImageReady` or `ImageFailed`.
    PullImage {
        container: String,
        attempt: u32,
    },
    CreateSandbox,
    CreateContainer {
        container: String,
        attempt: u32,
    },
    StartContainer {
        container: String,
    },
    /// In the background; answered by `Outcome::PostStarted`.
    PostStart {
        container: String,
        attempt: u32,
    },
    /// In the background; answered by `Outcome::HookDone`.
    PreStop {
        container: String,
        timeout_seconds: u64,
    },
    /// In the background; answered by `Outcome::Probed`.
    Probe {
        container: String,
        kind: ProbeKind,
    },
    StopContainer {
        container: String,
        grace_period_seconds: u64,
    },
    RemoveContainer {
        container: String,
    },
    RemoveSandbox,
    /// The pod's directory on this node goes.
    RemoveVolumes,
    /// Nothing of the pod is left here: write the last status, and if the pod is being deleted delete it for good.
    Finish,
}

/// An action under way in the background. Kept in memory while it lasts, so that it is not asked for twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Volumes,
    Image(String),
    PostStart(String),
    PreStop(String),
    Probe(String, ProbeKind),
}

/// How an action ended. `PodMemory::record` takes it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    VolumesReady,
    VolumesFailed {
        message: String,
    },
    ImageReady {
        container: String,
        attempt: u32,
        image: String,
        /// As imageID shows it: `repository@digest`.
        image_id: String,
        size_bytes: u64,
    },
    /// The image is on its way, and its compiled code is waited for; the pull goes on.
    ImageWaits {
        container: String,
        message: String,
    },
    ImageFailed {
        container: String,
        reason: String,
        message: String,
    },
    SandboxFailed {
        message: String,
    },
    CreateFailed {
        container: String,
        reason: String,
        message: String,
    },
    StartFailed {
        container: String,
        attempt: u32,
        message: String,
    },
    /// The postStart hook returned; `problem` says why it failed.
    PostStarted {
        container: String,
        attempt: u32,
        problem: Option<String>,
    },
    /// The preStop hook returned, well or not.
    HookDone {
        container: String,
    },
    Probed {
        container: String,
        kind: ProbeKind,
        success: bool,
        output: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Normal,
    Warning,
}

/// An Event about the pod, or about one container of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    pub kind: EventKind,
    pub reason: String,
    pub message: String,
    pub container: Option<String>,
}

/// Why a step asked for what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The runtime does not answer.
    Blind,
    /// Everything is as it should be.
    Settled,
    /// Actions were asked for.
    Acting,
    WaitingFor(Vec<String>),
    /// Nothing of the pod is left on this node.
    Gone,
}
