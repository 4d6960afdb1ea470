//! Who may depend on whom. The table of ARCHITECTURE.md as data, checked against every Cargo.toml.

use std::path::Path;

use anyhow::{Context, Result};

/// (crate's directory, our crates that it may use, crates that it must not use).
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("api", &[], IO),
    ("control-plane/controllers", &["skiff-api"], IO),
    ("control-plane/scheduler", &["skiff-api"], IO),
    ("node-agent/lifecycle", &["skiff-api"], IO),
    ("control-plane/store", &["skiff-api"], &["wasmtime", "kube", "hyper"]),
    (
        "node-agent/runtime",
        &["skiff-api"],
        &["wasmtime", "kube", "etcd-client", "hyper"],
    ),
    (
        "control-plane/apiserver",
        &["skiff-api", "skiff-store"],
        &["wasmtime", "kube", "etcd-client"],
    ),
    (
        "control-plane/manager",
        &["skiff-api", "skiff-controllers", "skiff-scheduler"],
        &["wasmtime", "etcd-client", "redb"],
    ),
    (
        "node-agent/agent",
        &["skiff-api", "skiff-lifecycle", "skiff-runtime", "skiff-network"],
        &["wasmtime", "etcd-client", "redb"],
    ),
    (
        "node-agent/network",
        &["skiff-api"],
        &["wasmtime", "etcd-client", "kube", "redb"],
    ),
    (
        "node-agent/runtime-wasm",
        &["skiff-api", "skiff-runtime"],
        // redb: buckets of guests (`wasi:keyvalue`) must survive any crash, and writing a store for that is no small thing.
        &["etcd-client", "kube"],
    ),
    (
        "control-plane",
        &["skiff-api", "skiff-store", "skiff-apiserver", "skiff-manager"],
        &["wasmtime", "etcd-client", "redb"],
    ),
    (
        "node-agent",
        &[
            "skiff-api",
            "skiff-agent",
            "skiff-runtime",
            "skiff-runtime-wasm",
            "skiff-network",
        ],
        &["wasmtime", "etcd-client", "redb"],
    ),
];

/// What a pure crate never touches.
const IO: &[&str] = &[
    "tokio",
    "kube",
    "hyper",
    "tracing",
    "wasmtime",
    "etcd-client",
    "redb",
    "rustix",
    "uuid",
    "rand",
];

pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for (directory, allowed, forbidden) in LAYERS {
        let path = root.join(directory).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let manifest: toml::Table = text.parse().with_context(|| format!("parse {}", path.display()))?;
        let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) else {
            continue;
        };
        for name in dependencies.keys() {
            if name.starts_with("skiff-") && !allowed.contains(&name.as_str()) {
                complaints.push(format!(
                    "{directory}/Cargo.toml: may not use {name} (layer table in xtask/src/tidy/layers.rs)"
                ));
            }
            if forbidden.contains(&name.as_str()) {
                complaints.push(format!("{directory}/Cargo.toml: must never use {name}"));
            }
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_crate_that_takes_tokio_is_found() {
        let root = std::env::temp_dir().join(format!("skiff-tidy-{}", std::process::id()));
        for (directory, _, _) in LAYERS {
            std::fs::create_dir_all(root.join(directory)).unwrap();
            std::fs::write(root.join(directory).join("Cargo.toml"), "[dependencies]\n").unwrap();
        }
        std::fs::write(
            root.join("api/Cargo.toml"),
            "[dependencies]\ntokio = \"1\"\nskiff-store = {}\n",
        )
        .unwrap();
        let complaints = check(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }
}
