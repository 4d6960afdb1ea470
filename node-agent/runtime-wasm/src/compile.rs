//! Getting a module's compiled code, once per module and platform: from the compile service, or from a limited child of
//! this node; and the cache of what came.
//!
//! Reading order: here, `cache` (what is on disk), `service` (asking and verifying), `local` and `child` (our own compiler).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use skiff_api::compiled::{COMPILER_AT_FAULT, Key, OTHER_PLATFORM, Platform};
use skiff_runtime::{RuntimeError, Says};
use tokio::sync::watch;

use crate::engine::Flavour;
use crate::inspect::{Inspection, Kind};
use crate::limits;
use crate::machine;
use crate::protocol::Artifact;
use cache::{Cache, Record};
pub use service::{Answer, CompileService, ServiceError};

mod cache;
#[cfg(feature = "compiler")]
mod child;
mod local;
mod service;

/// Compiles one module and exits: `wasm-compile IN OUT TARGET FEATURES`, the arguments after `wasm-compile`. Prints the
/// engine's id and the kind of code; with `--platform` alone what it compiles with. Call it before anything else starts
/// threads. Returns the exit code; complaints go to stderr.
pub fn compile_main(args: &[String]) -> i32 {
    #[cfg(feature = "compiler")]
    let outcome = child::run(args);
    #[cfg(not(feature = "compiler"))]
    let outcome = {
        let _ = args;
        Err::<(), _>(Failure::Platform(anyhow::Error::msg(NO_COMPILER)))
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            let (code, error) = error.code();
            eprintln!("{error:#}");
            code
        }
    }
}

/// Whose fault it is that nothing was compiled.
#[cfg_attr(
    not(feature = "compiler"),
    allow(dead_code, reason = "without a compiler nothing else can fail")
)]
enum Failure {
    Module(anyhow::Error),
    /// No module can be compiled for what was asked.
    Platform(anyhow::Error),
    /// A file's or the system's.
    Compiler(anyhow::Error),
}

impl Failure {
    fn code(self) -> (i32, anyhow::Error) {
        match self {
            Self::Module(error) => (1, error),
            Self::Platform(error) => (OTHER_PLATFORM, error),
            Self::Compiler(error) => (COMPILER_AT_FAULT, error),
        }
    }
}

const NO_COMPILER: &str = "this program was built without a compiler";

/// Who compiles for this node.
#[derive(Clone)]
pub enum Compile {
    /// A limited child of this node.
    Local,
    /// The compile service only.
    Service(Arc<dyn CompileService>),
    /// The compile service; a limited child of this node when the service is out of reach or of another engine.
    Auto(Arc<dyn CompileService>),
}

impl Compile {
    fn service(&self) -> Option<&Arc<dyn CompileService>> {
        match self {
            Self::Local => None,
            Self::Service(service) | Self::Auto(service) => Some(service),
        }
    }
    fn may_compile_here(&self) -> bool {
        !matches!(self, Self::Service(_)) && cfg!(feature = "compiler")
    }
}

/// One module's way into the cache; more askers wait for it, and hear what it waits for.
struct Flight {
    turn: tokio::sync::Mutex<()>,
    says: watch::Sender<String>,
}

impl Flight {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            turn: tokio::sync::Mutex::new(()),
            says: watch::Sender::new(String::new()),
        })
    }

    async fn turn(&self, says: Says<'_>) -> tokio::sync::MutexGuard<'_, ()> {
        let mut heard = self.says.subscribe();
        let mut turn = std::pin::pin!(self.turn.lock());
        loop {
            let text = heard.borrow_and_update().clone();
            if !text.is_empty() {
                says(&text);
            }
            tokio::select! {
                guard = &mut turn => return guard,
                Ok(()) = heard.changed() => {}
            }
        }
    }
}

/// Compiled code of a node.
pub(crate) struct Compiler {
    exe: PathBuf,
    by: Compile,
    platform: Platform,
    cache: Cache,
    /// Checked already in this process, by module.
    known: Mutex<HashMap<String, Artifact>>,
    flights: Mutex<HashMap<String, Arc<Flight>>>,
    /// Children at once.
    turns: tokio::sync::Semaphore,
}

impl Compiler {
    /// Opens or makes the cache in `dir`. Errors: the directory or key cannot be made.
    pub(crate) fn open(dir: PathBuf, exe: PathBuf, by: Compile) -> std::io::Result<Self> {
        let platform = machine::this_machine();
        Ok(Self {
            exe,
            by,
            cache: Cache::open(dir, &platform)?,
            platform,
            known: Mutex::default(),
            flights: Mutex::default(),
            turns: tokio::sync::Semaphore::new(limits::COMPILES_AT_ONCE),
        })
    }

