//! The compile child: reads a module, limits itself, compiles, writes. A module is hostile input to the compiler.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit};

use skiff_api::compiled::Platform;

use super::Failure;
use crate::engine::{self, Flavour};
use crate::inspect::{Kind, inspect};
use crate::limits;
use crate::machine;

mod confine;

/// Descriptors it may have open: its input and output, and what the library opens in passing.
const OPEN_FILES: u64 = 64;
/// How much it steps back behind everything else on the node.
const NICE: i32 = 10;

pub(super) fn run(args: &[String]) -> Result<(), Failure> {
    let [module, out, target, features] = args else {
        if args == ["--platform"] {
            println!("{}", platform());
            return Ok(());
        }
        let usage = "usage: wasm-compile IN OUT TARGET FEATURES, or --platform";
        return Err(Failure::Compiler(anyhow::Error::msg(usage)));
    };
    let features: Vec<String> = features
        .split(',')
        .filter(|feature| !feature.is_empty())
        .map(str::to_owned)
        .collect();
    let platform =
        Platform::new(machine::ENGINE_ID, target, &features).map_err(|error| Failure::Platform(error.into()))?;
    let (module, mut out) = begin(module, out).map_err(Failure::Compiler)?;
    let (kind, flavour) = look(&module).map_err(Failure::Module)?;
    let engine = engine::compiler(flavour, &platform, true).map_err(|error| Failure::Platform(error.into()))?;
    let code = match kind {
        Kind::CoreP1 => engine.precompile_module(&module),
        _ => engine.precompile_component(&module),
    };
    let code = code.map_err(|error| Failure::Module(error.into()))?;
    let written = out.write_all(&code).and_then(|()| out.sync_all());
    written.context("write the output").map_err(Failure::Compiler)?;
    println!("{} {}", platform.id(), super::code_kind(kind, flavour));
    Ok(())
}

/// Takes in the module, opens the output, and gives up everything else that this process could do.
fn begin(module: &str, out: &str) -> anyhow::Result<(Vec<u8>, File)> {
    let module = std::fs::read(module).context("read the module")?;
    let out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .context("create the output")?;
    limit();
    confine::forbid().context("forbid system calls")?;
    end_with_parent();
    Ok((module, out))
}

fn look(module: &[u8]) -> anyhow::Result<(Kind, Flavour)> {
    let inspection = inspect(module)?;
    let Some(kind) = inspection.kind else {
        bail!("{}", inspection.refusal().unwrap_or_default())
    };
    Ok((kind, Flavour::of(inspection.p3)))
}

/// What this program compiles with, and for this machine, as JSON.
fn platform() -> serde_json::Value {
    let here = machine::this_machine();
    serde_json::json!({"engine": here.id(), "target": here.target(), "features": here.features()})
}

/// Ends this process when whoever started it is gone: its standard input, which nobody writes to, is then at its end.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        eprintln!("whoever asked for it is gone");
        std::process::exit(1);
    });
}

/// Memory, CPU time, file size, descriptors. A limit that cannot be set is already lower.
fn limit() {
    let _ = rustix::process::nice(NICE);
    for (resource, most) in [
        (Resource::As, limits::COMPILE_ADDRESS_SPACE),
        (Resource::Cpu, limits::COMPILE_CPU_SECONDS),
        (Resource::Fsize, limits::COMPILE_FILE_BYTES_MAX),
        (Resource::Nofile, OPEN_FILES),
        (Resource::Core, 0),
    ] {
        let _ = rustix::process::setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        );
    }
}
