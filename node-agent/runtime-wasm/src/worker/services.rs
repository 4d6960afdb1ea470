//! What a container's guests may import beyond WASI's core (`wit/`): one place that all its instances share, so that an
//! instance that imports none of it costs one counted reference.

use std::sync::Arc;

use skiff_runtime::{ContainerSpec, SandboxSpec};
use wasmtime::component::HasData;

use super::Changes;
use super::cpu::CpuMeter;
use super::guest::{Guest, Linker};
use super::keyvalue::{Buckets, Quota};
use super::logs::ContainerLog;
use super::memory::ContainerMemory;
use lifecycle::Lifecycle;

mod config;
mod identity;
pub(super) mod keyvalue;
pub(crate) mod lifecycle;
mod logging;
mod resources;

/// The bindings of `wit/skiff-pod`.
mod pod {
    wasmtime::component::bindgen!({
        path: "../../wit/skiff-pod",
        world: "pod",
        imports: { "skiff:pod/lifecycle.wait-draining": async },
    });
}

/// One container's services.
pub(crate) struct Services {
    pub(super) sandbox: Arc<SandboxSpec>,
    container: String,
    /// Sorted by key.
    config: Vec<(String, String)>,
    limits: skiff_runtime::Resources,
    log: Arc<ContainerLog>,
    cpu: Arc<CpuMeter>,
    memory: Arc<ContainerMemory>,
    changes: Changes,
    pub(super) buckets: Arc<Buckets>,
    pub(super) quota: Quota,
    pub(crate) lifecycle: Lifecycle,
}

/// What the containers of a namespace share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(super) changes: Changes,
    pub(super) buckets: Arc<Buckets>,
}

/// What services are made of.
pub(crate) struct Parts {
    pub(crate) sandbox: Arc<SandboxSpec>,
    pub(crate) log: Arc<ContainerLog>,
    pub(crate) cpu: Arc<CpuMeter>,
    pub(crate) memory: Arc<ContainerMemory>,
    pub(crate) shared: Shared,
    pub(crate) quota: Quota,
    /// Ready from the start on, before the guest says anything.
    pub(crate) ready: bool,
}

impl Services {
    pub(crate) fn new(spec: &ContainerSpec, parts: Parts) -> Self {
        let mut config = spec.config.clone();
        config.sort();
        Self {
            sandbox: parts.sandbox,
            container: spec.name.clone(),
            config,
            limits: spec.resources.clone(),
            log: parts.log,
            cpu: parts.cpu,
            memory: parts.memory,
            changes: parts.shared.changes,
            buckets: parts.shared.buckets,
            quota: parts.quota,
            lifecycle: Lifecycle::new(parts.ready),
        }
    }
}

struct HasServices;

impl HasData for HasServices {
    type Data<'a> = &'a Services;
}

/// Provides every interface to the components of this linker.
pub(crate) fn add_to_linker(linker: &mut Linker) -> wasmtime::Result<()> {
    pod::Pod::add_to_linker::<Guest, HasServices>(linker, Guest::services)?;
    config::add_to_linker(linker)?;
    keyvalue::add_to_linker(linker)?;
    logging::add_to_linker(linker)
}
