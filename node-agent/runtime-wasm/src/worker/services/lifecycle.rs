//! `skiff:pod/lifecycle` and `skiff:pod/readiness`: the guest is told of the container's end, and tells whether it is ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wasmtime::component::Component;

use super::Services;
use super::pod::skiff::pod::{lifecycle, readiness};

pub(crate) struct Lifecycle {
    draining: CancellationToken,
    /// The guest has looked: it can learn of a stop.
    heeded: AtomicBool,
    ready: AtomicBool,
}

impl Lifecycle {
    pub(super) fn new(ready: bool) -> Self {
        Self {
            draining: CancellationToken::new(),
            heeded: AtomicBool::new(false),
            ready: AtomicBool::new(ready),
        }
    }

    /// The container was asked to stop.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// True once the guest has looked whether it drains, so that waiting for it has a point.
    pub(crate) fn is_heeded(&self) -> bool {
        self.heeded.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// True if it was otherwise before.
    fn set_ready(&self, ready: bool) -> bool {
        self.ready.swap(ready, Ordering::Relaxed) != ready
    }

    fn look(&self) -> bool {
        self.heeded.store(true, Ordering::Relaxed);
        self.draining.is_cancelled()
    }
}

impl lifecycle::Host for &Services {
    fn draining(&mut self) -> bool {
        self.lifecycle.look()
    }

    async fn wait_draining(&mut self, timeout_ms: u64) -> bool {
        self.lifecycle.look();
        let draining = self.lifecycle.draining.cancelled();
        tokio::time::timeout(Duration::from_millis(timeout_ms), draining)
            .await
            .is_ok()
    }
}

impl readiness::Host for &Services {
    fn set_ready(&mut self, ready: bool) {
        if self.lifecycle.set_ready(ready) {
            self.changes.pod(&self.sandbox.pod_uid);
        }
    }
}

/// True if the component tells itself when it is ready.
pub(crate) fn tells_readiness(component: &Component) -> bool {
    let engine = component.engine();
    let of_component = component.component_type();
    let mut imports = of_component.imports(engine);
    imports.any(|(name, _)| name.starts_with("skiff:pod/readiness@"))
}
