//! Engine settings: what determines compiled code, and what a worker adds to run it.
//!
//! Two flavours: guests of WASI 0.2 and preview 1 run on the lean one, without the per-store state of component-model
//! async (1.6 times cheaper per request); guests of WASI 0.3 need the other. A worker makes the second one only when
//! the first such guest comes.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    WasmBacktraceDetails,
};

use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Flavour {
    Lean,
    P3,
}

impl Flavour {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::P3 => "p3",
        }
    }
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Lean, Self::P3].into_iter().find(|f| f.name() == name)
    }
}

/// The settings that compiled code depends on. Threads (about whose shared memories no limiter is asked) and garbage
/// collection are not even built in. The same in the compile child and in the workers.
fn config(flavour: Flavour) -> Config {
    let p3 = flavour == Flavour::P3;
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(limits::WASM_STACK_BYTES)
        .async_stack_size(limits::ASYNC_STACK_BYTES)
        .memory_init_cow(true)
        // Function names come from the name section; reading a hostile module's DWARF on a trap is not worth it.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_memory64(false)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(p3)
        .wasm_component_model_async(p3);
    config
}

/// An engine that only compiles and hashes.
pub(crate) fn compiler(flavour: Flavour, parallel: bool) -> wasmtime::Result<Engine> {
    let mut config = config(flavour);
    config.parallel_compilation(parallel);
    Engine::new(&config)
}

/// Identifies everything that code of this flavour depends on (engine version, settings, target, CPU features), in hex.
pub(crate) fn compatibility(flavour: Flavour) -> wasmtime::Result<String> {
    struct ShaHasher(Sha256);
    impl Hasher for ShaHasher {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let engine = compiler(flavour, false)?;
    let mut hasher = ShaHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Ok(hex(&hasher.0.finalize()[..16]))
}

/// An engine that runs guests, with a pool of `slots` instances.
pub(crate) fn guests(flavour: Flavour, slots: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(4))
        .total_memories(slots + slots / 4)
        .total_tables(slots.saturating_mul(3))
        .total_stacks(slots)
        .max_core_instances_per_component(limits::CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(limits::MEMORIES_PER_COMPONENT)
        .max_tables_per_component(limits::TABLES_PER_COMPONENT)
        .max_memories_per_module(limits::MEMORIES_PER_COMPONENT)
        .max_tables_per_module(limits::TABLES_PER_COMPONENT)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(limits::TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(limits::KEEP_RESIDENT_MEMORY)
        .table_keep_resident(limits::KEEP_RESIDENT_TABLE)
        .async_stack_keep_resident(limits::KEEP_RESIDENT_STACK)
        .pagemap_scan(Enabled::Auto);
    let mut config = config(flavour);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Slots that the kernel's limit on memory maps allows, at most `wanted`.
pub(crate) fn slots(wanted: u32) -> u32 {
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(65_530);
    wanted
        .min(maps.saturating_sub(limits::MAPS_RESERVED) / limits::MAPS_PER_SLOT)
        .max(16)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flavours_compile_differently_and_stably() {
        let lean = compatibility(Flavour::Lean).expect("hash");
        assert_eq!(lean, compatibility(Flavour::Lean).expect("hash"));
        assert_ne!(lean, compatibility(Flavour::P3).expect("hash"));
    }

    #[test]
    fn there_are_slots_whatever_the_kernel_allows() {
        assert!(slots(100) <= 100 && slots(0) >= 16);
    }
}
