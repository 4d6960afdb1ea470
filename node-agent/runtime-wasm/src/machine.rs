//! For which machine code is compiled: this one's target and the CPU features that it has.
//!
//! Named as the compiler names them, but found without it: a node without a compiler must say what it can run.

use skiff_api::compiled::Platform;

/// Version of the engine and of the settings in `engine.rs`. A test compares what the engine itself makes of them with
/// what was noted for this id: whoever changes a setting or the engine raises the number.
pub(crate) const ENGINE_ID: &str = "wasmtime-48.0.8-1";

/// The engine of this program on this machine.
pub fn this_machine() -> Platform {
    let (architecture, library) = (
        std::env::consts::ARCH,
        if cfg!(target_env = "musl") { "musl" } else { "gnu" },
    );
    let target = format!("{architecture}-unknown-linux-{library}");
    let present = features().into_iter().filter(|(_, present)| *present);
    let present: Vec<String> = present.map(|(name, _)| name.to_owned()).collect();
    Platform::new(ENGINE_ID, &target, &present).expect("these are names")
}

/// Features that the compiler knows to use, and whether this CPU has them.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    use std::is_x86_feature_detected as has;
    vec![
        ("has_cmpxchg16b", has!("cmpxchg16b")),
        ("has_sse3", has!("sse3")),
        ("has_ssse3", has!("ssse3")),
        ("has_sse41", has!("sse4.1")),
        ("has_sse42", has!("sse4.2")),
        ("has_popcnt", has!("popcnt")),
        ("has_avx", has!("avx")),
        ("has_avx2", has!("avx2")),
        ("has_fma", has!("fma")),
        ("has_avx_vnni", has!("avxvnni")),
        ("has_avx512vnni", has!("avx512vnni")),
        ("has_bmi1", has!("bmi1")),
        ("has_bmi2", has!("bmi2")),
        ("has_avx512bitalg", has!("avx512bitalg")),
        ("has_avx512dq", has!("avx512dq")),
        ("has_avx512f", has!("avx512f")),
        ("has_avx512vl", has!("avx512vl")),
        ("has_avx512vbmi", has!("avx512vbmi")),
        ("has_lzcnt", has!("lzcnt")),
    ]
}

/// Features that the compiler knows to use, and whether this CPU has them.
#[cfg(target_arch = "aarch64")]
fn features() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected as has;
    vec![
        ("has_lse", has!("lse")),
        ("has_pauth", has!("paca")),
        ("has_fp16", has!("fp16")),
        ("has_dotprod", has!("dotprod")),
        ("has_i8mm", has!("i8mm")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code for this machine must use what the compiler would use by itself: pods get no slower by being compiled elsewhere.
    #[cfg(feature = "compiler")]
    #[test]
    fn the_features_are_those_that_the_compiler_finds() {
        use crate::engine::{self, Flavour};
        let native = engine::native().expect("an engine");
        let ours = engine::compiler(Flavour::Lean, &this_machine(), false).expect("an engine");
        let code = |engine: &wasmtime::Engine| engine.precompile_module(b"\0asm\x01\0\0\0").expect("compiled");
        assert_eq!(code(&native), code(&ours));
    }
}