    /// The compiled form of a module, got now if need be. Errors: it cannot be compiled, or nobody here may.
    pub(crate) async fn ensure(
        &self,
        digest: &str,
        module: &Path,
        inspection: &Inspection,
        says: Says<'_>,
    ) -> Result<Artifact, RuntimeError> {
        let kind = inspection
            .kind
            .ok_or_else(|| unrunnable(inspection.refusal().unwrap_or_default()))?;
        if let Some(artifact) = self.known(digest) {
            return Ok(artifact);
        }
        let flight = self
            .flights()
            .entry(digest.to_owned())
            .or_insert_with(Flight::new)
            .clone();
        let result = {
            let _turn = flight.turn(says).await;
            let says_all = |text: &str| {
                says(text);
                flight.says.send_replace(text.to_owned());
            };
            self.get(digest, module, kind, inspection.p3, &says_all).await
        };
        let mut flights = self.flights();
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&flight) == 2 {
            flights.remove(digest);
        }
        result
    }

    async fn get(
        &self,
        digest: &str,
        module: &Path,
        kind: Kind,
        p3: bool,
        says: Says<'_>,
    ) -> Result<Artifact, RuntimeError> {
        if let Some(artifact) = self.known(digest) {
            return Ok(artifact);
        }
        let record = match self.cache.record(digest) {
            Some(record) => record,
            None => self.make(digest, module, kind, Flavour::of(p3), says).await?,
        };
        let artifact = Artifact {
            path: self.cache.path(digest),
            sha256: record.sha256,
            kind,
            p3,
        };
        self.all_known().insert(digest.to_owned(), artifact.clone());
        Ok(artifact)
    }

    /// From the service or by a child, into the cache.
    async fn make(
        &self,
        digest: &str,
        module: &Path,
        kind: Kind,
        flavour: Flavour,
        says: Says<'_>,
    ) -> Result<Record, RuntimeError> {
        let out = Unfinished(self.cache.path(digest).with_extension("new"));
        let _ = std::fs::remove_file(&out.0);
        let fetched = match self.by.service() {
            None => false,
            Some(service) => {
                let failed = |why: String| RuntimeError::Compile { why };
                let key = Key::new(digest, self.platform.clone()).map_err(|error| failed(error.to_string()))?;
                let kind = code_kind(kind, flavour);
                match service::fetch(&**service, &key, kind, module, &out.0, limits::SERVICE_PATIENCE, says).await {
                    Ok(()) => true,
                    Err(ServiceError::Refused(why)) => return Err(unrunnable(why)),
                    Err(ServiceError::Absent(why)) if self.by.may_compile_here() => {
                        tracing::info!(digest, why, "compiling here, the compile service cannot help");
                        let _ = std::fs::remove_file(&out.0);
                        false
                    }
                    Err(error) => return Err(failed(error.to_string())),
                }
            }
        };
        if !fetched {
            if !self.by.may_compile_here() {
                let why = NO_COMPILER.to_owned();
                return Err(RuntimeError::Compile { why });
            }
            let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
            tracing::info!(digest, "compiling a module");
            local::compile(&self.exe, module, &out.0, &self.platform).await?;
        }
        self.cache
            .keep(digest, &out.0)
            .map_err(|error| unrunnable(format!("keep the compiled module: {error}")))
    }

    /// Forgets a file that a worker found not to be what was compiled.
    pub(crate) fn discard(&self, digest: &str) {
        self.all_known().remove(digest);
        self.cache.discard(digest);
    }

    /// Removes compiled code of modules that `keep` does not want, and all of other platforms. Returns bytes freed.
    pub(crate) fn collect(&self, keep: impl Fn(&str) -> bool) -> u64 {
        let freed = self.cache.collect(&keep);
        self.all_known().retain(|digest, _| keep(digest));
        freed
    }

    fn known(&self, digest: &str) -> Option<Artifact> {
        self.all_known()
            .get(digest)
            .filter(|artifact| artifact.path.exists())
            .cloned()
    }

    fn all_known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Artifact>> {
        self.known.lock().expect("no panic happens while it is held")
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        self.flights
            .lock()
            .expect("no panic happens while the flights are held")
    }
}

/// What the code of such a module is, between the compile service and nodes.
fn code_kind(kind: Kind, flavour: Flavour) -> &'static str {
    match (kind, flavour) {
        (Kind::CoreP1, _) => "core",
        (_, Flavour::Lean) => "component",
        (_, Flavour::P3) => "component-p3",
    }
}

fn unrunnable(why: String) -> RuntimeError {
    RuntimeError::Unrunnable { why }
}

/// A file that goes when it was not taken over.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
