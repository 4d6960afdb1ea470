//! Compiled code as loaded by this worker: mapped, linked and checked once per digest, kept while a container uses it.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, Weak};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, InstancePre, Module};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::guest::{self, CoreGuest, CoreLinker, Guest, Linker};
use super::services::lifecycle;
use super::ticker::ticker;
use crate::engine::{self, Flavour};
use crate::inspect::Kind;
use crate::limits;
use crate::protocol::{Artifact, PoolUsage, WireError};

/// A module ready to be instantiated.
pub(crate) enum Program {
    Core(InstancePre<CoreGuest>),
    Command(CommandPre<Guest>),
    CommandP3(wasmtime_wasi::p3::bindings::CommandPre<Guest>),
    Http(ProxyPre<Guest>),
    HttpP3(ServicePre<Guest>),
}

impl Program {
    /// A command that tells itself when it is ready.
    pub(crate) fn tells_readiness(&self) -> bool {
        match self {
            Self::Command(pre) => lifecycle::tells_readiness(pre.instance_pre().component()),
            Self::CommandP3(pre) => lifecycle::tells_readiness(pre.instance_pre().component()),
            Self::Core(_) | Self::Http(_) | Self::HttpP3(_) => false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the compiled code on disk is not what was compiled")]
struct Damaged;

struct Runner {
    engine: Engine,
    slots: u32,
    linker: Linker,
    core_linker: CoreLinker,
}

impl Runner {
    fn new(flavour: Flavour, slots: u32) -> wasmtime::Result<Self> {
        let slots = engine::slots(match flavour {
            Flavour::Lean => slots,
            Flavour::P3 => slots.min(limits::POOL_SLOTS_P3),
        });
        let engine = engine::guests(flavour, slots)?;
        ticker().add(&engine).map_err(wasmtime::Error::from)?;
        let linker = guest::linker(&engine, flavour == Flavour::P3)?;
        let core_linker = guest::core_linker(&engine)?;
        Ok(Self {
            engine,
            slots,
            linker,
            core_linker,
        })
    }
}

/// The engines of this worker and what they have loaded.
pub(crate) struct Programs {
    slots: u32,
    runners: Mutex<HashMap<Flavour, Arc<Runner>>>,
    loaded: Mutex<HashMap<String, Weak<Program>>>,
}

impl Programs {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots,
            runners: Mutex::default(),
            loaded: Mutex::default(),
        }
    }

    /// The program of this artifact if some container uses it already.
    pub(crate) fn loaded(&self, artifact: &Artifact) -> Option<Arc<Program>> {
        self.loaded
            .lock()
            .expect("no panic happens while the programs are held")
            .get(&artifact.sha256)?
            .upgrade()
    }

    /// Loads and links. Errors: not what the agent vouched for, or an import that the linker lacks.
    pub(crate) fn load(&self, artifact: &Artifact) -> Result<Arc<Program>, WireError> {
        let refused = |error: wasmtime::Error| match error.is::<Damaged>() {
            true => WireError::Damaged(error.to_string()),
            false => WireError::Unrunnable(first_line(&error)),
        };
        let program = Arc::new(self.open(artifact).map_err(refused)?);
        let mut loaded = self
            .loaded
            .lock()
            .expect("no panic happens while the programs are held");
        loaded.retain(|_, program| program.strong_count() > 0);
        loaded.insert(artifact.sha256.clone(), Arc::downgrade(&program));
        Ok(program)
    }

    fn runner(&self, flavour: Flavour) -> wasmtime::Result<Arc<Runner>> {
        let mut runners = self
            .runners
            .lock()
            .expect("no panic happens while the engines are held");
        if let Some(runner) = runners.get(&flavour) {
            return Ok(runner.clone());
        }
        let runner = Arc::new(Runner::new(flavour, self.slots)?);
        runners.insert(flavour, runner.clone());
        Ok(runner)
    }

    /// What is taken of each engine's pool.
    pub(crate) fn pools(&self) -> Vec<PoolUsage> {
        let runners = self
            .runners
            .lock()
            .expect("no panic happens while the engines are held");
        let pool = |(flavour, runner): (&Flavour, &Arc<Runner>)| {
            let metrics = runner.engine.pooling_allocator_metrics()?;
            Some(PoolUsage {
                flavour: *flavour,
                slots: u64::from(runner.slots),
                instances: metrics.component_instances(),
                core_instances: metrics.core_instances(),
                memories: metrics.memories() as u64,
                tables: metrics.tables() as u64,
                stacks: metrics.stacks() as u64,
                warm_memories: u64::from(metrics.unused_warm_memories()),
                warm_bytes: (metrics.unused_memory_bytes_resident()
                    + metrics.unused_table_bytes_resident()
                    + metrics.unused_stack_bytes_resident().unwrap_or(0)) as u64,
            })
        };
        runners.iter().filter_map(pool).collect()
    }

    fn open(&self, artifact: &Artifact) -> wasmtime::Result<Program> {
        let runner = self.runner(Flavour::of(artifact.p3))?;
        let mut file = std::fs::File::open(&artifact.path)?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut file, &mut hasher)?;
        if engine::hex(&hasher.finalize()) != artifact.sha256 {
            return Err(Damaged.into());
        }
        // The same open file that was checked, not whatever the path names by now.
        let checked = format!("/proc/self/fd/{}", file.as_raw_fd());
        let Runner {
            engine,
            linker,
            core_linker,
            ..
        } = &*runner;
        #[expect(
            unsafe_code,
            reason = "the agent compiled this file itself and vouches for its sha256, checked above"
        )]
        let (module, component) = unsafe {
            match artifact.kind {
                Kind::CoreP1 => (Some(Module::deserialize_file(engine, checked)?), None),
                _ => (None, Some(Component::deserialize_file(engine, checked)?)),
            }
        };
        if let Some(module) = module {
            return Ok(Program::Core(core_linker.instantiate_pre(&module)?));
        }
        let component = component.ok_or_else(|| wasmtime::Error::msg("neither a module nor a component"))?;
        // Off the start path: the memory image that instances share copy-on-write.
        component.initialize_copy_on_write_image()?;
        let pre = linker.instantiate_pre(&component)?;
        Ok(match artifact.kind {
            Kind::CoreP1 | Kind::CliComponent => Program::Command(CommandPre::new(pre)?),
            Kind::CliComponentP3 => Program::CommandP3(wasmtime_wasi::p3::bindings::CommandPre::new(pre)?),
            Kind::HttpComponent => Program::Http(ProxyPre::new(pre)?),
            Kind::HttpComponentP3 => Program::HttpP3(ServicePre::new(pre)?),
        })
    }
}

/// An error and its causes in one line.
pub(crate) fn first_line(error: &wasmtime::Error) -> String {
    format!("{error:#}")
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
}
