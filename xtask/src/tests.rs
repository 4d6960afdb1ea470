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

/// The end-to-end suite with programs that cannot compile, but for the child of the compile service.
pub fn run_without_compiler(arguments: &[String]) -> Result<()> {
    let directory = shell::root().join("target/no-compiler");
    std::fs::create_dir_all(&directory)?;
    let built = shell::root().join("target/debug/skiff");
    let build = |flags: &[&str], name: &str| {
        shell::run(
            Command::new("cargo")
                .args(["build", "--locked", "--package", "skiff"])
                .args(flags),
        )?;
        let copy = directory.join(name);
        // One that still runs must not be written to.
        let _ = std::fs::remove_file(&copy);
        std::fs::copy(&built, &copy)?;
        Ok::<_, anyhow::Error>(copy)
    };
    let bare = build(&["--no-default-features"], "skiff")?;
    // Last, so that what other tests find is the whole program.
    let compiler = build(&[], "compiler")?;
    let mut nextest = Command::new("cargo");
    nextest.args(["nextest", "run", "--locked", "--no-fail-fast"]);
    nextest
        .args(["--package", "skiff-tests", "--test", "e2e"])
        .args(arguments);
    nextest.env("SKIFF_BIN", bare).env("SKIFF_COMPILER", compiler);
    shell::run(with_tools(&mut nextest))
}
