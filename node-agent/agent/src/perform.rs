//! The only code that turns a lifecycle Action into a call.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_lifecycle::{Action, Outcome, PodEvent, PodMemory, spec, texts};
use skiff_runtime::{ContainerSpec, Image, Resources, Runtime, RuntimeError, SandboxSpec, StdinMode};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::env::{self, Facts};
use crate::error::chain;
use crate::{files, guest_config, hooks, images, probe, volumes};

/// Kubelet's runtimeRequestTimeout: a runtime that takes longer is treated as not answering.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(120);

/// One action of one pod.
pub(crate) struct Job {
    pub(crate) ctx: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) uid: String,
    pub(crate) runtime: Result<Arc<dyn Runtime>, String>,
    pub(crate) memory: PodMemory,
    /// For what happens on the way.
    pub(crate) outcomes: mpsc::Sender<Outcome>,
}

/// Why an inline action failed.
pub(crate) enum Failure {
    /// Lifecycle must know.
    Told(Outcome),
    /// Try again soon.
    Retry(String),
}

pub(crate) fn is_background(action: &Action) -> bool {
    matches!(
        action,
        Action::PrepareVolumes
            | Action::PullImage { .. }
            | Action::PostStart { .. }
            | Action::PreStop { .. }
            | Action::Probe { .. }
    )
}

pub(crate) fn namespace_and_name(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (
        meta.namespace.as_deref().unwrap_or("default"),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// Why there is no runtime for a pod; the texts are for the user.
pub(crate) enum NoRuntime {
    /// There is none, and will not be until something is changed.
    Missing(String),
    /// The server did not tell.
    Unknown(String),
}

impl NoRuntime {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Missing(text) | Self::Unknown(text) => text,
        }
    }
}

/// The RuntimeClass handler that the pod runs on.
pub(crate) async fn handler(ctx: &Context, pod: &Pod) -> Result<String, NoRuntime> {
    let class = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref())
        .unwrap_or_default();
    if class.is_empty() {
        return Ok(ctx.config.default_handler.clone());
    }
    let failed = |why: String| format!("failed to get sandbox runtime: {why}");
    match ctx.objects.runtime_class(class).await {
        Ok(Some(found)) => Ok(found.handler.clone()),
        Ok(None) => {
            let why = format!("runtimeclass.node.k8s.io \"{class}\" not found");
            Err(NoRuntime::Missing(failed(why)))
        }
        Err(error) => Err(NoRuntime::Unknown(failed(chain(&error)))),
    }
}

pub(crate) fn runtime(ctx: &Context, handler: &str) -> Result<Arc<dyn Runtime>, NoRuntime> {
    let text = || format!("failed to get sandbox runtime: no runtime for \"{handler}\" is configured");
    ctx.runtimes
        .get(handler)
        .cloned()
        .ok_or_else(|| NoRuntime::Missing(text()))
}

async fn in_time<T>(call: impl Future<Output = Result<T, RuntimeError>>) -> Result<T, RuntimeError> {
    match tokio::time::timeout(RUNTIME_TIMEOUT, call).await {
        Ok(result) => result,
        Err(_) => Err(RuntimeError::Unavailable {
            why: "context deadline exceeded".to_owned(),
        }),
    }
}

