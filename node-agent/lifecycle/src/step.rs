//! The entry: one function for start, restart, probe failure, deletion and agent restart alike.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::action::{Action, Operation, PodEvent, Report, Step};
use crate::memory::{PodFailure, PodMemory};
use crate::observed::{ContainerPhase, Observed, Sandbox, SandboxView};
use crate::{containers, pod_status, termination, texts};

/// Exit code and texts that kubelet gives a container which vanished.
const LOST_EXIT_CODE: i32 = 137;
pub(crate) const LOST_REASON: &str = "ContainerStatusUnknown";
pub(crate) const LOST_MESSAGE: &str = "The container could not be located when the pod was terminated";

/// Decides what must happen now. `memory` is the one that the last step returned, with all outcomes since recorded.
pub fn step(pod: &Pod, observed: &Observed, memory: &PodMemory, now: Timestamp) -> Step {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut plan = Plan {
        pod,
        spec,
        sandbox: &observed.sandbox,
        now,
        memory: memory.clone(),
        actions: Vec::new(),
        events: Vec::new(),
        wake_at: None,
        waiting: Vec::new(),
        gone: false,
    };
    plan.memory.start_time.get_or_insert(now);
    if observed.sandbox != Sandbox::Unknown {
        plan.look();
        plan.check_deadline();
        if !plan.is_stopping() {
            containers::run(&mut plan);
        }
        if plan.is_stopping() {
            termination::run(&mut plan);
        }
    }
    // Without a look a container may run that memory does not know of yet.
    let has_looked = observed.sandbox != Sandbox::Unknown || plan.memory.terminal_phase.is_some();
    let all_stopped = has_looked && plan.is_stopping() && !plan.memory.may_be_running();
    let status = pod_status::derive(pod, spec, observed, &mut plan.memory, all_stopped, now);
    let report = match () {
        () if observed.sandbox == Sandbox::Unknown => Report::Blind,
        () if !plan.actions.is_empty() => Report::Acting,
        () if plan.gone => Report::Gone,
        () if !plan.waiting.is_empty() => Report::WaitingFor(plan.waiting),
        () => Report::Settled,
    };
    Step {
        actions: plan.actions,
        events: plan.events,
        memory: plan.memory,
        status,
        wake_at: plan.wake_at,
        report,
    }
}

/// A step in the making.
pub(crate) struct Plan<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a PodSpec,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) now: Timestamp,
    pub(crate) memory: PodMemory,
    pub(crate) actions: Vec<Action>,
    pub(crate) events: Vec<PodEvent>,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) waiting: Vec<String>,
    pub(crate) gone: bool,
}

impl Plan<'_> {
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }

    pub(crate) fn wait_for(&mut self, what: impl Into<String>) {
        self.waiting.push(what.into());
    }

    /// Asks for a background action unless it is under way. True when it was asked for.
    pub(crate) fn begin(&mut self, operation: Operation, action: Action) -> bool {
        let fresh = self.memory.in_flight.insert(operation);
        if fresh {
            self.actions.push(action);
        }
        fresh
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Nothing may be started any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_deleted()
            || self.memory.failure.is_some()
            || self.memory.terminal_phase.is_some()
            || containers::is_complete(self.spec, &self.memory)
    }

    pub(crate) fn sandbox_view(&self) -> Option<&SandboxView> {
        match self.sandbox {
            Sandbox::Known(view) => Some(view),
            Sandbox::Absent | Sandbox::Unknown => None,
        }
    }

    /// Takes in what the runtime shows. A container that should be there and is not has ended, we do not know how.
    fn look(&mut self) {
        let views = match self.sandbox {
            Sandbox::Known(view) => {
                self.memory.sandbox_made = true;
                self.memory.sandbox_problem = None;
                self.memory.pod_ip = Some(view.ip.clone());
                let mut views: Vec<_> = view.containers.iter().collect();
                views.sort_by_key(|view| view.attempt);
                views
            }
            Sandbox::Absent | Sandbox::Unknown => Vec::new(),
        };
        for view in &views {
            let container = self.memory.container_mut(&view.name);
            if container.is_news(view)
                && view.has_exited()
                && view.exit_code == texts::TRAPPED
                && !view.message.is_empty()
            {
                self.events.push(texts::trapped(&view.name, &view.message));
            }
            container.see(view, self.now);
        }
        for (name, container) in &mut self.memory.containers {
            let Some(current) = container.current.as_mut().filter(|current| !current.has_exited()) else {
                continue;
            };
            if !views
                .iter()
                .any(|view| &view.name == name && view.attempt == current.attempt)
            {
                current.phase = ContainerPhase::Exited;
                current.exit_code = LOST_EXIT_CODE;
                current.reason = LOST_REASON.to_owned();
                current.message = LOST_MESSAGE.to_owned();
                current.finished_at = Some(self.now);
            }
        }
    }

    fn check_deadline(&mut self) {
        let Some(seconds) = self.spec.active_deadline_seconds else {
            return;
        };
        if self.is_stopping() {
            return;
        }
        let start = self.memory.start_time.unwrap_or(self.now);
        let deadline = start
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX);
        if deadline <= self.now {
            self.memory.failure = Some(PodFailure {
                reason: texts::DEADLINE_EXCEEDED.to_owned(),
                message: texts::DEADLINE_MESSAGE.to_owned(),
                at_admission: false,
            });
            self.events.push(texts::deadline_exceeded());
        } else {
            self.wake(deadline);
        }
    }
}
