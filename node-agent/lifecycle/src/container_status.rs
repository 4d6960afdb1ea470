//! `containerStatuses`, filled as kubelet fills them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodSpec, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::containers::{PULL_ERROR_SHOWN, has_started, is_up};
use crate::memory::{BackOff, ContainerMemory, PodMemory};
use crate::observed::{ContainerPhase, ContainerView};
use crate::probes::is_ready;
use crate::spec::{self, Role};
use crate::step::{LOST_MESSAGE, LOST_REASON};
use crate::texts::{COMPILING, go_duration};

pub(crate) struct Shown {
    pub(crate) role: Role,
    pub(crate) status: ContainerStatus,
}

pub(crate) fn all(pod: &Pod, spec: &PodSpec, memory: &PodMemory, all_stopped: bool, now: Timestamp) -> Vec<Shown> {
    let nothing = ContainerMemory::default();
    spec::containers(spec)
        .map(|(role, container)| {
            let state = memory.container(&container.name).unwrap_or(&nothing);
            let status = Builder {
                pod,
                spec,
                memory,
                role,
                container,
                state,
                all_stopped,
                now,
            }
            .build();
            Shown { role, status }
        })
        .collect()
}

struct Builder<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    memory: &'a PodMemory,
    role: Role,
    container: &'a Container,
    state: &'a ContainerMemory,
    all_stopped: bool,
    now: Timestamp,
}

impl Builder<'_> {
    fn build(&self) -> ContainerStatus {
        let container = self.container;
        let current = self.state.current.as_ref();
        let (state, last) = self.states();
        let succeeded = state
            .terminated
            .as_ref()
            .is_some_and(|terminated| terminated.exit_code == 0);
        let ready = match self.role {
            Role::Init => succeeded,
            Role::Sidecar | Role::Main => is_ready(self.memory, container),
        };
        let spec_image = container.image.clone().unwrap_or_default();
        let image = current
            .map(|current| current.image.clone())
            .filter(|image| !image.is_empty());
        let resources = container.resources.clone().unwrap_or_default();
        ContainerStatus {
            name: container.name.clone(),
            ready,
            started: Some(has_started(self.memory, container)),
            restart_count: current.map_or(0, |current| i32::try_from(current.attempt).unwrap_or(i32::MAX)),
            image: image.unwrap_or(spec_image),
            image_id: current.map(|current| current.image_id.clone()).unwrap_or_default(),
            container_id: current.map(|current| current.id.clone()).filter(|id| !id.is_empty()),
            state: Some(state),
            last_state: Some(last),
            allocated_resources: resources.requests.clone().filter(|requests| !requests.is_empty()),
            resources: Some(ResourceRequirements {
                claims: None,
                ..resources
            }),
            volume_mounts: self.volume_mounts(),
            ..ContainerStatus::default()
        }
    }

    /// `state` and `lastState`.
    fn states(&self) -> (ContainerState, ContainerState) {
        let last = self.state.last.as_ref().map(terminated).unwrap_or_default();
        let Some(current) = &self.state.current else {
            return (self.never_created(), last);
        };
        match current.phase {
            ContainerPhase::Created => {
                let problem = self.state.problem.as_ref();
                (
                    problem.map_or_else(|| self.creating(), |p| waiting(&p.reason, &p.message)),
                    last,
                )
            }
            // To users a container starts until its postStart hook is through.
            ContainerPhase::Running if !is_up(self.state, self.container) => (self.creating(), last),
            ContainerPhase::Running => {
                let running = ContainerStateRunning {
                    started_at: current.started_at.map(Time),
                };
                (
                    ContainerState {
                        running: Some(running),
                        ..ContainerState::default()
                    },
                    last,
                )
            }
            ContainerPhase::Exited => match self.wait_for_restart(current) {
                Some(state) => (state, terminated(current)),
                None => (terminated(current), last),
            },
        }
    }

    fn never_created(&self) -> ContainerState {
        if let Some(problem) = self.failure_to_start() {
            return problem;
        }
        if self.all_stopped && self.memory.initialized {
            let lost = ContainerStateTerminated {
                exit_code: 137,
                reason: Some(LOST_REASON.to_owned()),
                message: Some(LOST_MESSAGE.to_owned()),
                ..ContainerStateTerminated::default()
            };
            return ContainerState {
                terminated: Some(lost),
                ..ContainerState::default()
            };
        }
        self.creating()
    }

    fn creating(&self) -> ContainerState {
        let has_init = self.spec.init_containers.as_ref().is_some_and(|list| !list.is_empty());
        waiting(
            if has_init {
                "PodInitializing"
            } else {
                "ContainerCreating"
            },
            "",
        )
    }

    /// What an exited container shows while its next attempt is held up; None when nothing holds it up.
    fn wait_for_restart(&self, current: &ContainerView) -> Option<ContainerState> {
        if self.all_stopped || !spec::restarts(self.spec, self.role, self.container, current) {
            return None;
        }
        let until = BackOff::wait_until(
            self.state.crash_back_off.as_ref(),
            current.finished_at.unwrap_or(self.now),
        );
        if let (Some(back_off), Some(until)) = (&self.state.crash_back_off, until)
            && until > self.now
        {
            let delay = go_duration(jiff::SignedDuration::from_secs(back_off.delay_seconds));
            let (name, pod) = (&self.container.name, spec::full_name(self.pod));
            let message = format!("back-off {delay} restarting failed container={name} pod={pod}");
            return Some(waiting("CrashLoopBackOff", &message));
        }
        self.failure_to_start()
    }

    fn failure_to_start(&self) -> Option<ContainerState> {
        if self.all_stopped {
            return None;
        }
        if let Some(problem) = &self.state.problem {
            return Some(waiting(&problem.reason, &problem.message));
        }
        if let Some(message) = &self.state.pull_waits {
            return Some(waiting(COMPILING, message));
        }
        let problem = self.state.pull_problem.as_ref()?;
        if problem.reason == "ErrImagePull" && self.now >= problem.since + PULL_ERROR_SHOWN {
            let image = self.container.image.as_deref().unwrap_or_default();
            let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {}", problem.message);
            return Some(waiting("ImagePullBackOff", &message));
        }
        Some(waiting(&problem.reason, &problem.message))
    }

    fn volume_mounts(&self) -> Option<Vec<VolumeMountStatus>> {
        let mounts = self.container.volume_mounts.iter().flatten();
        let mounts: Vec<_> = mounts
            .map(|mount| VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: mount.read_only.filter(|read_only| *read_only),
                recursive_read_only: mount
                    .read_only
                    .filter(|read_only| *read_only)
                    .map(|_| "Disabled".to_owned()),
                volume_status: None,
            })
            .collect();
        Some(mounts).filter(|mounts| !mounts.is_empty())
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = Some(message.to_owned()).filter(|message| !message.is_empty());
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message,
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

fn terminated(view: &ContainerView) -> ContainerState {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let default_reason = if view.exit_code == 0 { "Completed" } else { "Error" };
    let terminated = ContainerStateTerminated {
        exit_code: view.exit_code,
        reason: text(&view.reason).or_else(|| Some(default_reason.to_owned())),
        message: text(&view.message),
        started_at: view.started_at.map(Time),
        finished_at: view.finished_at.map(Time),
        container_id: text(&view.id),
        signal: None,
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}
