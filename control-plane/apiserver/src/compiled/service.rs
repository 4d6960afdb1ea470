//! Who asked for what, and what is being compiled: one job per key however many ask, a bounded queue, a few at a time.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use skiff_api::compiled::{Key, MODULE_BYTES_MAX, Platform};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Record};
use super::child;
use super::upload::Upload;
use crate::artifacts::Registry;
use crate::body::RequestBody;
use crate::server::CompilerProgram;

/// Compilers at once: the server has other things to do, and a huge module must not hold up a small one.
const COMPILES_AT_ONCE: usize = 2;
/// Jobs that wait or run; each is a few hundred bytes, and an uploaded module on disk.
const JOBS_MAX: usize = 256;
/// Of one asker, so that a node with many images leaves room for others.
const JOBS_PER_ASKER_MAX: usize = 32;
/// Modules taken in from nodes at once.
const UPLOADS_AT_ONCE: usize = 4;
/// A module that was refused is not tried again for this long: a pod that waits in back-off asks every few minutes.
const REFUSAL_LIFE: Duration = Duration::from_secs(600);
const REFUSALS_MAX: usize = 256;
/// Unwanted code is looked for this often.
const COLLECT_INTERVAL: Duration = Duration::from_secs(3600);
/// Who asks when a module was pushed to the registry.
const REGISTRY: &str = "registry";

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// This server compiles with another engine, for other machines, or not at all.
    #[error("{0}")]
    Differs(String),
    /// The module's fault.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Busy(String),
    /// What was sent is not the module.
    #[error("{0}")]
    BadModule(String),
    /// Ours.
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// An answer that is no error.
#[derive(Debug)]
pub(super) enum Asked {
    Ready(Record),
    /// Not yet; in words for `kubectl describe`.
    Working(String),
    SendModule,
}

#[derive(Clone, Debug)]
enum State {
    Waiting,
    Compiling,
    Done(Result<Record, Trouble>),
}

