//! Garbage: blobs that no manifest of any repository refers to, and uploads that nobody goes on with.
//!
//! A push makes blobs first and the manifest last, so what is young is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use skiff_api::object::{list_at, str_at};
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::listing::repositories;
use super::storage::{Storage, names_in, remove};

/// Blobs without a manifest live this long.
const BLOB_GRACE: Duration = Duration::from_secs(2 * 3600);
/// An upload without a new byte for this long is given up.
const UPLOAD_GRACE: Duration = Duration::from_secs(24 * 3600);
const INTERVAL: Duration = Duration::from_secs(3600);

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: usize,
    pub bytes: u64,
    pub uploads: usize,
}

impl Registry {
    /// Removes garbage as of `now`. Pushes wait meanwhile, pulls do not.
    pub async fn collect(self: &Arc<Self>, now: SystemTime) -> std::io::Result<Collected> {
        let registry = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _guard = registry.storage.collecting.blocking_write();
            collect(&registry.storage, now)
        })
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// Collects garbage every hour until `shutdown`.
    pub async fn collect_regularly(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.collect(SystemTime::now()).await {
                Ok(Collected { blobs, bytes, uploads }) if blobs + uploads > 0 => {
                    tracing::info!(blobs, bytes, uploads, "registry garbage removed");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "registry garbage was not removed"),
            }
        }
    }
}

fn collect(storage: &Storage, now: SystemTime) -> std::io::Result<Collected> {
    let mut collected = Collected::default();
    let mut kept = BTreeSet::new();
    for name in all_repositories(storage)? {
        collect_links(storage, &name, now, &mut kept)?;
    }
    for shard in names_in(&storage.blobs_directory())? {
        let shard = storage.blobs_directory().join(shard);
        for blob in names_in(&shard)? {
            let path = shard.join(&blob);
            if !kept.contains(&blob) && is_older(&path, now, BLOB_GRACE) {
                collected.bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                collected.blobs += usize::from(remove(&path)?);
            }
        }
    }
    for id in names_in(&storage.uploads_directory())? {
        if is_older(&storage.upload_data(&id), now, UPLOAD_GRACE) {
            storage.end_upload(&id)?;
            collected.uploads += 1;
        }
    }
    Ok(collected)
}

/// Repositories with manifests, and those that have only got blobs so far.
fn all_repositories(storage: &Storage) -> std::io::Result<BTreeSet<String>> {
    let mut names = repositories(storage)?;
    let root = storage.repositories_directory();
    let mut directories = vec![(root, String::new())];
    while let Some((directory, name)) = directories.pop() {
        for entry in names_in(&directory)? {
            if entry == "_blobs" {
                names.insert(name.clone());
            } else if !entry.starts_with('_') {
                let nested = if name.is_empty() {
                    entry.clone()
                } else {
                    format!("{name}/{entry}")
                };
                directories.push((directory.join(&entry), nested));
            }
        }
    }
    Ok(names)
}

/// Removes a repository's links to blobs that none of its manifests needs; adds all that stay to `kept`.
fn collect_links(storage: &Storage, name: &str, now: SystemTime, kept: &mut BTreeSet<String>) -> std::io::Result<()> {
    let repository = storage.repository(name);
    let mut needed = BTreeSet::new();
    for hex in names_in(&repository.join("_manifests"))? {
        let content = fs::read(storage.blobs_directory().join(&hex[..2.min(hex.len())]).join(&hex));
        if let Some(manifest) = content
            .ok()
            .and_then(|content| serde_json::from_slice::<Value>(&content).ok())
        {
            needed.extend(referred(&manifest));
        }
        needed.insert(hex);
    }
    for hex in names_in(&repository.join("_blobs"))? {
        let link = repository.join("_blobs").join(&hex);
        if !needed.contains(&hex) && is_older(&link, now, BLOB_GRACE) {
            remove(&link)?;
        } else {
            needed.insert(hex);
        }
    }
    kept.extend(needed);
    Ok(())
}

/// Hex digests of everything that a manifest names.
fn referred(manifest: &Value) -> impl Iterator<Item = String> {
    let lists = ["/layers", "/manifests", "/blobs"]
        .into_iter()
        .flat_map(|pointer| list_at(manifest, pointer));
    let descriptors = manifest.get("config").into_iter().chain(lists);
    descriptors.filter_map(|d| str_at(d, "/digest").strip_prefix("sha256:").map(str::to_owned))
}

/// Whether a file was last written longer than `age` ago; one that cannot be looked at is young.
fn is_older(path: &Path, now: SystemTime, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|elapsed| elapsed > age))
}
