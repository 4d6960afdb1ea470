//! The port, implemented: images here, containers in the workers.
//!
//! Which pods exist is kept here; how they are is what their worker last said. When a worker dies its containers are
//! told as exited (137) until the agent makes their next attempt, for which a new worker is started.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use skiff_runtime::{
    ContainerSpec, Image, PullCredentials, Runtime, RuntimeError, SandboxSpec, SandboxState, Says, StreamIo, Usage,
    WakeSender,
};

use crate::compile::{Compile, Compiler};
use crate::images::ImageStore;
use crate::images::pull::{Puller, parse};
use crate::images::source::ArtifactSource;
use crate::limits;
use crate::protocol::Call;
use crate::session::What;
use crate::supervise::CallError;
use inner::{Inner, Pod, now};

mod inner;
mod stream;

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
    pub compile: Compile,
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

/// Runs pods of WebAssembly. Made once per node; dropping it leaves the workers running.
pub struct WasmRuntime(Arc<Inner>);

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
            compile,
        } = config;
        // Paths are told to workers, whose working directory may be another.
        let data_dir = std::path::absolute(data_dir)?;
        let images = ImageStore::open(data_dir.join("images"))?;
        let compiler = Compiler::open(data_dir.join("compiled"), exe.clone(), compile)?;
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
        self.ensure_image_saying(reference, pull, credentials, &|_| {}).await
    }

    async fn ensure_image_saying(
        &self,
        reference: &str,
        pull: bool,
        credentials: &[PullCredentials],
        says: Says<'_>,
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
            .ensure(&entry.module, &module, &entry.inspection, says)
            .await?;
        Ok(Image {
            reference: reference.to_owned(),
            digest: entry.manifest,
            size_bytes: entry.size,
        })
    }

    /// Compiled code goes with its image.
    async fn collect_images(&self, in_use: &BTreeSet<String>) -> Result<u64, RuntimeError> {
        let store = &self.0.puller.store;
        let unavailable = |error: std::io::Error| RuntimeError::Unavailable { why: error.to_string() };
        let freed = store
            .collect(|reference, _| in_use.contains(reference))
            .map_err(unavailable)?;
        let modules = store.modules();
        Ok(freed + self.0.compiler.collect(|digest| modules.contains(digest)))
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

    /// All workers are asked at once; one that does not answer is left out.
    async fn usage(&self) -> Result<Usage, RuntimeError> {
        let links: Vec<_> = self
            .0
            .links()
            .iter()
            .map(|(name, link)| (name.clone(), link.clone()))
            .collect();
        let asked = links.iter().map(|(name, link)| link.usage(name));
        let mut all = Usage::default();
        for (answer, (name, _)) in futures::future::join_all(asked).await.into_iter().zip(&links) {
            match answer {
                Ok(usage) => {
                    all.containers.extend(usage.containers);
                    all.hosts.extend(usage.hosts);
                }
                Err(error) => {
                    tracing::debug!(namespace = name, ?error, "a worker did not tell what it uses");
                    all.incomplete = true;
                }
            }
        }
        Ok(all)
    }

    async fn exec(&self, uid: &str, container: &str, command: &[String], io: StreamIo) -> Result<i32, RuntimeError> {
        self.0.exec(uid, container, command, io).await
    }

    async fn attach(&self, uid: &str, container: &str, io: StreamIo) -> Result<(), RuntimeError> {
        self.0.session(uid, container, What::Attach, io).await.map(drop)
    }

    async fn list(&self) -> Result<Vec<SandboxState>, RuntimeError> {
        Ok(self.0.pods().iter().map(|(uid, pod)| self.0.state(uid, pod)).collect())
    }

    async fn inspect(&self, pod_uid: &str) -> Result<Option<SandboxState>, RuntimeError> {
        Ok(self.0.pods().get(pod_uid).map(|pod| self.0.state(pod_uid, pod)))
    }
}
