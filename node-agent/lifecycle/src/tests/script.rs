//! Plays scripts against a world that does what actions ask for at once, except what takes time: pulls, probes, hooks
//! and ends of containers come as lines of the script.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::memory::PodMemory;
use crate::{Action, ContainerPhase, ContainerView, Observed, Outcome, ProbeKind, Sandbox, SandboxView, Step, step};

/// A world that does not come to rest after so many steps goes round in circles.
const STEPS_MAX: usize = 20;

pub(super) struct World {
    pub(super) pod: Pod,
    pub(super) memory: PodMemory,
    containers: Option<BTreeMap<String, ContainerView>>,
    blind: bool,
    start: Timestamp,
    now: Timestamp,
    transcript: String,
    pub(super) status: PodStatus,
}

/// Plays a script for a pod given as the YAML of its spec, and gives the transcript.
pub(super) fn play(spec: &str, script: &str) -> String {
    let mut world = World::new(spec);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.line(line);
    }
    world.transcript
}

impl World {
    pub(super) fn new(spec: &str) -> Self {
        let spec = serde_saphyr::from_str(spec).expect("the script's spec is valid YAML");
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut pod = Pod {
            spec: Some(spec),
            ..Pod::default()
        };
        pod.metadata.name = Some("web".to_owned());
        pod.metadata.namespace = Some("default".to_owned());
        pod.metadata.uid = Some("uid".to_owned());
        Self {
            pod,
            memory: PodMemory::default(),
            containers: None,
            blind: false,
            start,
            now: start,
            transcript: String::new(),
            status: PodStatus::default(),
        }
    }

    /// `5s exit web 1`
    pub(super) fn line(&mut self, line: &str) {
        let (time, command) = line.split_once(' ').unwrap_or((line, ""));
        let seconds: f64 = time.trim_end_matches('s').parse().expect("a line starts with a time");
        self.now = self.start + SignedDuration::from_secs_f64(seconds);
        let command = command.trim();
        self.happen(command);
        let (done, wake) = self.settle();
        let wake = wake.map(|at| format!("  wake {}s", at.duration_since(self.start).as_secs_f64()));
        writeln!(
            self.transcript,
            "{time:<5} {command:<24} | {}\n{:<32}| {}{}",
            done.join(", "),
            "",
            shown(&self.status),
            wake.unwrap_or_default()
        )
        .unwrap();
    }

