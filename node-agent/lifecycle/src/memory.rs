//! What must survive a restart of the agent, because the runtime cannot show it: attempts, back-off, probe counts, times
//! of transition, and how containers ended whose sandbox is gone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::action::{Operation, ProbeKind};
use crate::observed::ContainerView;

/// First wait before a crashed container, or a failed pull, is tried again; doubles each time. Kubelet's values.
pub const BACK_OFF_INITIAL: SignedDuration = SignedDuration::from_secs(10);
pub const BACK_OFF_MAX: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodMemory {
    pub start_time: Option<Timestamp>,
    /// Why the pod failed as a whole: refused at admission, or out of time.
    pub failure: Option<PodFailure>,
    pub containers: BTreeMap<String, ContainerMemory>,
    /// Last address of the sandbox.
    pub pod_ip: Option<String>,
    pub conditions: BTreeMap<String, ConditionMemory>,
    /// All init containers were through once; regular ones do not run again.
    pub initialized: bool,
    /// When the pod was first seen to be terminating.
    pub terminating_since: Option<Timestamp>,
    /// The phase was terminal; it never changes after that.
    pub terminal_phase: Option<String>,
    /// A sandbox was made at least once.
    pub sandbox_made: bool,
    /// The pod's directories were removed.
    pub volumes_removed: bool,
    /// `Finish` was asked for.
    pub finished: bool,
    pub sandbox_problem: Option<Problem>,
    /// Volumes are set up afresh by each agent process.
    #[serde(skip)]
    pub volumes_ready: bool,
    #[serde(skip)]
    pub volumes_problem: Option<Problem>,
    #[serde(skip)]
    pub in_flight: BTreeSet<Operation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFailure {
    pub reason: String,
    pub message: String,
    /// Refused before anything ran.
    pub at_admission: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionMemory {
    pub status: String,
    pub since: Timestamp,
}

/// Something failed and is tried again later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    pub retry_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerMemory {
    /// The newest attempt as last seen.
    pub current: Option<ContainerView>,
    /// How the attempt before it ended.
    pub last: Option<ContainerView>,
    pub crash_back_off: Option<BackOff>,
    /// A BackOff event was told for this attempt's end.
    pub back_off_told: bool,
    /// The attempt that `pulled` is for: every start looks at the image again, as its pull policy says.
    pub pulled: Option<PulledImage>,
    pub pull_problem: Option<Problem>,
    /// What the pull at hand waits for. Not kept: a pull begins anew with the agent.
    #[serde(skip)]
    pub pull_waits: Option<String>,
    pub pull_back_off: Option<BackOff>,
    pub pull_back_off_told: bool,
    pub problem: Option<Problem>,
    pub probes: BTreeMap<ProbeKind, ProbeMemory>,
    /// Whether the postStart hook of this attempt went well, once it returned.
    pub post_start: Option<bool>,
    pub stop: Option<Stop>,
    pub pre_stop_done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    pub attempt: u32,
    pub image: String,
    pub image_id: String,
    pub size_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeMemory {
    /// Not kept: a probe that runs a little early after a restart costs less than a write to disk after each probe.
    #[serde(skip)]
    pub last_run: Option<Timestamp>,
    pub successes: u32,
    pub failures: u32,
    /// What the thresholds made of the runs so far.
    pub result: Option<bool>,
}

/// We asked the container to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub asked_at: Timestamp,
    /// When it is ended by force.
    pub force_at: Timestamp,
    /// The runtime was told; before that the preStop hook runs.
    pub sent: bool,
}

/// Doubling wait with kubelet's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    pub delay_seconds: i64,
    pub updated_at: Timestamp,
}

impl BackOff {
    /// Forgotten when nothing failed for twice the longest wait (10 min).
    fn has_expired(&self, at: Timestamp) -> bool {
        at.duration_since(self.updated_at) > BACK_OFF_MAX * 2
    }

    /// The end of the wait that an event at `event` is under, or None when there is none.
    pub fn wait_until(this: Option<&Self>, event: Timestamp) -> Option<Timestamp> {
        let back_off = this.filter(|back_off| !back_off.has_expired(event))?;
        Some(event + SignedDuration::from_secs(back_off.delay_seconds))
    }

    /// The next, longer wait.
    pub fn next(this: Option<&Self>, now: Timestamp) -> Self {
        let delay_seconds = match this.filter(|back_off| !back_off.has_expired(now)) {
            Some(back_off) => (back_off.delay_seconds * 2).min(BACK_OFF_MAX.as_secs()),
            None => BACK_OFF_INITIAL.as_secs(),
        };
        Self {
            delay_seconds,
            updated_at: now,
        }
    }
}

impl PodMemory {
    pub fn container(&self, name: &str) -> Option<&ContainerMemory> {
        self.containers.get(name)
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// A pod that this node cannot take.
    pub fn reject(&mut self, reason: &str, message: &str) {
        self.failure = Some(PodFailure {
            reason: reason.to_owned(),
            message: message.to_owned(),
            at_admission: true,
        });
    }

    /// Whether any container of it may be running.
    pub fn may_be_running(&self) -> bool {
        self.containers.values().any(|container| container.is_alive())
    }

    /// For deciding whether the node still has room: the pod holds no resources any more.
    pub fn is_over(&self) -> bool {
        self.terminal_phase.is_some() || self.finished || self.failure.as_ref().is_some_and(|f| f.at_admission)
    }
}

impl ContainerMemory {
    /// Created or running, as far as we know.
    pub fn is_alive(&self) -> bool {
        self.current.as_ref().is_some_and(|current| !current.has_exited())
    }
    pub fn is_running(&self) -> bool {
        self.current.as_ref().is_some_and(ContainerView::is_running)
    }
    pub fn next_attempt(&self) -> u32 {
        self.current.as_ref().map_or(0, |current| current.attempt + 1)
    }
    pub fn probe(&self, kind: ProbeKind) -> Option<&ProbeMemory> {
        self.probes.get(&kind)
    }

    /// Whether a look tells something: an older attempt, or one that we know has ended, changes nothing.
    pub(crate) fn is_news(&self, view: &ContainerView) -> bool {
        self.current.as_ref().is_none_or(|current| {
            current.attempt < view.attempt || current.attempt == view.attempt && !current.has_exited()
        })
    }

    /// A look at the container; one that is no news changes nothing.
    pub(crate) fn see(&mut self, view: &ContainerView, now: Timestamp) {
        if !self.is_news(view) {
            return;
        }
        let old = self.current.replace(view.clone());
        if old.as_ref().is_some_and(|old| old.attempt == view.attempt) {
            return;
        }
        if let Some(old) = old {
            self.last = Some(old);
            self.crash_back_off = Some(BackOff::next(self.crash_back_off.as_ref(), now));
        }
        self.probes.clear();
        self.post_start = None;
        self.stop = None;
        self.pre_stop_done = false;
        self.back_off_told = false;
        self.problem = None;
        self.pull_problem = None;
    }
}
