//! Memory: one sum per container over all memories and tables of all its instances, against `limits.memory`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use super::hits::{Hits, Limit};
use super::instances::Live;
use crate::limits;

/// The trap that ends a guest which grew over its limit.
#[derive(Debug, thiserror::Error)]
#[error("memory limit of {limit} bytes exceeded: {wanted} bytes wanted")]
pub(crate) struct MemoryExceeded {
    pub(crate) limit: u64,
    pub(crate) wanted: u64,
}

/// Shared by all instances of one container.
pub(crate) struct ContainerMemory {
    limit: u64,
    used: AtomicU64,
    hits: Arc<Hits>,
}

impl ContainerMemory {
    /// None = no limit of its own.
    pub(crate) fn new(limit: Option<u64>, hits: Arc<Hits>) -> Self {
        Self {
            limit: limit.unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
            hits,
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn charge(&self, bytes: u64) -> Result<(), MemoryExceeded> {
        let exceeded = |used: u64| {
            self.hits.count(Limit::Memory);
            MemoryExceeded {
                limit: self.limit,
                wanted: used.saturating_add(bytes),
            }
        };
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .map(|_| ())
            .map_err(exceeded)
    }
}

struct Growth {
    table: bool,
    from: u64,
    to: u64,
    bytes: u64,
}

/// The limiter of one instance. What it charged is given back when the instance goes.
pub(crate) struct InstanceMemory {
    container: Arc<ContainerMemory>,
    charged: u64,
    /// Last granted growth, taken back when the engine could not make it.
    last: Option<Growth>,
    pub(super) live: Live,
}

impl InstanceMemory {
    pub(crate) fn new(container: Arc<ContainerMemory>, live: Live) -> Self {
        Self {
            container,
            charged: 0,
            last: None,
            live,
        }
    }

    fn grow(&mut self, growth: Growth) -> wasmtime::Result<bool> {
        self.container.charge(growth.bytes)?;
        self.charged += growth.bytes;
        self.live.grew(growth.table, growth.from, growth.to);
        self.last = Some(growth);
        Ok(true)
    }

    fn take_back(&mut self) {
        let Some(growth) = self.last.take() else { return };
        self.charged -= growth.bytes;
        self.live.grew(growth.table, growth.to, growth.from);
        self.container.used.fetch_sub(growth.bytes, Ordering::Relaxed);
    }
}

impl Drop for InstanceMemory {
    fn drop(&mut self) {
        self.container.used.fetch_sub(self.charged, Ordering::Relaxed);
    }
}

impl ResourceLimiter for InstanceMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Over the module's own maximum the guest gets -1 as it expects.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(Growth {
            table: false,
            from: current as u64,
            to: desired as u64,
            bytes: desired.saturating_sub(current) as u64,
        })
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > limits::TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(Growth {
            table: true,
            from: current as u64,
            to: desired as u64,
            bytes: desired.saturating_sub(current) as u64 * limits::TABLE_ELEMENT_BYTES,
        })
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        limits::CORE_INSTANCES_PER_COMPONENT as usize
    }
    fn tables(&self) -> usize {
        limits::TABLES_PER_COMPONENT as usize
    }
    fn memories(&self) -> usize {
        limits::MEMORIES_PER_COMPONENT as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::instances::Instances;
    use super::*;

    #[test]
    fn all_instances_of_a_container_share_its_limit() {
        let container = Arc::new(ContainerMemory::new(Some(3 * 65536), Arc::default()));
        let mut first = InstanceMemory::new(container.clone(), Arc::<Instances>::default().add());
        let mut second = InstanceMemory::new(container.clone(), Arc::<Instances>::default().add());
        assert!(first.memory_growing(0, 65536, None).expect("fits"));
        assert!(second.memory_growing(0, 2 * 65536, None).expect("fits"));
        let error = first.table_growing(0, 1, None).expect_err("one element too many");
        assert!(error.downcast_ref::<MemoryExceeded>().is_some());
        assert_eq!(container.hits.get(Limit::Memory), 1);
        drop(second);
        assert_eq!(container.used(), 65536);
        assert!(first.memory_growing(65536, 3 * 65536, None).expect("room again"));
        first
            .memory_grow_failed(wasmtime::Error::msg("no slot"))
            .expect("taken back");
        first
            .memory_grow_failed(wasmtime::Error::msg("no slot"))
            .expect("taken back once");
        assert_eq!(container.used(), 65536);
        drop(first);
        assert_eq!(container.used(), 0);
    }

    #[test]
    fn a_modules_own_maximum_is_not_an_out_of_memory() {
        let mut memory = InstanceMemory::new(
            Arc::new(ContainerMemory::new(Some(10), Arc::default())),
            Arc::<Instances>::default().add(),
        );
        assert!(!memory.memory_growing(0, 65536, Some(100)).expect("refused quietly"));
    }
}
