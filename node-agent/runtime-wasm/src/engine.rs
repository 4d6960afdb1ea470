//! Engine settings: what determines compiled code, and what a worker adds to run it.
//!
//! Two flavours: guests of WASI 0.2 and preview 1 run on the lean one, without the per-store state of component-model
//! async (1.6 times cheaper per request); guests of WASI 0.3 need the other. A worker makes the second one only when
//! the first such guest comes.

use serde::{Deserialize, Serialize};
#[cfg(feature = "compiler")]
use skiff_api::compiled::Platform;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

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
    /// The one that a module runs on.
    pub(crate) fn of(p3: bool) -> Self {
        if p3 { Self::P3 } else { Self::Lean }
    }
}

/// The settings that compiled code depends on. Threads (about whose shared memories no limiter is asked) and garbage
/// collection are not even built in. The same in the compile child and in the workers.
fn config(flavour: Flavour) -> Config {
    let p3 = flavour == Flavour::P3;
    let mut config = Config::new();
    #[cfg(feature = "compiler")]
    config
        .strategy(wasmtime::Strategy::Cranelift)
        .cranelift_opt_level(wasmtime::OptLevel::Speed);
    config
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

/// An engine that only compiles, for this platform. Errors: a target or CPU feature that the compiler does not know.
#[cfg(feature = "compiler")]
pub(crate) fn compiler(flavour: Flavour, platform: &Platform, parallel: bool) -> wasmtime::Result<Engine> {
    let mut config = config(flavour);
    config.target(platform.target())?;
    for feature in platform.features() {
        #[expect(
            unsafe_code,
            reason = "only CPU features are named so, and an engine loads no code that uses one its CPU lacks"
        )]
        // SAFETY: as the reason says; the code is not run in this process.
        unsafe {
            config.cranelift_flag_enable(feature);
        }
    }
    config.parallel_compilation(parallel);
    Engine::new(&config)
}

/// What the compiler makes of this machine by itself.
#[cfg(all(test, feature = "compiler"))]
pub(crate) fn native() -> wasmtime::Result<Engine> {
    Engine::new(&config(Flavour::Lean))
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

    /// What the engine says code depends on, for one fixed target.
    #[cfg(feature = "compiler")]
    fn compatibility(flavour: Flavour) -> String {
        use sha2::{Digest, Sha256};
        use std::hash::{Hash, Hasher};
        struct ShaHasher(Sha256);
        impl Hasher for ShaHasher {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                0
            }
        }
        let platform = Platform::new(crate::machine::ENGINE_ID, "x86_64-unknown-linux-gnu", &[]).expect("names");
        let engine = compiler(flavour, &platform, false).expect("an engine");
        let mut hasher = ShaHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hex(&hasher.0.finalize()[..8])
    }

    /// If this fails, code made before is not what this engine makes: raise the number in `machine::ENGINE_ID` and note
    /// the new hashes here. Nodes then ask for code anew.
    #[cfg(all(feature = "compiler", target_arch = "x86_64"))]
    #[test]
    fn the_engines_id_stands_for_its_settings() {
        let found = (
            crate::machine::ENGINE_ID,
            compatibility(Flavour::Lean),
            compatibility(Flavour::P3),
        );
        expect_test::expect![[r#"
            (
                "wasmtime-48.0.8-1",
                "2ed858166360e1ef",
                "c8cecc3073a4d6e3",
            )
        "#]]
        .assert_debug_eq(&found);
    }

    #[test]
    fn there_are_slots_whatever_the_kernel_allows() {
        assert!(slots(100) <= 100 && slots(0) >= 16);
    }
}
