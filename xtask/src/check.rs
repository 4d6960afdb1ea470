//! `cargo xtask check`: what must hold before a commit.

use std::process::Command;

use anyhow::Result;

use crate::{shell, tidy};

pub fn run() -> Result<()> {
    shell::run(Command::new("cargo").args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    shell::run(Command::new("cargo").args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ]))?;
    // Nodes may be built without the compiler.
    shell::run(Command::new("cargo").args([
        "clippy",
        "--package",
        "skiff",
        "--no-default-features",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ]))
}
