//! The compile child: reads a module, limits itself, compiles, writes. A module is hostile input to the compiler.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

use crate::engine::{self, Flavour};
use crate::limits;

/// Descriptors it may have open: its input and output, and what the library opens in passing.
const OPEN_FILES: u64 = 64;
/// How much it steps back behind everything else on the node.
const NICE: i32 = 10;

pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    let [module, out, flavour, shape] = args else {
        bail!("usage: wasm-compile IN OUT lean|p3 core|component");
    };
    let Some(flavour) = Flavour::parse(flavour) else {
        bail!("no such flavour: {flavour}")
    };
    let module = std::fs::read(module).context("read the module")?;
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .context("create the output")?;
    limit();
    forbid().context("forbid system calls")?;
    let engine = engine::compiler(flavour, true)?;
    let code = match shape.as_str() {
        "core" => engine.precompile_module(&module)?,
        "component" => engine.precompile_component(&module)?,
        other => bail!("no such shape: {other}"),
    };
    out.write_all(&code).context("write the output")?;
    out.sync_all().context("write the output")
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
