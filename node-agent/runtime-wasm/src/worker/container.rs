//! One container: its state, and the task that runs its guest to an end.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use skiff_api::pod_settings::settings_of;
use skiff_runtime::{ContainerPhase, ContainerSpec, ContainerState, Figures, SandboxSpec};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Changes;
use super::bounds::Bounds;
use super::counts::Counts;
use super::cpu::{CpuMeter, metered};
use super::executor::Executor;
use super::exit::Exit;
use super::guest::Surroundings;
use super::hits::{Hits, Limit};
use super::http;
use super::keyvalue::Quota;
use super::logs::ContainerLog;
use super::memory::ContainerMemory;
use super::mounts::Mounts;
use super::net::{ContainerNet, PodNet, system_lookup};
use super::program::Program;
use super::services::{Parts, Services, Shared};
use super::stdin::Stdin;
use super::storage;
use super::usage::{self, Told, instantiated};
use crate::protocol::WireError;

/// What the agent asked of a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    /// End by then.
    By(Instant),
}

struct Status {
    phase: ContainerPhase,
    started_at: i64,
    started_nanos: u64,
    finished_at: i64,
    exit: Exit,
}

pub(crate) struct Container {
    pub(crate) surroundings: Surroundings,
    pub(crate) program: Arc<Program>,
    pub(crate) cpu: Arc<CpuMeter>,
    pub(crate) stop: watch::Sender<Stop>,
    /// The guest's own, fed by who attaches.
    pub(crate) stdin: Stdin,
    /// Cancelled once it has exited.
    pub(crate) ended: CancellationToken,
    status: Mutex<Status>,
    task: Mutex<Option<JoinHandle<()>>>,
    told: Mutex<Told>,
    changes: Changes,
}

pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}

impl Container {
    pub(crate) fn create(
        sandbox: &Arc<SandboxSpec>,
        net: Arc<PodNet>,
        hits: Arc<Hits>,
        cpu: CpuMeter,
        spec: ContainerSpec,
        program: Arc<Program>,
        shared: Shared,
    ) -> Result<Self, WireError> {
        let settings = settings_of(&sandbox.annotations, &spec.name);
        let bounds = Bounds::of(&settings);
        let log = ContainerLog::create(&sandbox.log_dir, &spec.name, spec.attempt, &bounds, hits.clone());
        let log = log.map_err(|error| {
            WireError::Create(format!("make the log file in {}: {error}", sandbox.log_dir.display()))
        })?;
        let log = Arc::new(log);
        let mounts = Mounts::open(&spec.mounts).map_err(WireError::Create)?;
        let memory = Arc::new(ContainerMemory::new(spec.resources.memory_limit_bytes, hits.clone()));
        let cpu = Arc::new(cpu);
        let changes = shared.changes.clone();
        let parts = Parts {
            sandbox: sandbox.clone(),
            log: log.clone(),
            cpu: cpu.clone(),
            memory: memory.clone(),
            shared,
            quota: Quota::of(&settings),
            ready: !program.tells_readiness(),
        };
        let services = Services::new(&spec, parts);
        Ok(Self {
            surroundings: Surroundings {
                services: Arc::new(services),
                spec,
                log,
                memory,
                net: Arc::new(ContainerNet::new(net, &settings, system_lookup(), hits.clone())),
                counts: Arc::new(Counts::new(&bounds, hits.clone())),
                bounds,
                hits,
                traffic: Arc::default(),
                mounts: Arc::new(mounts),
                instances: Arc::default(),
                session: None,
            },
            program,
            cpu,
            stop: watch::Sender::new(Stop::No),
            stdin: Stdin::default(),
            ended: CancellationToken::new(),
            status: Mutex::new(Status {
                phase: ContainerPhase::Created,
                started_at: 0,
                started_nanos: 0,
                finished_at: 0,
                exit: Exit::code(0),
            }),
            task: Mutex::default(),
            told: Mutex::default(),
            changes,
        })
    }

    pub(crate) fn spec(&self) -> &ContainerSpec {
        &self.surroundings.spec
    }

    fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().expect("no panic happens while a status is held")
    }

    pub(crate) fn phase(&self) -> ContainerPhase {
        self.status().phase
    }

    pub(crate) fn state(&self) -> ContainerState {
        let (spec, status) = (self.spec(), self.status());
        let exited = status.phase == ContainerPhase::Exited;
        ContainerState {
            pod_uid: spec.pod_uid.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            phase: status.phase,
            id: format!("wasm://{}/{}/{}", spec.pod_uid, spec.name, spec.attempt),
            image: spec.image.clone(),
            started_at: status.started_at,
            finished_at: status.finished_at,
            exit_code: if exited { status.exit.code } else { 0 },
            reason: if exited {
                status.exit.reason.to_owned()
            } else {
                String::new()
            },
            message: if exited {
                status.exit.message.clone()
            } else {
                String::new()
            },
            cpu_nanos: self.cpu.used_nanos(),
            memory_bytes: self.surroundings.memory.used(),
            ready: self.surroundings.services.lifecycle.is_ready(),
        }
    }

    /// What it uses now.
    pub(super) fn figures(&self) -> Figures {
        let surroundings = &self.surroundings;
        Figures {
            started_nanos: self.status().started_nanos,
            cpu_nanos: self.cpu.used_nanos(),
            memory_bytes: surroundings.memory.used(),
            instances: surroundings.instances.count() as u64,
            log_bytes: surroundings.log.bytes(),
            throttled_nanos: self.cpu.throttled_nanos(),
            throttled_times: surroundings.hits.get(Limit::Cpu),
            received_bytes: surroundings.traffic.received(),
            sent_bytes: surroundings.traffic.sent(),
            requests: surroundings.traffic.requests(),
        }
    }

    pub(super) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no panic happens while it is held")
    }

    /// Starts the guest; harmless when it was started before. Errors: the address or port cannot be listened on.
    pub(crate) fn start(self: &Arc<Self>, executor: &Executor) -> Result<(), WireError> {
        if self.phase() != ContainerPhase::Created {
            return Ok(());
        }
        let listener = match &*self.program {
            Program::Http(_) | Program::HttpP3(_) => Some(http::listen(self)?),
            _ => None,
        };
        {
            let mut status = self.status();
            status.phase = ContainerPhase::Running;
            status.started_at = now();
            status.started_nanos = usage::monotonic_nanos();
        }
        let container = self.clone();
        let task = match listener {
            Some(listener) => {
                let home = executor.server();
                let connections = executor.clone();
                home.spawn(async move {
                    let run = http::run(container.clone(), listener, connections);
                    container.supervise(run).await;
                })
            }
            None => executor.commands().spawn(async move {
                let run = container.clone().run_command();
                container.supervise(run).await;
            }),
        };
        *self.task.lock().expect("no panic happens while a task is held") = Some(task);
        Ok(())
    }

    /// Runs to the end, whatever happens, and records it.
    async fn supervise(&self, run: impl Future<Output = Exit>) {
        let run = AssertUnwindSafe(run).catch_unwind();
        let exit = tokio::select! {
            exit = run => exit.unwrap_or_else(|panic| Exit::host_failed(&describe(&*panic))),
            exit = storage::watch(&self.surroundings) => {
                self.surroundings.hits.count(Limit::EphemeralStorage);
                exit
            }
        };
        self.finish(exit);
    }

    fn finish(&self, exit: Exit) {
        if !exit.message.is_empty() {
            self.surroundings.log.note(&exit.message);
        }
        self.surroundings.log.finish();
        {
            let mut status = self.status();
            if status.phase == ContainerPhase::Exited {
                return;
            }
            status.phase = ContainerPhase::Exited;
            status.finished_at = now().max(status.started_at);
            status.exit = exit;
        }
        self.ended.cancel();
        self.changes.pod(&self.spec().pod_uid);
    }

    /// Asks the guest to end, and sees to it after the grace period.
    pub(crate) fn stop(&self, grace: Duration) {
        match self.phase() {
            ContainerPhase::Exited => {}
            ContainerPhase::Created => self.finish(Exit::killed()),
            ContainerPhase::Running => {
                let deadline = Instant::now() + grace;
                self.surroundings.services.lifecycle.drain();
                self.stop.send_if_modified(|stop| match stop {
                    // A second stop may shorten the grace, not lengthen it.
                    Stop::By(earlier) if *earlier <= deadline => false,
                    _ => {
                        *stop = Stop::By(deadline);
                        true
                    }
                });
            }
        }
    }

    /// Ends it now and waits until nothing of it is left.
    pub(crate) async fn kill(&self) {
        self.stop(Duration::ZERO);
        let task = self.task.lock().expect("no panic happens while a task is held").take();
        if let Some(task) = task {
            let _ = task.await;
        }
        self.finish(Exit::killed());
    }

    async fn run_command(self: Arc<Self>) -> Exit {
        let stdin = self.stdin.clone();
        let guest = metered(&self.cpu, run_program(&self.program, &self.surroundings, stdin.clone()));
        tokio::pin!(guest);
        let mut stop = self.stop.subscribe();
        let mut deadline = None;
        loop {
            let asked = async {
                match deadline {
                    None => drop(stop.wait_for(|stop| *stop != Stop::No).await),
                    Some(by) => tokio::select! {
                        () = tokio::time::sleep_until(by) => {}
                        _ = stop.changed() => {}
                    },
                }
            };
            tokio::select! {
                exit = &mut guest => return exit,
                () = asked => {}
            }
            let Stop::By(by) = *self.stop.borrow() else { continue };
            if by <= Instant::now() {
                return Exit::killed();
            }
            stdin.close();
            // Who looks at neither cannot learn of the stop: waiting for it would be waiting for nothing.
            if !stdin.is_heeded() && !self.surroundings.services.lifecycle.is_heeded() {
                return Exit::interrupted();
            }
            deadline = Some(by);
        }
    }
}

/// Instantiates a command and runs it to the end of its `main`.
pub(crate) async fn run_program(program: &Program, surroundings: &Surroundings, stdin: Stdin) -> Exit {
    match try_program(program, surroundings, stdin).await {
        Ok(Ok(())) => Exit::code(0),
        Ok(Err(())) => Exit::code(1),
        Err(error) => {
            surroundings.hits.count_error(&error);
            Exit::from_error(&error)
        }
    }
}

async fn try_program(program: &Program, surroundings: &Surroundings, stdin: Stdin) -> wasmtime::Result<Result<(), ()>> {
    match program {
        Program::Core(pre) => {
            let mut store = surroundings.core_store(pre.module().engine(), stdin)?;
            let instance = instantiated(pre.instantiate_async(&mut store)).await?;
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            start.call_async(&mut store, ()).await.map(Ok)
        }
        Program::Command(pre) => {
            let mut store = surroundings.store(pre.engine(), Some(stdin))?;
            let command = instantiated(pre.instantiate_async(&mut store)).await?;
            command.wasi_cli_run().call_run(&mut store).await
        }
        Program::CommandP3(pre) => {
            let mut store = surroundings.store(pre.engine(), Some(stdin))?;
            let command = instantiated(pre.instantiate_async(&mut store)).await?;
            store
                .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
                .await?
        }
        Program::Http(_) | Program::HttpP3(_) => Err(wasmtime::Error::msg("a server is not a command")),
    }
}

/// The text of a panic.
pub(crate) fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown panic")
        .to_owned()
}
