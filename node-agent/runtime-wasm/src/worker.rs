//! The worker process: runs the guests of one namespace, and nothing else.
//!
//! It lives in a session of its own and goes on when the agent is gone; whoever connects to its socket next finds
//! everything as it is. Control runs on the main thread, guests on others ([`executor`]).
//!
//! Read on: [`control`] the socket · [`container`] one container · [`http`], [`request`] servers · [`guest`], [`services`] what
//! a guest finds · [`cpu`], [`turns`], [`memory`], [`logs`], [`storage`], [`net`] its bounds · [`hits`] how often they
//! were met · [`usage`], [`traffic`] what is used · [`exit`] how it ends.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skiff_runtime::{ContainerPhase, ContainerSpec, SandboxSpec, SandboxState};
use tokio::sync::{Semaphore, broadcast};

use crate::limits;
use crate::protocol::{Artifact, Call, WireError};
use container::Container;
use cores::Cores;
use cpu::CpuMeter;
use executor::Executor;
use hits::Hits;
use keyvalue::Buckets;
use net::PodNet;
use program::{Program, Programs};
use services::Shared;

mod bounds;
mod container;
pub(crate) mod control;
mod core_files;
mod cores;
mod counts;
mod cpu;
mod executor;
mod exit;
mod guest;
mod hits;
mod http;
mod inside;
mod instances;
mod keyvalue;
mod log_stream;
mod logs;
mod memory;
mod mounts;
mod names;
mod net;
mod open_files;
mod outgoing;
mod program;
mod request;
mod services;
mod shell;
mod slice;
mod sockets;
mod sockets_p3;
mod stdin;
mod storage;
mod stream;
mod taps;
mod ticker;
mod traffic;
mod turns;
mod usage;
mod warm;

pub(crate) use usage::INSTANTIATION_MICROS;

/// Tells every connected agent which pods changed.
#[derive(Clone)]
pub(crate) struct Changes(broadcast::Sender<String>);

impl Changes {
    fn pod(&self, uid: &str) {
        // No agent is connected: the next one reads everything first.
        let _ = self.0.send(uid.to_owned());
    }
}

struct Pod {
    sandbox: Arc<SandboxSpec>,
    net: Arc<PodNet>,
    created_at: i64,
    containers: BTreeMap<String, Arc<Container>>,
    /// By container, over all its attempts.
    hits: BTreeMap<String, Arc<Hits>>,
}

/// Everything this worker runs.
pub(crate) struct Worker {
    pods: Mutex<HashMap<String, Pod>>,
    programs: Arc<Programs>,
    executor: Executor,
    cores: Arc<Cores>,
    changes: Changes,
    denied: Vec<IpAddr>,
    /// Reports of usage made so far.
    reports: AtomicU64,
    shared: Shared,
    sessions: Arc<Semaphore>,
}

