//! `cargo xtask test`: everything, or what the arguments select.

use std::process::Command;

use anyhow::Result;

use crate::shell;

/// Puts the kubectl that `setup` installed first on the PATH.
pub fn with_tools(command: &mut Command) -> &mut Command {
    let mut paths = vec![crate::setup::tools_dir()];
    paths.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    if let Ok(joined) = std::env::join_paths(paths) {
        command.env("PATH", joined);
    }
    command
}

pub fn run(arguments: &[String]) -> Result<()> {
    // The binary first: end-to-end tests start it.
    shell::run(Command::new("cargo").args(["build", "--locked", "--bin", "skiff", "--bin", "skiff-wasm-host"]))?;
    let mut nextest = Command::new("cargo");
    nextest.args(["nextest", "run", "--locked", "--no-fail-fast"]);
    if arguments.is_empty() {
        nextest.arg("--workspace");
    }
    shell::run(with_tools(nextest.args(arguments)))?;
    if !arguments.is_empty() {
        return Ok(());
    }
    // The same end-to-end suite once more, every cluster on a real etcd.
    let mut on_etcd = Command::new("cargo");
    on_etcd.args([
        "nextest",
        "run",
        "--locked",
        "--no-fail-fast",
        "--package",
        "skiff-tests",
        "--test",
        "e2e",
    ]);
    shell::run(with_tools(on_etcd.env("SKIFF_E2E_STORE", "etcd")))
}
