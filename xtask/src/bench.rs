//! `cargo xtask bench`: builds `skiff` and the benchmarks with optimisation and runs them.

use std::process::Command;

use anyhow::Result;

use crate::shell;

/// `what`: `api`, `store`, `pods`, `http`, `footprint` or `all`.
pub fn run(what: &str) -> Result<()> {
    let build = [
        "build",
        "--release",
        "--locked",
        "--bin",
        "skiff",
        "--bin",
        "skiff-bench",
    ];
    shell::run(Command::new("cargo").args(build))?;
    let built = shell::root().join("target/release");
    let mut command = Command::new(built.join("skiff-bench"));
    command.arg(what).env("SKIFF_BIN", built.join("skiff"));
    shell::run(crate::tests::with_tools(&mut command))
}