struct Job {
    number: u64,
    by: String,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct Jobs {
    next: u64,
    running: HashMap<Key, Arc<Job>>,
    /// By module and target: other CPU features change nothing about a refusal.
    refused: VecDeque<(String, String, Trouble, Instant)>,
    compiled: u64,
    failed: u64,
}

pub(super) struct Service {
    program: Option<CompilerProgram>,
    /// What the program said that it compiles with; asked again when it was replaced.
    platform: tokio::sync::Mutex<Option<Platform>>,
    cache: Cache,
    modules: Arc<Registry>,
    jobs: Mutex<Jobs>,
    turns: Semaphore,
    uploads: Semaphore,
}

/// Where a job's module is.
enum Module {
    Registry(PathBuf),
    Upload(Upload),
}

impl Module {
    fn path(&self) -> &Path {
        match self {
            Self::Registry(path) => path,
            Self::Upload(upload) => upload.path(),
        }
    }
}

impl Service {
    pub(super) fn open(
        directory: &Path,
        program: Option<CompilerProgram>,
        modules: Arc<Registry>,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            program,
            platform: tokio::sync::Mutex::default(),
            cache: Cache::open(directory)?,
            modules,
            jobs: Mutex::default(),
            turns: Semaphore::new(COMPILES_AT_ONCE),
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
        }))
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn program(&self) -> Result<&CompilerProgram, Trouble> {
        let none = || Trouble::Differs("this control plane has no compiler (skiff server --compiler)".to_owned());
        self.program.as_ref().ok_or_else(none)
    }

    /// What the compiler compiles with.
    async fn platform(&self) -> Result<Platform, Trouble> {
        let program = self.program()?;
        let mut known = self.platform.lock().await;
        if let Some(platform) = &*known {
            return Ok(platform.clone());
        }
        let platform = child::platform(program).await?;
        Ok(known.insert(platform).clone())
    }

    /// What is compiled for, and what is at hand.
    pub(super) async fn describe(&self) -> Value {
        let platform = self.platform().await.map(
            |platform| json!({"engine": platform.id(), "target": platform.target(), "features": platform.features()}),
        );
        let jobs = self.jobs();
        let waiting = jobs.running.values().filter(|job| job.is_waiting()).count();
        json!({
            "platform": platform.clone().ok(), "problem": platform.err().map(|error| error.to_string()),
            "waiting": waiting, "compiling": jobs.running.len() - waiting,
            "compiled": jobs.compiled, "failed": jobs.failed,
        })
    }

    async fn find(self: &Arc<Self>, key: &Key) -> Option<Record> {
        let (service, key) = (self.clone(), key.clone());
        // The first time its hash is looked at.
        let found = tokio::task::spawn_blocking(move || service.cache.find(&key)).await;
        found.ok().flatten()
    }

    pub(super) async fn open_code(&self, key: &Key) -> std::io::Result<tokio::fs::File> {
        tokio::fs::File::open(self.cache.path(key)).await
    }

    /// Takes in a module that a node sends.
    pub(super) async fn receive(&self, key: &Key, body: RequestBody) -> Result<Upload, Trouble> {
        let _place = self
            .uploads
            .try_acquire()
            .map_err(|_| Trouble::Busy("too many modules are being sent".to_owned()))?;
        self.check_space()?;
        Upload::receive(self.cache.temporary(), key, body).await
    }

    /// The code of `key`, compiled by and by if need be; waits up to `wait` for it.
    pub(super) async fn ask(
        self: &Arc<Self>,
        key: &Key,
        by: &str,
        upload: Option<Upload>,
        wait: Duration,
    ) -> Result<Asked, Trouble> {
        if let Some(record) = self.find(key).await {
            return Ok(Asked::Ready(record));
        }
        let ours = self.platform().await?;
        if ours.id() != key.platform().id() {
            return Err(Trouble::Differs(format!(
                "this control plane compiles with {}, the node runs {}",
                ours.id(),
                key.platform().id()
            )));
        }
        let Some(job) = self.job(key, by, upload)? else {
            return Ok(Asked::SendModule);
        };
        let mut state = job.state.subscribe();
        let done = state.wait_for(|state| matches!(state, State::Done(_)));
        let finished = tokio::time::timeout(wait, done).await;
        if let Ok(Ok(state)) = finished
            && let State::Done(result) = &*state
        {
            return result.clone().map(Asked::Ready);
        }
        Ok(Asked::Working(self.progress(&job)))
    }

    /// The job of this key, started if there is none; None when there is room for it, but its module must be sent first.
    fn job(self: &Arc<Self>, key: &Key, by: &str, upload: Option<Upload>) -> Result<Option<Arc<Job>>, Trouble> {
        // The disk is asked before the queue is held.
        let (stored, space) = (self.modules.blob_file(key.module()), self.check_space());
        let mut jobs = self.jobs();
        if let Some(job) = jobs.running.get(key) {
            return Ok(Some(job.clone()));
        }
        jobs.refused.retain(|(.., at)| at.elapsed() < REFUSAL_LIFE);
        let target = key.platform().target();
        let refused = jobs.refused.iter().find(|(m, t, ..)| m == key.module() && t == target);
        if let Some((.., why, _)) = refused {
            return Err(why.clone());
        }
        if let Some((_, size)) = stored
            && size > MODULE_BYTES_MAX
        {
            let why = format!("the module has {size} bytes, at most {MODULE_BYTES_MAX} are compiled");
            return Err(Trouble::Refused(why));
        }
        if jobs.running.len() >= JOBS_MAX {
            return Err(Trouble::Busy(format!("{JOBS_MAX} modules wait to be compiled")));
        }
        if jobs.running.values().filter(|job| job.by == by).count() >= JOBS_PER_ASKER_MAX {
            let why = format!("{JOBS_PER_ASKER_MAX} modules of this node wait to be compiled");
            return Err(Trouble::Busy(why));
        }
        space?;
        let module = match (upload, stored) {
            (_, Some((path, _))) => Module::Registry(path),
            (Some(upload), None) => Module::Upload(upload),
            (None, None) => return Ok(None),
        };
        jobs.next += 1;
        let job = Arc::new(Job {
            number: jobs.next,
            by: by.to_owned(),
            state: watch::Sender::new(State::Waiting),
        });
        jobs.running.insert(key.clone(), job.clone());
        drop(jobs);
        tokio::spawn(self.clone().work(key.clone(), job.clone(), module));
        Ok(Some(job))
    }

    async fn work(self: Arc<Self>, key: Key, job: Arc<Job>, module: Module) {
        let result = {
            let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
            job.state.send_replace(State::Compiling);
            let started = Instant::now();
            let result = self.clone().compile(&key, &module).await;
            match &result {
                Ok(_) => tracing::info!(%key, by = job.by, took = ?started.elapsed(), "module compiled"),
                Err(error) => tracing::warn!(%key, by = job.by, %error, "module not compiled"),
            }
            result
        };
        let mut jobs = self.jobs();
        match &result {
            Ok(_) => jobs.compiled += 1,
            Err(_) => jobs.failed += 1,
        }
        if let Err(refusal @ Trouble::Refused(_)) = &result {
            let (module, target) = (key.module().to_owned(), key.platform().target().to_owned());
            jobs.refused
                .push_back((module, target, refusal.clone(), Instant::now()));
            if jobs.refused.len() > REFUSALS_MAX {
                jobs.refused.pop_front();
            }
        }
        jobs.running.remove(&key);
        drop(jobs);
        job.state.send_replace(State::Done(result));
    }

    async fn compile(self: Arc<Self>, key: &Key, module: &Module) -> Result<Record, Trouble> {
        let out = Unfinished(self.cache.temporary());
        if !module.path().exists() {
            return Err(Trouble::Failed("the module has left the registry".to_owned()));
        }
        let made = child::compile(self.program()?, key.platform(), module.path(), &out.0).await?;
        let asked = key.platform().id();
        if made.engine != asked {
            *self.platform.lock().await = None;
            let engine = made.engine;
            let why = format!("the compiler was replaced: it compiles with {engine}, the node runs {asked}");
            return Err(Trouble::Differs(why));
        }
        let uploaded = matches!(module, Module::Upload(_));
        let (service, key) = (self.clone(), key.clone());
        let keeping = tokio::task::spawn_blocking(move || service.cache.keep(&key, &out.0, made.kind, uploaded));
        Ok(keeping.await.map_err(|error| Trouble::Failed(error.to_string()))??)
    }

    /// Words about a job that is not done.
    fn progress(&self, job: &Job) -> String {
        if !job.is_waiting() {
            return "the module is being compiled".to_owned();
        }
        let jobs = self.jobs();
        let before = jobs.running.values().filter(|other| other.number < job.number).count();
        format!("the module is to be compiled after {before} others")
    }

    fn check_space(&self) -> Result<(), Trouble> {
        let full = || Trouble::Busy("the control plane's disk is nearly full".to_owned());
        if self.modules.has_space() { Ok(()) } else { Err(full()) }
    }

    /// Removes what nobody needs any more.
    async fn collect(self: Arc<Self>) -> std::io::Result<u64> {
        let engine = self.platform().await.ok().map(|platform| platform.id().to_owned());
        tokio::task::spawn_blocking(move || {
            let has = |module: &str| self.modules.blob_file(module).is_some();
            self.cache.collect(SystemTime::now(), engine.as_deref(), has)
        })
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }
}

impl Job {
    fn is_waiting(&self) -> bool {
        matches!(*self.state.borrow(), State::Waiting)
    }
}

/// A file that goes when it was not taken over.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Compiles what is pushed for machines like this one, so that its first pod need not wait.
pub(super) async fn compile_pushed(
    service: Arc<Service>,
    mut pushed: mpsc::Receiver<String>,
    shutdown: CancellationToken,
) {
    loop {
        let module = tokio::select! {
            () = shutdown.cancelled() => return,
            module = pushed.recv() => module,
        };
        let Some(module) = module else { return };
        let Ok(platform) = service.platform().await else {
            continue;
        };
        let Ok(key) = Key::new(&module, platform) else {
            continue;
        };
        if let Err(error) = service.ask(&key, REGISTRY, None, Duration::ZERO).await {
            tracing::debug!(%key, %error, "a pushed module is not compiled");
        }
    }
}

pub(super) async fn collect_regularly(service: Arc<Service>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(COLLECT_INTERVAL) => {}
        }
        match service.clone().collect().await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "unneeded compiled code removed"),
            Err(error) => tracing::warn!(%error, "unneeded compiled code was not removed"),
        }
    }
}
