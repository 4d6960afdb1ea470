//! `cargo xtask guests`: builds the examples into `wasm-examples/prebuilt`, which is committed so that nobody needs a
//! guest toolchain to run or test Skiff.
//!
//! Debian's `rustc-web` knows the WebAssembly targets but ships no std for them, so std is built from its own source.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// Compiler, std source, component linker, C compiler and the C library of preview 1.
const DEBIAN_PACKAGES: [&str; 7] = [
    "rustc-web",
    "rust-web-src",
    "rust-web-llvm",
    "lld-22",
    "wasi-libc",
    "clang-22",
    "libclang-rt-22-dev-wasm32",
];
const RUSTC: &str = "/usr/bin/rustc";
/// Where that compiler keeps `wasm-component-ld`.
const LINKER_DIR: &str = "/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin";
/// Components on the full std: what `cargo build --target wasm32-wasip2` gives a user.
const COMMANDS: [&str; 3] = ["memory-hog", "spinner", "log-flooder"];
/// Preview 1 modules on the full std, adapted by the node that runs them. Debian's C library is of preview 1, and a
/// component linked against it traps when it first looks at its directories; a guest that reads files is built so.
const PREVIEW_1: [&str; 1] = ["sensor"];
/// Components without a C library: they import only what they name.
const LEAN: [&str; 1] = ["hello-http"];

pub fn run() -> Result<()> {
    if !Path::new(LINKER_DIR).join("wasm-component-ld").exists() || !shell::on_path("clang-22") {
        shell::run(Command::new("apt-get").args(["--quiet", "update"]))?;
        shell::run(
            Command::new("apt-get")
                .args(["--quiet", "install", "--yes", "--no-install-recommends"])
                .args(DEBIAN_PACKAGES),
        )?;
    }
    link_self_contained()?;
    let examples = shell::root().join("wasm-examples");
    let prebuilt = examples.join("prebuilt");
    std::fs::create_dir_all(&prebuilt).context("create the prebuilt folder")?;

    for (target, names) in [("wasm32-wasip2", &COMMANDS[..]), ("wasm32-wasip1", &PREVIEW_1[..])] {
        cargo(&examples, target, names)?;
        for name in names {
            let built = examples.join(format!("target/{target}/release/{name}.wasm"));
            std::fs::copy(&built, prebuilt.join(format!("{name}.wasm")))
                .with_context(|| format!("copy {}", built.display()))?;
        }
    }
    cargo(&examples, "wasm32-unknown-unknown", &LEAN)?;
    for name in LEAN {
        let built = examples.join(format!(
            "target/wasm32-unknown-unknown/release/{}.wasm",
            name.replace('-', "_")
        ));
        let module = std::fs::read(&built).with_context(|| format!("read {}", built.display()))?;
        let component = wit_component::ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .and_then(|mut encoder| encoder.encode())
            .with_context(|| format!("make a component of {name}"))?;
        std::fs::write(prebuilt.join(format!("{name}.wasm")), component)
            .with_context(|| format!("write {name}.wasm"))?;
    }
    shell::run(
        Command::new("clang-22")
            // Debian keeps the C library under this older name of wasm32-wasip1.
            .args([
                "--target=wasm32-wasi",
                "-Wno-deprecated",
                "-Os",
                "-Wl,--strip-all",
                "-o",
            ])
            .arg(prebuilt.join("hello-c.wasm"))
            .arg(examples.join("hello-c/hello.c")),
    )?;
    shell::run(
        Command::new("npx")
            .args(["--yes", "--package", "assemblyscript@0.28", "asc"])
            .arg(examples.join("hello-assemblyscript/hello.ts"))
            .args(["-O", "--runtime", "stub", "--use", "abort=", "-o"])
            .arg(prebuilt.join("hello-assemblyscript.wasm")),
    )
}

/// Gives rustc the start files and the C library where it looks for self-contained ones.
fn link_self_contained() -> Result<()> {
    for target in ["wasm32-wasip1", "wasm32-wasip2"] {
        let directory = Path::new("/usr/lib/rustlib").join(target).join("lib/self-contained");
        std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        for file in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
            let link = directory.join(file);
            if !link.exists() {
                std::os::unix::fs::symlink(Path::new("/usr/lib/wasm32-wasi").join(file), &link)
                    .with_context(|| format!("link {}", link.display()))?;
            }
        }
    }
    Ok(())
}

fn cargo(examples: &Path, target: &str, packages: &[&str]) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("cargo");
    command
        .current_dir(examples)
        .env("RUSTC", RUSTC)
        // -Zbuild-std on a stable compiler whose std source is of the same version.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", format!("{LINKER_DIR}:{path}"))
        .env_remove("RUSTUP_TOOLCHAIN")
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=std,panic_abort",
            "--target",
            target,
        ]);
    for package in packages {
        command.args(["--package", package]);
    }
    shell::run(&mut command)
}
