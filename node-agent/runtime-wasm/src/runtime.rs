//! The port, implemented: images here, containers in the workers.
//!
//! Which pods exist is kept here; how they are is what their worker last said. When a worker dies its containers are
//! told as exited (137) until the agent makes their next attempt, for which a new worker is started.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use skiff_runtime::{
    ContainerPhase, ContainerSpec, ContainerState, Image, PullCredentials, Runtime, RuntimeError, SandboxSpec,
    SandboxState, WakeSender,
};

use crate::compile::Compiler;
use crate::images::pull::{Puller, parse};
use crate::images::source::ArtifactSource;
use crate::images::{Entry, ImageStore};
use crate::limits;
use crate::protocol::{Call, WireError, WorkerArgs};
use crate::supervise::{self, CallError, Link};

/// What the runtime is made with.
pub struct WasmConfig {
    /// Holds `images`, `compiled` and `workers`; ours alone.
    pub data_dir: PathBuf,
    /// Binary with the subcommands `wasm-worker` and `wasm-compile`.
    pub exe: PathBuf,
    /// Asked in order; the last should serve every registry.
    pub sources: Vec<Arc<dyn ArtifactSource>>,
    pub wake: WakeSender,
    pub limits: WasmLimits,
}

/// What a node allows its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmLimits {
    /// Instances at once in one worker.
    pub slots: u32,
    /// Threads that run guests, in one worker, for commands and for servers each.
    pub threads: usize,
    /// Addresses that no guest may connect to.
    pub denied: Vec<IpAddr>,
}

impl WasmLimits {
    /// For this machine: as many threads as cores.
    pub fn of_this_node() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            slots: limits::POOL_SLOTS,
            threads,
            denied: Vec::new(),
        }
    }
}

struct Pod {
    spec: SandboxSpec,
    created_at: i64,
    /// Containers that died with their worker and have no next attempt yet.
    lost: BTreeMap<String, ContainerState>,
}

/// Workers by namespace.
type Links = HashMap<String, Arc<Link>>;

/// Runs pods of WebAssembly. Made once per node; dropping it leaves the workers running.
pub struct WasmRuntime(Arc<Inner>);

struct Inner {
    data_dir: PathBuf,
    exe: PathBuf,
    wake: WakeSender,
    limits: WasmLimits,
    puller: Puller,
    compiler: Compiler,
    pods: Mutex<HashMap<String, Pod>>,
    links: Mutex<Links>,
    /// One start per namespace at a time.
    starting: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    me: Weak<Inner>,
}

impl WasmRuntime {
    /// Opens stores and adopts the workers that are still running, with their pods as they are. Errors: a directory that
    /// cannot be made or read.
    pub async fn new(config: WasmConfig) -> std::io::Result<Self> {
        let WasmConfig {
            data_dir,
            exe,
            sources,
            wake,
            limits,
        } = config;
        let images = ImageStore::open(data_dir.join("images"))?;
        let compiler = Compiler::open(data_dir.join("compiled"), exe.clone())?;
        std::fs::create_dir_all(data_dir.join("workers"))?;
        let inner = Arc::new_cyclic(|me| Inner {
            data_dir,
            exe,
            wake,
            limits,
            puller: Puller::new(images, sources),
            compiler,
            pods: Mutex::default(),
            links: Mutex::default(),
            starting: Mutex::default(),
            me: me.clone(),
        });
        inner.adopt().await?;
        Ok(Self(inner))
    }

    /// Ends every worker with its pods, for an agent that shall leave nothing behind (`skiff up`). The pods start anew
    /// with the next agent.
    pub fn stop_workers(&self) {
        let links = std::mem::take(&mut *self.0.links.lock().expect("no panic happens while the links are held"));
        links.into_values().for_each(|link| link.kill());
    }

