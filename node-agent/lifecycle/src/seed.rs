//! Memory of a pod that we have no checkpoint of: what the API object's status tells.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use crate::memory::{ContainerMemory, PodMemory};
use crate::observed::{ContainerPhase, ContainerView};

impl PodMemory {
    /// For a new pod this is empty. For one that ran here before (the agent's data is lost), restart counts go on and a
    /// terminal phase stays; its containers, unless the runtime shows them, count as lost.
    pub fn from_status(pod: &Pod) -> Self {
        let mut memory = Self::default();
        let Some(status) = &pod.status else { return memory };
        memory.start_time = status.start_time.as_ref().map(|time| time.0);
        memory.pod_ip = status.pod_ip.clone();
        let terminal = status
            .phase
            .clone()
            .filter(|phase| phase == "Succeeded" || phase == "Failed");
        memory.terminal_phase = terminal;
        let main = status.container_statuses.as_deref().unwrap_or_default();
        let init = status.init_container_statuses.as_deref().unwrap_or_default();
        memory.initialized = main.iter().any(|status| status.container_id.is_some());
        for status in init.iter().chain(main) {
            if status.container_id.is_some() {
                memory.containers.insert(status.name.clone(), container(status));
            }
        }
        memory
    }

    /// Takes in what the server knows better. A checkpoint that was not on disk yet when the power went is older than the
    /// status that we had written: restart counts never go back. And a pod that others declared ended (the pod garbage
    /// collector does) has ended: it is stopped here, and does not come to life again.
    pub fn catch_up(&mut self, pod: &Pod) {
        let theirs = Self::from_status(pod);
        if self.terminal_phase.is_none() {
            self.terminal_phase = theirs.terminal_phase;
        }
        let attempt = |container: &ContainerMemory| container.current.as_ref().map(|current| current.attempt);
        for (name, theirs) in theirs.containers {
            let ours = self.container_mut(&name);
            if attempt(ours) < attempt(&theirs) {
                *ours = theirs;
            }
        }
    }

    /// The pod ended before, and we know nothing else of it: its status must stay as it is.
    pub fn is_only_terminal(&self) -> bool {
        self.terminal_phase.is_some() && self.containers.is_empty() && self.failure.is_none()
    }
}

fn container(status: &ContainerStatus) -> ContainerMemory {
    let attempt = u32::try_from(status.restart_count).unwrap_or(0);
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let current = match (&state.running, &state.terminated, last) {
        (Some(running), _, _) => ContainerView {
            phase: ContainerPhase::Running,
            started_at: running.started_at.as_ref().map(|time| time.0),
            ..view(status, attempt, None)
        },
        (None, Some(terminated), _) => view(status, attempt, Some(terminated)),
        // Waiting to be started again: what is shown as last is the newest attempt.
        (None, None, last) => view(status, attempt, last),
    };
    let last = if state.waiting.is_some() { None } else { last };
    let last = last.map(|last| view(status, attempt.saturating_sub(1), Some(last)));
    ContainerMemory {
        // It shows as running only after its hook.
        post_start: state.running.as_ref().map(|_| true),
        current: Some(current),
        last,
        ..ContainerMemory::default()
    }
}

fn view(status: &ContainerStatus, attempt: u32, end: Option<&ContainerStateTerminated>) -> ContainerView {
    let end = end.cloned().unwrap_or_default();
    ContainerView {
        name: status.name.clone(),
        attempt,
        phase: ContainerPhase::Exited,
        id: end
            .container_id
            .or_else(|| status.container_id.clone())
            .unwrap_or_default(),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        started_at: end.started_at.map(|time| time.0),
        finished_at: end.finished_at.map(|time| time.0),
        exit_code: end.exit_code,
        reason: end.reason.unwrap_or_default(),
        message: end.message.unwrap_or_default(),
        ready: true,
    }
}
