//! Ephemeral storage: bytes in a container's writable mounts and logs, measured while it runs, against
//! `limits.ephemeral-storage`. Over it the container is ended, as kubelet evicts; kubelet looks every ten seconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exit::Exit;
use super::guest::Surroundings;

/// How often a limited container is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// Entries looked at in one measurement; a tree with more is taken to be over any limit.
const ENTRIES_MAX: usize = 100_000;

/// Ends when the container is over its limit; never without one.
pub(crate) async fn watch(surroundings: &Surroundings) -> Exit {
    let Some(limit) = surroundings.spec.resources.ephemeral_storage_limit_bytes else {
        return std::future::pending().await;
    };
    let writable = writable(surroundings);
    loop {
        tokio::time::sleep(MEASURE_INTERVAL).await;
        let mounts = writable.clone();
        let measured = tokio::task::spawn_blocking(move || sum(&mounts));
        let used = measured.await.unwrap_or(0).saturating_add(surroundings.log.bytes());
        if used > limit {
            return Exit::evicted(limit);
        }
    }
}

/// Bytes in use now. Blocks.
pub(crate) fn used(surroundings: &Surroundings) -> u64 {
    sum(&writable(surroundings)).saturating_add(surroundings.log.bytes())
}

fn writable(surroundings: &Surroundings) -> Vec<PathBuf> {
    let mounts = surroundings.spec.mounts.iter().filter(|mount| !mount.read_only);
    mounts.map(|mount| mount.host_path.clone()).collect()
}

fn sum(directories: &[PathBuf]) -> u64 {
    let mut left = ENTRIES_MAX;
    let sizes = directories.iter().map(|path| bytes_in(path, &mut left));
    sizes.fold(0, u64::saturating_add)
}

/// Bytes allocated under a directory, links not followed.
fn bytes_in(directory: &Path, left: &mut usize) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let mut sum = 0_u64;
    for entry in entries.flatten() {
        if *left == 0 {
            return u64::MAX;
        }
        *left -= 1;
        let Ok(metadata) = entry.metadata() else { continue };
        sum = sum.saturating_add(metadata.blocks() * 512);
        if metadata.is_dir() {
            sum = sum.saturating_add(bytes_in(&entry.path(), left));
        }
    }
    sum
}