impl Job {
    fn container(&self, name: &str) -> Option<Container> {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec::find(spec, name))
            .map(|(_, container)| container.clone())
    }

    /// Actions that may take long.
    pub(crate) async fn in_background(self, action: &Action) -> Outcome {
        match action {
            Action::PrepareVolumes => {
                let pod_ip = self.memory.pod_ip.clone();
                match volumes::prepare(&self.ctx, &self.pod, pod_ip).await {
                    Ok(()) => Outcome::VolumesReady,
                    Err(message) => Outcome::VolumesFailed { message },
                }
            }
            Action::PullImage { container, attempt } => match (&self.runtime, self.container(container)) {
                (Ok(runtime), Some(spec)) => {
                    let says = |message: &str| {
                        // One that is lost is followed by another, or by the end.
                        let _ = self.outcomes.try_send(Outcome::ImageWaits {
                            container: container.clone(),
                            message: message.to_owned(),
                        });
                    };
                    images::pull(&self.ctx, &**runtime, &self.pod, &spec, *attempt, &says).await
                }
                (Err(message), _) => images::failed(container, "CreateContainerError", message),
                (_, None) => images::failed(container, "CreateContainerError", "no such container in the pod"),
            },
            Action::PostStart { container, attempt } => {
                let spec = self.container(container);
                let result = match spec.as_ref().and_then(|spec| Some((spec, spec::post_start(spec)?))) {
                    Some((spec, hook)) => hooks::post_start(spec, hook, self.memory.pod_ip.as_deref()).await,
                    None => Ok(()),
                };
                Outcome::PostStarted {
                    container: container.clone(),
                    attempt: *attempt,
                    problem: result.err(),
                }
            }
            Action::PreStop {
                container,
                timeout_seconds,
            } => {
                let spec = self.container(container);
                if let Some((spec, hook)) = spec.as_ref().and_then(|spec| Some((spec, spec::pre_stop(spec)?))) {
                    let limit = Duration::from_secs(*timeout_seconds);
                    let pod_ip = self.memory.pod_ip.as_deref();
                    if let Err(why) = hooks::run(spec, hook, pod_ip, limit).await {
                        self.ctx.events.pod(&self.pod, texts::pre_stop_failed(container, &why));
                    }
                }
                Outcome::HookDone {
                    container: container.clone(),
                }
            }
            Action::Probe { container, kind } => {
                let (success, output) = match self.container(container) {
                    Some(spec) => probe::run(&spec, *kind, self.memory.pod_ip.as_deref()).await,
                    None => (false, "no such container in the pod".to_owned()),
                };
                Outcome::Probed {
                    container: container.clone(),
                    kind: *kind,
                    success,
                    output,
                }
            }
            other => unreachable!("{other:?} is performed inline"),
        }
    }

    /// Actions whose effect the next look must show.
    pub(crate) async fn inline(&self, action: &Action) -> Result<Vec<PodEvent>, Failure> {
        let runtime = match (&self.runtime, action) {
            (_, Action::RemoveVolumes) => {
                let directory = self.ctx.pod_directory(&self.uid);
                files::remove_directory(&directory).map_err(|error| Failure::Retry(chain(&error)))?;
                self.ctx.network.release(&self.uid);
                return Ok(Vec::new());
            }
            (Ok(runtime), _) => runtime,
            (Err(message), Action::CreateSandbox) => {
                return Err(Failure::Told(Outcome::SandboxFailed {
                    message: message.clone(),
                }));
            }
            (Err(message), _) => return Err(Failure::Retry(message.clone())),
        };
        match action {
            Action::CreateSandbox => {
                self.create_sandbox(&**runtime)
                    .await
                    .map_err(|message| Failure::Told(Outcome::SandboxFailed { message }))?;
                Ok(Vec::new())
            }
            Action::CreateContainer { container, attempt } => {
                let failed = |(reason, message): (&str, String)| {
                    let (container, reason) = (container.clone(), reason.to_owned());
                    Failure::Told(Outcome::CreateFailed {
                        container,
                        reason,
                        message,
                    })
                };
                let spec = self.container_spec(container, *attempt).await.map_err(failed)?;
                in_time(runtime.create_container(&spec))
                    .await
                    .map_err(|error| failed((error.reason(), chain(&error))))?;
                Ok(vec![texts::created(container)])
            }
            Action::StartContainer { container } => {
                match in_time(runtime.start_container(&self.uid, container)).await {
                    Ok(()) => Ok(vec![texts::started(container)]),
                    Err(error @ (RuntimeError::Unavailable { .. } | RuntimeError::NotFound { .. })) => {
                        Err(Failure::Retry(chain(&error)))
                    }
                    Err(error) => {
                        let state = self.memory.container(container);
                        let attempt = match state.and_then(|state| state.current.as_ref()) {
                            Some(current) if !current.has_exited() => current.attempt,
                            _ => state.map_or(0, |state| state.next_attempt()),
                        };
                        let (container, message) = (container.clone(), chain(&error));
                        Err(Failure::Told(Outcome::StartFailed {
                            container,
                            attempt,
                            message,
                        }))
                    }
                }
            }
            Action::StopContainer {
                container,
                grace_period_seconds,
            } => quietly(in_time(runtime.stop_container(&self.uid, container, *grace_period_seconds)).await),
            Action::RemoveContainer { container } => {
                quietly(in_time(runtime.remove_container(&self.uid, container)).await)
            }
            Action::RemoveSandbox => quietly(in_time(runtime.remove_sandbox(&self.uid)).await),
            other => unreachable!("{other:?} is not performed inline"),
        }
    }

    /// The pod's own address, or the node's for one on the host's network.
    async fn address(&self) -> Result<IpAddr, String> {
        if self
            .pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.host_network == Some(true))
        {
            return Ok(self.ctx.config.node_ip);
        }
        self.ctx.network.allocate(&self.uid).await
    }

    async fn create_sandbox(&self, runtime: &dyn Runtime) -> Result<(), String> {
        let ip = self.address().await?;
        let (namespace, name) = namespace_and_name(&self.pod);
        let log_dir = self.ctx.pod_log_directory(namespace, name, &self.uid);
        files::create_directory(&log_dir).map_err(|error| chain(&error))?;
        let sandbox = SandboxSpec {
            pod_uid: self.uid.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ip,
            hostname: env::hostname(&self.pod, &self.ctx.config.node_name),
            log_dir,
            labels: self.pod.metadata.labels.clone().unwrap_or_default(),
            annotations: self.pod.metadata.annotations.clone().unwrap_or_default(),
        };
        in_time(runtime.create_sandbox(&sandbox))
            .await
            .map_err(|error| match error {
                RuntimeError::Sandbox { why } => why,
                other => chain(&other),
            })
    }

    async fn container_spec(&self, name: &str, attempt: u32) -> Result<ContainerSpec, (&'static str, String)> {
        let container = self
            .container(name)
            .ok_or(("CreateContainerError", "no such container in the pod".to_owned()))?;
        let pulled = self.memory.container(name).and_then(|state| state.pulled.clone());
        let pulled = pulled.ok_or(("CreateContainerError", "the image was not pulled".to_owned()))?;
        let pod_ip = self.address().await.map_err(|why| ("CreateContainerError", why))?;
        let facts = self.facts(Some(pod_ip));
        let config_error = |message: String| ("CreateContainerConfigError", message);
        let env = env::resolve(&self.ctx.objects, &self.pod, &container, &facts)
            .await
            .map_err(config_error)?;
        let config = guest_config::resolve(&self.ctx.objects, &self.pod, name)
            .await
            .map_err(config_error)?;
        let mounts = volumes::mounts(&self.ctx, &self.pod, &container, &env).map_err(config_error)?;
        // A module has no entry point to fall back on: without `command` its argv[0] is the container's name.
        let program = if container.command.is_none() {
            Some(&container.name)
        } else {
            None
        };
        let command = program
            .into_iter()
            .chain(container.command.iter().flatten())
            .chain(container.args.iter().flatten());
        let ports = container
            .ports
            .iter()
            .flatten()
            .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        Ok(ContainerSpec {
            pod_uid: self.uid.clone(),
            name: name.to_owned(),
            attempt,
            image: Image {
                digest: pulled.image_id.rsplit('@').next().unwrap_or_default().to_owned(),
                reference: pulled.image,
                size_bytes: pulled.size_bytes,
            },
            args: command.map(|text| env::expand(text, &env)).collect(),
            env,
            mounts,
            resources: resources(&container),
            config,
            ports: ports
                .filter_map(|port| u16::try_from(port.container_port).ok())
                .collect(),
            stdin: match (container.stdin, container.stdin_once) {
                (Some(true), Some(true)) => StdinMode::Once,
                (Some(true), _) => StdinMode::Open,
                _ => StdinMode::Silent,
            },
        })
    }

    pub(crate) fn facts(&self, pod_ip: Option<IpAddr>) -> Facts {
        Facts::new(&self.ctx, pod_ip.map(|ip| ip.to_string()))
    }
}

/// What is gone already needs no stopping or removing.
fn quietly(result: Result<(), RuntimeError>) -> Result<Vec<PodEvent>, Failure> {
    match result {
        Ok(()) | Err(RuntimeError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(Failure::Retry(chain(&error))),
    }
}

fn resources(container: &Container) -> Resources {
    let resources = container.resources.clone().unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    let requests = resources.requests.unwrap_or_default();
    let amount = |map: &std::collections::BTreeMap<String, _>, name: &str| env::quantity(map.get(name));
    let bytes = |quantity: Option<skiff_api::quantity::Quantity>| quantity.and_then(|q| u64::try_from(q.value()).ok());
    let millis =
        |quantity: Option<skiff_api::quantity::Quantity>| quantity.and_then(|q| u64::try_from(q.milli_value()).ok());
    Resources {
        memory_limit_bytes: bytes(amount(&limits, "memory")),
        cpu_limit_millis: millis(amount(&limits, "cpu")),
        cpu_request_millis: millis(amount(&requests, "cpu")),
        ephemeral_storage_limit_bytes: bytes(amount(&limits, "ephemeral-storage")),
    }
}