    /// Forgets images that `in_use(reference, manifest digest)` does not want, with their compiled code. Returns the
    /// bytes freed.
    pub fn collect_garbage(&self, in_use: impl Fn(&str, &str) -> bool) -> std::io::Result<u64> {
        let store = &self.0.puller.store;
        let freed = store.collect(|reference, entry| in_use(reference, &entry.manifest))?;
        let modules = store.modules();
        Ok(freed + self.0.compiler.collect(|digest| modules.contains(digest)))
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}

fn unavailable(error: &anyhow::Error) -> RuntimeError {
    RuntimeError::Unavailable {
        why: format!("{error:#}"),
    }
}

impl Inner {
    fn pods(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pod>> {
        self.pods.lock().expect("no panic happens while the pods are held")
    }

    fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links.lock().expect("no panic happens while the links are held")
    }

    async fn adopt(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.data_dir.join("workers"))? {
            let entry = entry?;
            let namespace = entry.file_name().to_string_lossy().into_owned();
            match self.connect(&namespace).await {
                Ok(_) => tracing::info!(namespace, "adopted a worker"),
                Err(error) => tracing::debug!(namespace, error = format!("{error:#}"), "found no worker to adopt"),
            }
        }
        Ok(())
    }

    /// Connects to a namespace's worker and takes over what it runs.
    async fn connect(&self, namespace: &str) -> anyhow::Result<Arc<Link>> {
        let (me, name) = (self.me.clone(), namespace.to_owned());
        let died = move |pods| {
            if let Some(inner) = me.upgrade() {
                inner.worker_died(&name, pods);
            }
        };
        let dir = self.data_dir.join("workers").join(namespace);
        let (link, greeting) = Link::connect(&dir, self.wake.clone(), died).await?;
        anyhow::ensure!(
            greeting.namespace == namespace,
            "the worker is of namespace {}",
            greeting.namespace
        );
        let mut pods = self.pods();
        for spec in greeting.sandboxes {
            let created_at = link.state(&spec.pod_uid).map_or(0, |state| state.created_at);
            pods.entry(spec.pod_uid.clone()).or_insert(Pod {
                spec,
                created_at,
                lost: BTreeMap::new(),
            });
        }
        drop(pods);
        self.links().insert(namespace.to_owned(), link.clone());
        Ok(link)
    }

    /// Tells a dead worker's containers as exited. Other namespaces' workers are not touched.
    fn worker_died(&self, namespace: &str, states: BTreeMap<String, SandboxState>) {
        if !states.is_empty() {
            tracing::warn!(namespace, pods = states.len(), "a worker died");
        }
        let uids: Vec<String> = states.keys().cloned().collect();
        for (uid, state) in states {
            if let Some(pod) = self.pods().get_mut(&uid) {
                let containers = state.containers.into_iter().map(|c| (c.name.clone(), lost(c)));
                pod.lost.extend(containers);
            }
        }
        {
            let mut links = self.links();
            if links.get(namespace).is_some_and(|link| link.is_dead()) {
                links.remove(namespace);
            }
        }
        // Only now is there something to see.
        uids.into_iter().for_each(|uid| drop(self.wake.try_send(uid)));
    }

    fn link(&self, namespace: &str) -> Option<Arc<Link>> {
        self.links().get(namespace).filter(|link| !link.is_dead()).cloned()
    }

    /// The namespace's worker, started if there is none.
    async fn worker(&self, namespace: &str) -> Result<Arc<Link>, RuntimeError> {
        if let Some(link) = self.link(namespace) {
            return Ok(link);
        }
        // A namespace is a DNS label; whatever it is, it must not be a path.
        if namespace.is_empty() || namespace.starts_with('.') || namespace.contains('/') {
            return Err(RuntimeError::Sandbox {
                why: format!("{namespace:?} is not a namespace"),
            });
        }
        let starting = self
            .starting
            .lock()
            .expect("no panic happens while it is held")
            .entry(namespace.to_owned())
            .or_default()
            .clone();
        let _starting = starting.lock().await;
        if let Some(link) = self.link(namespace) {
            return Ok(link);
        }
        let args = WorkerArgs {
            dir: self.data_dir.join("workers").join(namespace),
            namespace: namespace.to_owned(),
            slots: self.limits.slots,
            threads: self.limits.threads,
            denied: self.limits.denied.clone(),
        };
        supervise::start(&self.exe, &args)
            .await
            .map_err(|error| unavailable(&error))?;
        self.connect(namespace).await.map_err(|error| unavailable(&error))
    }

