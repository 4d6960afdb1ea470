//! How the outcome of an action enters memory, and which events it makes.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Operation, Outcome, PodEvent};
use crate::memory::{BackOff, PodMemory, Problem, PulledImage};
use crate::observed::{ContainerPhase, ContainerView};
use crate::{probes, spec, texts};

/// A container that could not be created is tried again after this time: kubelet's sync period for such pods.
const CREATE_RETRY: SignedDuration = SignedDuration::from_secs(10);
const SANDBOX_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// Wait after a failed mount; doubles up to the maximum. Kubelet's values.
const MOUNT_RETRY_INITIAL: SignedDuration = SignedDuration::from_millis(500);
const MOUNT_RETRY_MAX: SignedDuration = SignedDuration::from_secs(122);
/// What a container runtime reports for a container that could not be started.
const START_ERROR_EXIT_CODE: i32 = 128;
const START_ERROR_REASON: &str = "StartError";

impl PodMemory {
    /// Takes in how an action ended; the events are for the user.
    pub fn record(&mut self, pod: &Pod, outcome: &Outcome, now: Timestamp) -> Vec<PodEvent> {
        match outcome {
            Outcome::VolumesReady => {
                self.in_flight.remove(&Operation::Volumes);
                self.volumes_ready = true;
                self.volumes_removed = false;
                self.volumes_problem = None;
                Vec::new()
            }
            Outcome::VolumesFailed { message } => {
                self.in_flight.remove(&Operation::Volumes);
                self.volumes_removed = false;
                let delay = match &self.volumes_problem {
                    Some(old) => (old.retry_at.duration_since(old.since) * 2).min(MOUNT_RETRY_MAX),
                    None => MOUNT_RETRY_INITIAL,
                };
                self.volumes_problem = Some(problem("FailedMount", message, now, delay));
                vec![texts::mount_failed(message)]
            }
            Outcome::ImageReady {
                container,
                attempt,
                image,
                image_id,
                size_bytes,
            } => {
                self.in_flight.remove(&Operation::Image(container.clone()));
                let state = self.container_mut(container);
                let (image, image_id) = (image.clone(), image_id.clone());
                state.pulled = Some(PulledImage {
                    attempt: *attempt,
                    image,
                    image_id,
                    size_bytes: *size_bytes,
                });
                state.pull_problem = None;
                state.pull_waits = None;
                state.pull_back_off = None;
                state.pull_back_off_told = false;
                Vec::new()
            }
            Outcome::ImageWaits { container, message } => {
                // The pull may have ended since.
                if !self.in_flight.contains(&Operation::Image(container.clone())) {
                    return Vec::new();
                }
                let state = self.container_mut(container);
                match state.pull_waits.replace(message.clone()) {
                    None => vec![texts::compiling(container, message)],
                    // How far it is is for the status alone.
                    Some(_) => Vec::new(),
                }
            }
            Outcome::ImageFailed {
                container,
                reason,
                message,
            } => self.image_failed(pod, container, reason, message, now),
            Outcome::SandboxFailed { message } => {
                self.sandbox_problem = Some(problem("FailedCreatePodSandBox", message, now, SANDBOX_RETRY));
                vec![texts::sandbox_failed(message)]
            }
            Outcome::CreateFailed {
                container,
                reason,
                message,
            } => {
                self.container_mut(container).problem = Some(problem(reason, message, now, CREATE_RETRY));
                vec![texts::error(container, message)]
            }
            Outcome::StartFailed {
                container,
                attempt,
                message,
            } => {
                self.start_failed(container, *attempt, message, now);
                vec![texts::error(container, message)]
            }
            Outcome::PostStarted {
                container,
                attempt,
                problem,
            } => {
                self.in_flight.remove(&Operation::PostStart(container.clone()));
                let state = self.container_mut(container);
                // An answer about an attempt that has ended since says nothing about the one at hand.
                if state
                    .current
                    .as_ref()
                    .is_some_and(|current| current.attempt == *attempt)
                {
                    state.post_start = Some(problem.is_none());
                }
                problem
                    .iter()
                    .map(|why| texts::post_start_failed(container, why))
                    .collect()
            }
            Outcome::HookDone { container } => {
                self.in_flight.remove(&Operation::PreStop(container.clone()));
                self.container_mut(container).pre_stop_done = true;
                Vec::new()
            }
            Outcome::Probed {
                container,
                kind,
                success,
                output,
            } => {
                self.in_flight.remove(&Operation::Probe(container.clone(), *kind));
                let found = pod.spec.as_ref().and_then(|spec| spec::find(spec, container));
                let Some(probe) = found.and_then(|(_, container)| spec::probe(container, *kind)) else {
                    return Vec::new();
                };
                let state = self.container_mut(container);
                // The container may have ended, or may have been asked to, while the probe ran.
                if !state.is_running() || state.stop.is_some() {
                    return Vec::new();
                }
                probes::count(state.probes.entry(*kind).or_default(), probe, *success, now);
                if *success {
                    Vec::new()
                } else {
                    vec![texts::unhealthy(container, *kind, output)]
                }
            }
        }
    }

    fn image_failed(
        &mut self,
        pod: &Pod,
        container: &str,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Vec<PodEvent> {
        self.in_flight.remove(&Operation::Image(container.to_owned()));
        let found = pod.spec.as_ref().and_then(|spec| spec::find(spec, container));
        let image = found
            .and_then(|(_, container)| container.image.clone())
            .unwrap_or_default();
        let state = self.container_mut(container);
        let back_off = BackOff::next(state.pull_back_off.as_ref(), now);
        let delay = SignedDuration::from_secs(back_off.delay_seconds);
        state.pull_problem = Some(problem(reason, message, now, delay));
        state.pull_waits = None;
        state.pull_back_off = Some(back_off);
        state.pull_back_off_told = false;
        let told = match reason {
            "ErrImageNeverPull" => texts::never_pull(container, &image),
            "InvalidImageName" => texts::inspect_failed(container, message),
            "ErrImagePull" => texts::pull_failed(container, &image, message),
            // Pulled, but this node cannot run it.
            _ => return vec![texts::error(container, message)],
        };
        vec![told, texts::error(container, reason)]
    }

    /// To the restart policy a container that cannot be started is one that failed at once.
    fn start_failed(&mut self, container: &str, attempt: u32, message: &str, now: Timestamp) {
        let state = self.container_mut(container);
        let pulled = state.pulled.clone();
        let id = state
            .current
            .as_ref()
            .filter(|current| current.attempt == attempt)
            .map(|current| current.id.clone());
        let view = ContainerView {
            name: container.to_owned(),
            attempt,
            phase: ContainerPhase::Exited,
            id: id.unwrap_or_default(),
            image: pulled.as_ref().map(|pulled| pulled.image.clone()).unwrap_or_default(),
            image_id: pulled.map(|pulled| pulled.image_id).unwrap_or_default(),
            started_at: None,
            finished_at: Some(now),
            exit_code: START_ERROR_EXIT_CODE,
            reason: START_ERROR_REASON.to_owned(),
            message: message.to_owned(),
            ready: false,
        };
        state.see(&view, now);
    }
}

fn problem(reason: &str, message: &str, now: Timestamp, delay: SignedDuration) -> Problem {
    Problem {
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: now,
        retry_at: now + delay,
    }
}