impl Worker {
    fn new(slots: u32, threads: usize, denied: Vec<IpAddr>, buckets: Option<File>) -> std::io::Result<Self> {
        let changes = Changes(broadcast::Sender::new(limits::EVENTS_QUEUE));
        let executor = Executor::start(threads)?;
        Ok(Self {
            pods: Mutex::default(),
            programs: Arc::new(Programs::new(slots)),
            executor,
            cores: Cores::new(threads),
            denied,
            reports: AtomicU64::new(0),
            changes: changes.clone(),
            shared: Shared {
                changes,
                buckets: Arc::new(Buckets::new(buckets)),
            },
            sessions: Arc::new(Semaphore::new(stream::SESSIONS_MAX)),
        })
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pod>> {
        self.pods.lock().expect("no panic happens while the pods are held")
    }

    fn is_empty(&self) -> bool {
        self.pods().is_empty()
    }

    fn state(&self, uid: &str) -> Option<SandboxState> {
        self.pods().get(uid).map(Pod::state)
    }

    fn all(&self) -> Vec<(SandboxSpec, SandboxState)> {
        self.pods()
            .values()
            .map(|pod| ((*pod.sandbox).clone(), pod.state()))
            .collect()
    }

    fn find(&self, uid: &str, name: &str) -> Option<Arc<Container>> {
        self.pods().get(uid)?.containers.get(name).cloned()
    }

    fn container(&self, uid: &str, name: &str) -> Result<Arc<Container>, WireError> {
        self.find(uid, name)
            .ok_or_else(|| WireError::NotFound(format!("container {name:?} of pod {uid}")))
    }

    /// Carries out one call; safe to repeat.
    async fn perform(&self, call: Call) -> Result<(), WireError> {
        match call {
            Call::CreateSandbox { spec } => {
                self.create_sandbox(spec);
                Ok(())
            }
            Call::RemoveSandbox { pod_uid } => {
                self.remove_sandbox(&pod_uid).await;
                Ok(())
            }
            Call::CreateContainer { spec, artifact } => self.create_container(*spec, artifact).await,
            Call::StartContainer { pod_uid, name } => self.container(&pod_uid, &name)?.start(&self.executor),
            Call::StopContainer {
                pod_uid,
                name,
                grace_period_seconds,
            } => {
                self.container(&pod_uid, &name)?
                    .stop(Duration::from_secs(grace_period_seconds));
                Ok(())
            }
            Call::RemoveContainer { pod_uid, name } => self.remove_container(&pod_uid, &name),
            // The report is made at the moment it is written.
            Call::Usage { .. } => Ok(()),
        }
    }

    fn create_sandbox(&self, spec: SandboxSpec) {
        self.pods().entry(spec.pod_uid.clone()).or_insert_with(|| Pod {
            net: Arc::new(PodNet::new(spec.ip, self.denied.clone())),
            sandbox: Arc::new(spec),
            created_at: container::now(),
            containers: BTreeMap::new(),
            hits: BTreeMap::new(),
        });
    }

    async fn remove_sandbox(&self, uid: &str) {
        let containers: Vec<_> = self
            .pods()
            .get(uid)
            .map(|pod| pod.containers.values().cloned().collect())
            .unwrap_or_default();
        futures::future::join_all(containers.iter().map(|container| container.kill())).await;
        if let Some(pod) = self.pods().remove(uid) {
            pod.containers.values().for_each(|container| container.retire());
        }
    }

    /// Loads a module, unless it is loaded already.
    async fn program(&self, artifact: Artifact) -> Result<Arc<Program>, WireError> {
        if let Some(program) = self.programs.loaded(&artifact) {
            return Ok(program);
        }
        let programs = self.programs.clone();
        let loading = tokio::task::spawn_blocking(move || programs.load(&artifact));
        loading.await.map_err(|error| WireError::Create(error.to_string()))?
    }

    async fn create_container(&self, spec: ContainerSpec, artifact: Artifact) -> Result<(), WireError> {
        let missing = || WireError::NotFound(format!("sandbox of pod {}", spec.pod_uid));
        let (sandbox, net, hits) = {
            let mut pods = self.pods();
            let pod = pods.get_mut(&spec.pod_uid).ok_or_else(missing)?;
            if let Some(old) = pod.containers.get(&spec.name) {
                if old.spec().attempt == spec.attempt {
                    return Ok(());
                }
                if old.phase() != ContainerPhase::Exited {
                    return Err(WireError::Create(format!(
                        "container {:?} has not ended yet",
                        spec.name
                    )));
                }
            }
            let hits = pod.hits.entry(spec.name.clone()).or_default().clone();
            (pod.sandbox.clone(), pod.net.clone(), hits)
        };
        let program = self.program(artifact).await?;
        let (uid, name, attempt) = (spec.pod_uid.clone(), spec.name.clone(), spec.attempt);
        let resources = &spec.resources;
        let (limit, request) = (resources.cpu_limit_millis, resources.cpu_request_millis);
        let cpu = CpuMeter::new(self.cores.clone(), limit, request, hits.clone());
        let container = Container::create(&sandbox, net, hits, cpu, spec, program, self.shared.clone())?;
        let mut pods = self.pods();
        let pod = pods
            .get_mut(&uid)
            .ok_or_else(|| WireError::NotFound(format!("sandbox of pod {uid}")))?;
        // Calls are repeated: another may have been faster while the module was loaded.
        if pod
            .containers
            .get(&name)
            .is_some_and(|other| other.spec().attempt == attempt)
        {
            return Ok(());
        }
        if let Some(old) = pod.containers.insert(name, Arc::new(container)) {
            old.retire();
        }
        Ok(())
    }

    fn remove_container(&self, uid: &str, name: &str) -> Result<(), WireError> {
        let mut pods = self.pods();
        let Some(pod) = pods.get_mut(uid) else { return Ok(()) };
        if pod
            .containers
            .get(name)
            .is_some_and(|c| c.phase() == ContainerPhase::Running)
        {
            return Err(WireError::Create(format!("container {name:?} is running")));
        }
        if let Some(old) = pod.containers.remove(name) {
            old.retire();
        }
        Ok(())
    }
}

impl Pod {
    fn state(&self) -> SandboxState {
        SandboxState {
            pod_uid: self.sandbox.pod_uid.clone(),
            namespace: self.sandbox.namespace.clone(),
            name: self.sandbox.name.clone(),
            ip: self.sandbox.ip,
            created_at: self.created_at,
            containers: self.containers.values().map(|container| container.state()).collect(),
        }
    }
}
