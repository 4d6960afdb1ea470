//! What the machine is and has: for the Node's capacity and nodeInfo, and how short of memory or disk it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{AgentConfig, KUBELET_VERSION};
use crate::eviction::EvictionHard;

pub(crate) struct Machine {
    pub(crate) architecture: String,
    pub(crate) capacity: BTreeMap<&'static str, String>,
    pub(crate) allocatable: BTreeMap<&'static str, String>,
    /// `status.nodeInfo`
    pub(crate) info: Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
}

pub(crate) fn describe(config: &AgentConfig) -> Machine {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64gc" => "riscv64",
        other => other,
    }
    .to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let pods = config.max_pods.to_string();
    let memory = memory_bytes("MemTotal").unwrap_or(0);
    let disk = disk_bytes(&config.data_dir).map_or(0, |(total, _)| total);
    let capacity = [
        ("cpu", cpus.clone()),
        ("memory", format!("{}Ki", memory / 1024)),
        ("ephemeral-storage", format!("{}Ki", disk / 1024)),
        ("pods", pods.clone()),
    ];
    let allocatable = [
        ("cpu", cpus),
        (
            "memory",
            format!(
                "{}Ki",
                (memory - config.eviction_hard.memory_available.of(memory)) / 1024
            ),
        ),
        (
            "ephemeral-storage",
            (disk - config.eviction_hard.nodefs_available.of(disk)).to_string(),
        ),
        ("pods", pods),
    ];
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let machine_id = line("/etc/machine-id");
    // Virtual machines and small boards may have no UUID of their own.
    let system_uuid = Some(line("/sys/class/dmi/id/product_uuid")).filter(|uuid| !uuid.is_empty());
    let info = json!({
        "systemUUID": system_uuid.unwrap_or_else(|| machine_id.clone()),
        "machineID": machine_id,
        "bootID": line("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": line("/proc/sys/kernel/osrelease"),
        "osImage": os_image(),
        "containerRuntimeVersion": config.container_runtime_version,
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture,
    });
    Machine {
        architecture,
        capacity: capacity.into(),
        allocatable: allocatable.into(),
        info,
    }
}

pub(crate) fn pressure(config: &AgentConfig) -> Pressure {
    let EvictionHard {
        memory_available,
        nodefs_available,
    } = config.eviction_hard;
    let memory = memory_bytes("MemTotal").zip(memory_bytes("MemAvailable"));
    Pressure {
        memory: memory.is_some_and(|(total, available)| available < memory_available.of(total)),
        disk: disk_bytes(&config.data_dir).is_some_and(|(total, free)| free < nodefs_available.of(total)),
    }
}

fn memory_bytes(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Total and available bytes of the disk that holds this directory.
pub(crate) fn disk_bytes(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}
