//! The compile child: reads a module, limits itself, compiles, writes. A module is hostile input to the compiler.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

use skiff_api::compiled::Platform;

use crate::engine::{self, Flavour};
use crate::inspect::{Kind, inspect};
use crate::limits;
use crate::machine;

/// Descriptors it may have open: its input and output, and what the library opens in passing.
const OPEN_FILES: u64 = 64;
/// How much it steps back behind everything else on the node.
const NICE: i32 = 10;

pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    let [module, out, target, features] = args else {
        if args == ["--platform"] {
            println!("{}", platform());
            return Ok(());
        }
        bail!("usage: wasm-compile IN OUT TARGET FEATURES, or --platform");
    };
    let features: Vec<String> = features
        .split(',')
        .filter(|feature| !feature.is_empty())
        .map(str::to_owned)
        .collect();
    let platform = Platform::new(machine::ENGINE_ID, target, &features)?;
    let module = std::fs::read(module).context("read the module")?;
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .context("create the output")?;
    limit();
    forbid().context("forbid system calls")?;
    end_with_parent();
    let inspection = inspect(&module)?;
    let Some(kind) = inspection.kind else {
        bail!("{}", inspection.refusal().unwrap_or_default())
    };
    let flavour = Flavour::of(inspection.p3);
    let engine = engine::compiler(flavour, &platform, true)?;
    let code = match kind {
        Kind::CoreP1 => engine.precompile_module(&module)?,
        _ => engine.precompile_component(&module)?,
    };
    out.write_all(&code).context("write the output")?;
    out.sync_all().context("write the output")?;
    println!("{}", super::code_kind(kind, flavour));
    Ok(())
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

/// No network, no other programs, no other processes. Holds for the threads that start afterwards.
fn forbid() -> anyhow::Result<()> {
    const FORBIDDEN: &[libc::c_long] = &[
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_keyctl,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
    ];
    let rules: BTreeMap<_, _> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}