    fn happen(&mut self, command: &str) {
        let words: Vec<&str> = command.splitn(3, ' ').collect();
        let rest = words.get(2).copied().unwrap_or_default().to_owned();
        let outcome = match words[..] {
            [""] | ["look"] => return,
            ["volumes", "ready"] => Outcome::VolumesReady,
            ["volumes", "fail", ..] => Outcome::VolumesFailed { message: rest },
            ["image", name] => Outcome::ImageReady {
                container: name.to_owned(),
                attempt: self
                    .memory
                    .container(name)
                    .map_or(0, |container| container.next_attempt()),
                image: format!("{name}:v1"),
                image_id: format!("{name}@sha256:1"),
                size_bytes: 1,
            },
            ["waits", name, ..] => Outcome::ImageWaits {
                container: name.to_owned(),
                message: rest,
            },
            ["nopull", name, ..] => Outcome::ImageFailed {
                container: name.to_owned(),
                reason: "ErrImagePull".to_owned(),
                message: "not found".to_owned(),
            },
            ["noconfig", name, ..] => Outcome::CreateFailed {
                container: name.to_owned(),
                reason: "CreateContainerConfigError".to_owned(),
                message: rest,
            },
            ["nostart", name, ..] => {
                let attempt = self
                    .memory
                    .container(name)
                    .map_or(0, |container| container.next_attempt());
                Outcome::StartFailed {
                    container: name.to_owned(),
                    attempt,
                    message: "boom".to_owned(),
                }
            }
            ["poststart", name, result] => Outcome::PostStarted {
                container: name.to_owned(),
                attempt: self
                    .memory
                    .container(name)
                    .and_then(|container| container.current.as_ref())
                    .map_or(0, |current| current.attempt),
                problem: (result != "ok").then(|| result.to_owned()),
            },
            ["hook", name] => Outcome::HookDone {
                container: name.to_owned(),
            },
            ["probe", name, _] => {
                let (kind, result) = rest.split_once(' ').unwrap();
                let kind = match kind {
                    "startup" => ProbeKind::Startup,
                    "liveness" => ProbeKind::Liveness,
                    _ => ProbeKind::Readiness,
                };
                let container = name.to_owned();
                Outcome::Probed {
                    container,
                    kind,
                    success: result == "ok",
                    output: result.to_owned(),
                }
            }
            ["exit" | "trap", name, code] => {
                let now = self.now;
                let view = self
                    .containers
                    .as_mut()
                    .and_then(|map| map.get_mut(name))
                    .expect("the container is there");
                view.phase = ContainerPhase::Exited;
                view.exit_code = code.parse().unwrap();
                if command.starts_with("trap") {
                    view.message = "wasm trap: unreachable\nerror while executing\n    0: 0x1b - web!boom\n".into();
                }
                view.finished_at = Some(now);
                return;
            }
            [word @ ("ready" | "unready"), name] => {
                let containers = self.containers.as_mut();
                let view = containers.and_then(|map| map.get_mut(name));
                view.expect("the container is there").ready = word == "ready";
                return;
            }
            ["lose", ..] => {
                self.containers = None;
                return;
            }
            ["blind"] | ["see"] => {
                self.blind = command == "blind";
                return;
            }
            // The agent starts again with what it wrote down.
            ["restart"] => {
                let text = serde_json::to_string(&self.memory).unwrap();
                self.memory = serde_json::from_str(&text).unwrap();
                return;
            }
            ["delete", grace] => {
                self.pod.metadata.deletion_timestamp = Some(Time(self.now));
                self.pod.metadata.deletion_grace_period_seconds = Some(grace.parse().unwrap());
                return;
            }
            _ => panic!("unknown command {command:?}"),
        };
        let events = self.memory.record(&self.pod, &outcome, self.now);
        for event in events {
            writeln!(self.transcript, "{:<32}! {} {}", "", event.reason, event.message).unwrap();
        }
    }

