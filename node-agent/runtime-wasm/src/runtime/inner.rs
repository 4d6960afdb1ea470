//! What the runtime keeps: its pods, the links to their workers, and how a worker is found, started, adopted and missed.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use skiff_runtime::{
    ContainerPhase, ContainerSpec, ContainerState, RuntimeError, SandboxSpec, SandboxState, WakeSender,
};

use super::WasmLimits;
use crate::compile::Compiler;
use crate::images::Entry;
use crate::images::pull::Puller;
use crate::protocol::{Call, WireError, WorkerArgs};
use crate::supervise::{self, CallError, Link};

pub(super) struct Pod {
    pub(super) spec: SandboxSpec,
    pub(super) created_at: i64,
    /// Containers that died with their worker and have no next attempt yet.
    pub(super) lost: BTreeMap<String, ContainerState>,
}

/// Workers by namespace.
pub(super) type Links = HashMap<String, Arc<Link>>;

pub(super) struct Inner {
    pub(super) data_dir: PathBuf,
    pub(super) exe: PathBuf,
    pub(super) wake: WakeSender,
    pub(super) limits: WasmLimits,
    pub(super) puller: Puller,
    pub(super) compiler: Compiler,
    pub(super) pods: Mutex<HashMap<String, Pod>>,
    pub(super) links: Mutex<Links>,
    /// One start per namespace at a time.
    pub(super) starting: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) me: Weak<Inner>,
}

pub(super) fn now() -> i64 {
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
    pub(super) fn pods(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pod>> {
        self.pods.lock().expect("no panic happens while the pods are held")
    }

    pub(super) fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links.lock().expect("no panic happens while the links are held")
    }

    pub(super) async fn adopt(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.data_dir.join("workers"))? {
            let entry = entry?;
            let namespace = entry.file_name().to_string_lossy().into_owned();
            match self.connect(&namespace).await {
                Ok(_) => tracing::info!(namespace, "adopted a worker"),
                Err(error) => {
                    tracing::debug!(namespace, error = format!("{error:#}"), "found no worker to adopt");
                    supervise::clear(&entry.path());
                }
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

    pub(super) fn link(&self, namespace: &str) -> Option<Arc<Link>> {
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
        // One may be alive whose connection broke.
        if let Ok(link) = self.connect(namespace).await {
            return Ok(link);
        }
        let args = WorkerArgs {
            dir: self.data_dir.join("workers").join(namespace),
            namespace: namespace.to_owned(),
            slots: self.limits.slots,
            threads: self.limits.threads,
            denied: self.limits.denied.clone(),
        };
        let buckets = self.buckets(namespace).map_err(|error| unavailable(&error))?;
        supervise::start(&self.exe, &args, buckets)
            .await
            .map_err(|error| unavailable(&error))?;
        self.connect(namespace).await.map_err(|error| unavailable(&error))
    }

    /// The file of a namespace's buckets (`wasi:keyvalue`). It stays when the worker goes.
    fn buckets(&self, namespace: &str) -> anyhow::Result<std::fs::File> {
        let directory = self.data_dir.join("keyvalue");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .context("make the directory of buckets")?;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(directory.join(format!("{namespace}.redb")))
            .context("open the namespace's buckets")
    }

    pub(super) fn spec(&self, uid: &str) -> Result<SandboxSpec, RuntimeError> {
        let missing = || RuntimeError::NotFound {
            what: format!("sandbox of pod {uid}"),
        };
        self.pods().get(uid).map(|pod| pod.spec.clone()).ok_or_else(missing)
    }

    /// Makes the sandbox in the worker if it is not there (any more). A worker that was just ending is replaced once.
    pub(super) async fn sandbox(&self, spec: &SandboxSpec) -> Result<Arc<Link>, RuntimeError> {
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
    pub(super) async fn container_call(&self, uid: &str, name: &str, call: Call) -> Result<(), RuntimeError> {
        let missing = || RuntimeError::NotFound {
            what: format!("container {name:?} of pod {uid}"),
        };
        let spec = self.spec(uid).map_err(|_| missing())?;
        let link = self.link(&spec.namespace).ok_or_else(missing)?;
        Ok(link.call(call).await?)
    }

    pub(super) fn is_lost(&self, uid: &str, name: &str) -> bool {
        self.pods().get(uid).is_some_and(|pod| pod.lost.contains_key(name))
    }

    pub(super) async fn artifact_call(&self, spec: &ContainerSpec, entry: &Entry) -> Result<(), RuntimeError> {
        let sandbox = self.spec(&spec.pod_uid)?;
        // Twice: code that was damaged on disk is compiled again.
        for last in [false, true] {
            let module = self.puller.store.blob(&entry.module);
            let artifact = self
                .compiler
                .ensure(&entry.module, &module, &entry.inspection, &|_| {})
                .await?;
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
                    self.compiler.discard(&entry.module);
                }
                result => return Ok(result?),
            }
        }
        Ok(())
    }

    pub(super) fn state(&self, uid: &str, pod: &Pod) -> SandboxState {
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
