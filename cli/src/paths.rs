//! Where things lie by default.

use std::path::PathBuf;

/// `SKIFF_DATA_DIR`, else `/var/lib/skiff` for root, else `~/.skiff`.
pub fn default_data_dir() -> PathBuf {
    if let Some(path) = std::env::var_os("SKIFF_DATA_DIR") {
        return PathBuf::from(path);
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/skiff");
    }
    home().join(".skiff")
}

/// The kubeconfig that `skiff up` and `skiff server` write by default.
pub fn default_kubeconfig() -> PathBuf {
    default_data_dir().join("kubeconfig")
}

pub fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// This machine's name as a node name: lower case, only what a DNS name may hold.
pub fn host_name() -> String {
    let raw = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = raw
        .trim()
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}