    /// The containers that run now.
    pub(super) fn running(&self) -> Vec<String> {
        let containers = self.containers.iter().flatten();
        containers
            .filter(|(_, view)| view.is_running())
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn runs(&self, name: &str) -> bool {
        self.running().iter().any(|running| running == name)
    }

    /// Steps and performs until nothing is asked for; gives the actions and events on the way.
    fn settle(&mut self) -> (Vec<String>, Option<Timestamp>) {
        let mut done = Vec::new();
        for _ in 0..STEPS_MAX {
            let step = self.step();
            for event in &step.events {
                done.push(format!("! {} {}", event.reason, event.message));
            }
            if step.actions.is_empty() {
                return (done, step.wake_at);
            }
            for action in &step.actions {
                if let Action::CreateContainer { container, .. } = action {
                    // What starts now does not wait.
                    let text = shown(&step.status);
                    assert!(!text.contains(&format!("{container}: CrashLoopBackOff")), "{text}");
                }
                self.perform(action);
                done.push(named(action));
            }
        }
        panic!("the pod does not come to rest: {done:#?}");
    }

    fn step(&mut self) -> Step {
        let sandbox = match &self.containers {
            _ if self.blind => Sandbox::Unknown,
            None => Sandbox::Absent,
            Some(containers) => Sandbox::Known(SandboxView {
                ip: "10.42.0.2".to_owned(),
                containers: containers.values().cloned().collect(),
            }),
        };
        let observed = Observed {
            sandbox,
            host_ip: "192.0.2.1".to_owned(),
        };
        let step = step(&self.pod, &observed, &self.memory, self.now);
        self.memory = step.memory.clone();
        self.status = step.status.clone();
        self.pod.status = Some(step.status.clone());
        step
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::CreateSandbox => self.containers = Some(BTreeMap::new()),
            Action::RemoveSandbox => self.containers = None,
            Action::CreateContainer { container, attempt } => {
                let view = ContainerView {
                    name: container.clone(),
                    attempt: *attempt,
                    phase: ContainerPhase::Created,
                    id: format!("wasm://{container}-{attempt}"),
                    image: format!("{container}:v1"),
                    image_id: format!("{container}@sha256:1"),
                    started_at: None,
                    finished_at: None,
                    exit_code: 0,
                    reason: String::new(),
                    message: String::new(),
                    ready: true,
                };
                let containers = self.containers.as_mut().expect("a container is created in a sandbox");
                containers.insert(container.clone(), view);
            }
            Action::StartContainer { container } => {
                let containers = self.containers.as_mut().expect("a container is started in a sandbox");
                let view = containers
                    .get_mut(container)
                    .expect("a container is started after it was created");
                view.phase = ContainerPhase::Running;
                view.started_at = Some(self.now);
            }
            Action::RemoveContainer { container } => {
                self.containers.as_mut().expect("there is a sandbox").remove(container);
            }
            Action::StopContainer {
                container,
                grace_period_seconds: 0,
            } => {
                self.happen(&format!("exit {container} 137"));
            }
            // Volumes are ready as soon as they are asked for, unless the script's pod says otherwise.
            Action::PrepareVolumes if self.pod.metadata.annotations.is_none() => {
                self.memory.record(&self.pod, &Outcome::VolumesReady, self.now);
            }
            _ => {}
        }
    }
}

fn named(action: &Action) -> String {
    match action {
        Action::PullImage { container, attempt } => format!("PullImage {container}/{attempt}"),
        Action::CreateContainer { container, attempt } => format!("CreateContainer {container}/{attempt}"),
        Action::StartContainer { container } => format!("StartContainer {container}"),
        Action::RemoveContainer { container } => format!("RemoveContainer {container}"),
        Action::StopContainer {
            container,
            grace_period_seconds,
        } => {
            format!("StopContainer {container} {grace_period_seconds}s")
        }
        Action::PostStart { container, attempt } => format!("PostStart {container}/{attempt}"),
        Action::PreStop { container, .. } => format!("PreStop {container}"),
        Action::Probe { container, kind } => format!("Probe {container} {kind:?}"),
        other => format!("{other:?}"),
    }
}

/// `Running [ready] web: running x1 (last Error 1)`
fn shown(status: &PodStatus) -> String {
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut text = status.phase.clone().unwrap_or_default();
    if ready {
        text.push_str(" ready");
    }
    if let Some(reason) = &status.reason {
        write!(text, " {reason}").unwrap();
    }
    let init = status.init_container_statuses.iter().flatten();
    for container in init.chain(status.container_statuses.iter().flatten()) {
        write!(text, "; {}", shown_container(container)).unwrap();
    }
    text
}

fn shown_container(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    let mut text = match (&state.running, &state.terminated, &state.waiting) {
        (Some(_), ..) => format!("{}: running", status.name),
        (_, Some(end), _) => {
            format!(
                "{}: {} {}",
                status.name,
                end.reason.clone().unwrap_or_default(),
                end.exit_code
            )
        }
        (_, _, waiting) => {
            let waiting = waiting.clone().unwrap_or_default();
            let message = waiting
                .message
                .map(|message| format!(" ({message})"))
                .unwrap_or_default();
            format!("{}: {}{message}", status.name, waiting.reason.unwrap_or_default())
        }
    };
    if status.restart_count > 0 {
        write!(text, " x{}", status.restart_count).unwrap();
    }
    if let Some(last) = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()) {
        write!(
            text,
            " last {} {}",
            last.reason.clone().unwrap_or_default(),
            last.exit_code
        )
        .unwrap();
    }
    text
}