    fn spec(&self, uid: &str) -> Result<SandboxSpec, RuntimeError> {
        let missing = || RuntimeError::NotFound {
            what: format!("sandbox of pod {uid}"),
        };
        self.pods().get(uid).map(|pod| pod.spec.clone()).ok_or_else(missing)
    }

    /// Makes the sandbox in the worker if it is not there (any more). A worker that was just ending is replaced once.
    async fn sandbox(&self, spec: &SandboxSpec) -> Result<Arc<Link>, RuntimeError> {
        for _ in 0..2 {
            let link = self.worker(&spec.namespace).await?;
            if link.state(&spec.pod_uid).is_some() {
                return Ok(link);
            }
            match link.call(Call::CreateSandbox { spec: spec.clone() }).await {
                Ok(()) => return Ok(link),
                Err(CallError::Gone) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Gone.into())
    }

    /// A call about a container that must exist.
    async fn container_call(&self, uid: &str, name: &str, call: Call) -> Result<(), RuntimeError> {
        let missing = || RuntimeError::NotFound {
            what: format!("container {name:?} of pod {uid}"),
        };
        let spec = self.spec(uid).map_err(|_| missing())?;
        let link = self.link(&spec.namespace).ok_or_else(missing)?;
        Ok(link.call(call).await?)
    }

    fn is_lost(&self, uid: &str, name: &str) -> bool {
        self.pods().get(uid).is_some_and(|pod| pod.lost.contains_key(name))
    }

    async fn artifact_call(&self, spec: &ContainerSpec, entry: &Entry) -> Result<(), RuntimeError> {
        let sandbox = self.spec(&spec.pod_uid)?;
        // Twice: code that was damaged on disk is compiled again.
        for last in [false, true] {
            let module = self.puller.store.blob(&entry.module);
            let artifact = self.compiler.ensure(&entry.module, &module, &entry.inspection).await?;
            let link = self.sandbox(&sandbox).await?;
            let call = Call::CreateContainer {
                spec: Box::new(spec.clone()),
                artifact,
            };
            match link.call(call).await {
                Err(CallError::Worker(WireError::Damaged(why))) if !last => {
                    tracing::warn!(
                        module = entry.module,
                        why,
                        "compiled code was damaged and is compiled again"
                    );
                    self.compiler.discard(&entry.module, entry.inspection.p3);
                }
                result => return Ok(result?),
            }
        }
        Ok(())
    }

    fn state(&self, uid: &str, pod: &Pod) -> SandboxState {
        let told = self.links().get(&pod.spec.namespace).and_then(|link| link.state(uid));
        let mut state = told.unwrap_or_else(|| SandboxState {
            pod_uid: uid.to_owned(),
            namespace: pod.spec.namespace.clone(),
            name: pod.spec.name.clone(),
            ip: pod.spec.ip,
            created_at: pod.created_at,
            containers: Vec::new(),
        });
        let live: Vec<String> = state.containers.iter().map(|c| c.name.clone()).collect();
        state
            .containers
            .extend(pod.lost.values().filter(|c| !live.contains(&c.name)).cloned());
        state
    }
}

/// A container as it is told after its worker died.
fn lost(mut container: ContainerState) -> ContainerState {
    if container.phase != ContainerPhase::Exited {
        container.phase = ContainerPhase::Exited;
        container.finished_at = now();
        container.exit_code = 137;
        container.reason = "Error".into();
        container.message = "worker died".into();
        container.memory_bytes = 0;
    }
    container
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn ensure_image(
        &self,
        reference: &str,
        pull: bool,
        credentials: &[PullCredentials],
    ) -> Result<Image, RuntimeError> {
        parse(reference)?;
        let puller = &self.0.puller;
        let entry = match pull {
            true => puller.pull(reference, credentials).await?,
            false => puller
                .store
                .get(reference)
                .ok_or_else(|| RuntimeError::ImageNeverPull {
                    reference: reference.to_owned(),
                })?,
        };
        if let Some(why) = entry.inspection.refusal() {
            return Err(RuntimeError::Unrunnable { why });
        }
        let module = puller.store.blob(&entry.module);
        self.0
            .compiler
            .ensure(&entry.module, &module, &entry.inspection)
            .await?;
        Ok(Image {
            reference: reference.to_owned(),
            digest: entry.manifest,
            size_bytes: entry.size,
        })
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError> {
        self.0.sandbox(spec).await?;
        let new = || Pod {
            spec: spec.clone(),
            created_at: now(),
            lost: BTreeMap::new(),
        };
        self.0.pods().entry(spec.pod_uid.clone()).or_insert_with(new);
        Ok(())
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let Ok(spec) = self.0.spec(pod_uid) else { return Ok(()) };
        if let Some(link) = self.0.link(&spec.namespace) {
            match link
                .call(Call::RemoveSandbox {
                    pod_uid: pod_uid.to_owned(),
                })
                .await
            {
                // A dead worker's guests are gone with it.
                Ok(()) | Err(CallError::Gone) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.0.pods().remove(pod_uid);
        Ok(())
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.0.spec(&spec.pod_uid)?;
        let store = &self.0.puller.store;
        let entry = store
            .by_manifest(&spec.image.digest)
            .or_else(|| store.get(&spec.image.reference));
        let why = || format!("image {} is not on this node", spec.image.digest);
        let entry = entry.ok_or_else(|| RuntimeError::Create { why: why() })?;
        self.0.artifact_call(spec, &entry).await?;
        if let Some(pod) = self.0.pods().get_mut(&spec.pod_uid) {
            pod.lost.remove(&spec.name);
        }
        Ok(())
    }

    async fn start_container(&self, pod_uid: &str, name: &str) -> Result<(), RuntimeError> {
        if self.0.is_lost(pod_uid, name) {
            return Err(RuntimeError::Start {
                why: "worker died".into(),
            });
        }
        let call = Call::StartContainer {
            pod_uid: pod_uid.to_owned(),
            name: name.to_owned(),
        };
        self.0.container_call(pod_uid, name, call).await
    }

    async fn stop_container(&self, pod_uid: &str, name: &str, grace_period_seconds: u64) -> Result<(), RuntimeError> {
        if self.0.is_lost(pod_uid, name) {
            return Ok(());
        }
        let call = Call::StopContainer {
            pod_uid: pod_uid.to_owned(),
            name: name.to_owned(),
            grace_period_seconds,
        };
        self.0.container_call(pod_uid, name, call).await
    }

    async fn remove_container(&self, pod_uid: &str, name: &str) -> Result<(), RuntimeError> {
        let namespace = match self.0.pods().get_mut(pod_uid) {
            Some(pod) => {
                pod.lost.remove(name);
                pod.spec.namespace.clone()
            }
            None => return Ok(()),
        };
        let Some(link) = self.0.link(&namespace) else {
            return Ok(());
        };
        let call = Call::RemoveContainer {
            pod_uid: pod_uid.to_owned(),
            name: name.to_owned(),
        };
        Ok(link.call(call).await?)
    }

    async fn list(&self) -> Result<Vec<SandboxState>, RuntimeError> {
        Ok(self.0.pods().iter().map(|(uid, pod)| self.0.state(uid, pod)).collect())
    }

    async fn inspect(&self, pod_uid: &str) -> Result<Option<SandboxState>, RuntimeError> {
        Ok(self.0.pods().get(pod_uid).map(|pod| self.0.state(pod_uid, pod)))
    }
}
