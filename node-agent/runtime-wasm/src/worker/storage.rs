//! Ephemeral storage: bytes in a container's writable mounts and logs, measured while it runs, against
//! `limits.ephemeral-storage`. Over it the container is ended, as kubelet evicts; kubelet looks every ten seconds.

use std::path::Path;
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
    let writable: Vec<_> = surroundings
        .spec
        .mounts
        .iter()
        .filter(|m| !m.read_only)
        .map(|m| m.host_path.clone())
        .collect();
    loop {
        tokio::time::sleep(MEASURE_INTERVAL).await;
        let mounts = writable.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let mut left = ENTRIES_MAX;
            mounts
                .iter()
                .map(|path| bytes_in(path, &mut left))
                .fold(0, u64::saturating_add)
        });
        let used = measured.await.unwrap_or(0).saturating_add(surroundings.log.bytes());
        if used > limit {
            return Exit::evicted(limit);
        }
    }
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
