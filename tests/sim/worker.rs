//! One pod in an agent: observe, step, perform, report; cut into moves between which the agent can die.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use skiff_controllers::{DeleteOptions, ObjectKey, Resource, Target};
use skiff_lifecycle::{Action, ContainerPhase, ContainerView, Observed, Outcome, PodMemory, Sandbox, SandboxView};
use skiff_lifecycle::{fit, step};
use skiff_runtime::fake::FakeRuntime;
use skiff_runtime::{ContainerSpec, ContainerState, Image, Resources, Runtime, RuntimeError, SandboxSpec};

use crate::api::Api;
use crate::world::Fault;

/// The fake answers at once; so there is nothing to wait for.
pub fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the fake runtime never waits")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    Nothing,
    Status,
    /// The pod is deleted for good, or gone; nothing is left to do for it.
    End,
}

pub struct Worker {
    pub pod: Arc<Pod>,
    pub memory: PodMemory,
    /// A bug that was put in: neither checkpoint nor status is taken up.
    pub forgets: bool,
    pub admitted: bool,
    inline: VecDeque<Action>,
    background: Vec<Action>,
    outcomes: VecDeque<Outcome>,
    written: PodStatus,
    revision: u64,
    wanted: Option<PodStatus>,
    finishing: bool,
    /// The server has shown the pod to this agent; before that a checkpoint may be older than the status there.
    shown: bool,
    /// The pod is gone from the server: there is nothing to write to any more.
    unwritable: bool,
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Whether what others act on is the same.
fn agree(a: &PodStatus, b: &PodStatus) -> bool {
    let ready = |status: &PodStatus| {
        let conditions = status.conditions.iter().flatten();
        let of_agent =
            conditions.filter(|one| ["Ready", "ContainersReady", "Initialized"].contains(&one.type_.as_str()));
        of_agent
            .map(|one| (one.type_.clone(), one.status.clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    a.phase == b.phase && a.pod_ip == b.pod_ip && ready(a) == ready(b)
}

impl Worker {
    pub fn new(pod: Arc<Pod>, memory: Option<PodMemory>) -> Self {
        let restored = memory.is_some();
        Worker {
            admitted: restored,
            memory: memory.unwrap_or_else(|| PodMemory::from_status(&pod)),
            inline: VecDeque::new(),
            background: Vec::new(),
            outcomes: VecDeque::new(),
            written: pod.status.clone().unwrap_or_default(),
            revision: revision(&pod),
            wanted: None,
            finishing: false,
            forgets: false,
            shown: !restored,
            unwritable: false,
            pod,
        }
    }

    pub fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    pub fn background(&self) -> usize {
        self.background.len()
    }

    pub fn see(&mut self, pod: Arc<Pod>) {
        if revision(&pod) > self.revision {
            self.revision = revision(&pod);
            let theirs = pod.status.clone().unwrap_or_default();
            if !agree(&theirs, &self.written) {
                self.written = theirs;
            }
        }
        self.pod = pod;
        self.shown = true;
    }

    /// The runtime's method that `go_on` calls next.
    pub fn next_call(&self) -> Option<&'static str> {
        match self.inline.front() {
            None => (!self.finishing).then_some("list"),
            Some(Action::CreateSandbox) => Some("create_sandbox"),
            Some(Action::CreateContainer { .. }) => Some("create_container"),
            Some(Action::StartContainer { .. }) => Some("start_container"),
            Some(Action::StopContainer { .. }) => Some("stop_container"),
            Some(Action::RemoveContainer { .. }) => Some("remove_container"),
            Some(Action::RemoveSandbox) => Some("remove_sandbox"),
            Some(_) => None,
        }
    }

    /// The next inline action, or a look and a new step. Returns what happened, for the log; None: nothing did.
    pub fn go_on(&mut self, runtime: &FakeRuntime, at: Timestamp) -> Option<String> {
        if let Some(action) = self.inline.pop_front() {
            let text = format!("{action:?}");
            if let Err(outcome) = self.perform(runtime, &action) {
                self.inline.clear();
                if std::mem::take(&mut self.finishing) {
                    // Something of the pod is left here; its end is not told before that is gone too.
                    self.memory.finished = false;
                }
                if let Some(outcome) = outcome {
                    self.memory.record(&self.pod, &outcome, at);
                }
            }
            return Some(text);
        }
        if self.finishing {
            return None;
        }
        while let Some(outcome) = self.outcomes.pop_front() {
            self.memory.record(&self.pod, &outcome, at);
        }
        if !self.forgets {
            self.memory.catch_up(&self.pod);
        }
        let observed = Observed {
            sandbox: look(runtime, &self.uid()),
            host_ip: "192.0.2.1".to_owned(),
        };
        let step = step(&self.pod, &observed, &self.memory, at);
        self.memory = step.memory;
        if self.shown && !self.memory.is_only_terminal() {
            self.wanted = Some(step.status);
        }
        for action in step.actions {
            match action {
                Action::Finish => self.finishing = true,
                Action::PrepareVolumes
                | Action::PullImage { .. }
                | Action::PostStart { .. }
                | Action::PreStop { .. }
                | Action::Probe { .. } => {
                    self.background.push(action);
                }
                other => self.inline.push_back(other),
            }
        }
        let asked = self.inline.len() + self.background.len();
        (asked > 0 || self.finishing).then(|| format!("step {:?}", step.report))
    }

    /// The node's own last check, once.
    pub fn admit<'a>(&mut self, node: &Node, others: impl Iterator<Item = &'a Pod>) -> bool {
        if std::mem::replace(&mut self.admitted, true) || self.pod.metadata.deletion_timestamp.is_some() {
            return false;
        }
        if self.memory.is_over() {
            return false;
        }
        match fit::check(&self.pod, node, others) {
            Ok(()) => true,
            Err(rejection) => {
                self.memory
                    .reject(&rejection.reason, &format!("Pod was rejected: {}", rejection.message));
                false
            }
        }
    }

    /// A background action ends.
    pub fn answer(&mut self, runtime: &FakeRuntime, index: usize, well: bool) -> String {
        let action = self.background.remove(index);
        let outcome = match &action {
            Action::PrepareVolumes if well => Outcome::VolumesReady,
            Action::PrepareVolumes => Outcome::VolumesFailed {
                message: "not now".to_owned(),
            },
            Action::PullImage { container, attempt } => {
                let spec = self
                    .pod
                    .spec
                    .iter()
                    .flat_map(|spec| &spec.containers)
                    .find(|one| one.name == *container);
                let reference = spec.and_then(|spec| spec.image.clone()).unwrap_or_default();
                match now(runtime.ensure_image(&reference, true, &[])) {
                    Ok(image) if well => Outcome::ImageReady {
                        container: container.clone(),
                        attempt: *attempt,
                        image: reference,
                        image_id: format!("{}@{}", image.reference, image.digest),
                        size_bytes: image.size_bytes,
                    },
                    _ => Outcome::ImageFailed {
                        container: container.clone(),
                        reason: "ErrImagePull".to_owned(),
                        message: "not now".to_owned(),
                    },
                }
            }
            Action::PostStart { container, attempt } => Outcome::PostStarted {
                container: container.clone(),
                attempt: *attempt,
                problem: (!well).then(|| "not now".to_owned()),
            },
            Action::PreStop { container, .. } => Outcome::HookDone {
                container: container.clone(),
            },
            Action::Probe { container, kind } => Outcome::Probed {
                container: container.clone(),
                kind: *kind,
                success: well,
                output: String::new(),
            },
            other => unreachable!("{other:?} is performed inline"),
        };
        self.outcomes.push_back(outcome);
        format!("{action:?} ends {}", if well { "well" } else { "badly" })
    }

    /// `Err(None)`: tried again with the next step.
    fn perform(&mut self, runtime: &FakeRuntime, action: &Action) -> Result<(), Option<Outcome>> {
        let uid = self.uid();
        let quietly = |result| match result {
            Ok(()) | Err(RuntimeError::NotFound { .. }) => Ok(()),
            Err(_) => Err(None),
        };
        match action {
            Action::CreateSandbox => now(runtime.create_sandbox(&self.sandbox())).map_err(|error| {
                Some(Outcome::SandboxFailed {
                    message: error.to_string(),
                })
            }),
            Action::CreateContainer { container, attempt } => {
                let pulled = self.memory.container(container).and_then(|state| state.pulled.clone());
                let failed = |message: String| {
                    let (container, reason) = (container.clone(), "CreateContainerError".to_owned());
                    Some(Outcome::CreateFailed {
                        container,
                        reason,
                        message,
                    })
                };
                let pulled = pulled.ok_or_else(|| failed("the image was not pulled".to_owned()))?;
                let digest = pulled.image_id.rsplit('@').next().unwrap_or_default().to_owned();
                let image = Image {
                    digest,
                    reference: pulled.image,
                    size_bytes: pulled.size_bytes,
                };
                let spec = ContainerSpec {
                    pod_uid: uid,
                    name: container.clone(),
                    attempt: *attempt,
                    image,
                    args: Vec::new(),
                    env: Vec::new(),
                    mounts: Vec::new(),
                    resources: Resources::default(),
                    config: Vec::new(),
                    ports: Vec::new(),
                    stdin: Default::default(),
                };
                now(runtime.create_container(&spec)).map_err(|error| failed(error.to_string()))
            }
            Action::StartContainer { container } => match now(runtime.start_container(&uid, container)) {
                Ok(()) => Ok(()),
                Err(RuntimeError::Unavailable { .. } | RuntimeError::NotFound { .. }) => Err(None),
                Err(error) => {
                    let state = self.memory.container(container);
                    let attempt = match state.and_then(|state| state.current.as_ref()) {
                        Some(current) if !current.has_exited() => current.attempt,
                        _ => state.map_or(0, |state| state.next_attempt()),
                    };
                    let (container, message) = (container.clone(), error.to_string());
                    Err(Some(Outcome::StartFailed {
                        container,
                        attempt,
                        message,
                    }))
                }
            },
            Action::StopContainer {
                container,
                grace_period_seconds,
            } => quietly(now(runtime.stop_container(&uid, container, *grace_period_seconds))),
            Action::RemoveContainer { container } => quietly(now(runtime.remove_container(&uid, container))),
            Action::RemoveSandbox => quietly(now(runtime.remove_sandbox(&uid))),
            Action::RemoveVolumes => Ok(()),
            other => unreachable!("{other:?} is not performed inline"),
        }
    }

    fn sandbox(&self) -> SandboxSpec {
        let key = ObjectKey::of(&self.pod.metadata);
        SandboxSpec {
            pod_uid: self.uid(),
            namespace: key.namespace,
            name: key.name.clone(),
            ip: std::net::Ipv4Addr::new(10, 42, 0, 2).into(),
            hostname: key.name,
            log_dir: std::path::PathBuf::new(),
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
        }
    }

    /// The status writer's next request, if it has one to make.
    pub fn write(&mut self, api: &mut Api, fault: Fault) -> Wrote {
        let (key, uid) = (ObjectKey::of(&self.pod.metadata), self.uid());
        let wanted = self
            .wanted
            .clone()
            .filter(|wanted| *wanted != self.written && !self.unwritable);
        if let Some(wanted) = wanted {
            if fault == Fault::RequestLost {
                return Wrote::Nothing;
            }
            match api.write_pod_status(&key, &uid, &self.written, &wanted) {
                Ok(_) if fault == Fault::ReplyLost => return Wrote::Nothing,
                Ok(version) => {
                    self.revision = version;
                    self.written = wanted;
                }
                Err(_) => self.unwritable = true,
            }
            return Wrote::Status;
        }
        if !self.finishing || !self.inline.is_empty() {
            return Wrote::Nothing;
        }
        if fault == Fault::RequestLost {
            return Wrote::Nothing;
        }
        let target = Target {
            resource: Resource::POD,
            key,
            uid,
            resource_version: None,
        };
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        // Refused: it is gone, or another of its name is there.
        let _ = api.delete(&target, options);
        if fault == Fault::ReplyLost {
            Wrote::Nothing
        } else {
            Wrote::End
        }
    }
}

fn look(runtime: &FakeRuntime, uid: &str) -> Sandbox {
    match now(runtime.inspect(uid)) {
        Err(_) => Sandbox::Unknown,
        Ok(None) => Sandbox::Absent,
        Ok(Some(state)) => Sandbox::Known(SandboxView {
            ip: state.ip.to_string(),
            containers: state.containers.into_iter().map(view).collect(),
        }),
    }
}

fn view(state: ContainerState) -> ContainerView {
    let time = |seconds: i64| (seconds > 0).then(|| Timestamp::from_second(seconds).expect("within jiff's years"));
    ContainerView {
        name: state.name,
        attempt: state.attempt,
        phase: match state.phase {
            skiff_runtime::ContainerPhase::Created => ContainerPhase::Created,
            skiff_runtime::ContainerPhase::Running => ContainerPhase::Running,
            skiff_runtime::ContainerPhase::Exited => ContainerPhase::Exited,
        },
        id: state.id,
        image_id: format!("{}@{}", state.image.reference, state.image.digest),
        image: state.image.reference,
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        exit_code: state.exit_code,
        reason: state.reason,
        message: state.message,
        ready: state.ready,
    }
}
