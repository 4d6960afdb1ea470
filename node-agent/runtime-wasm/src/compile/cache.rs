//! Compiled code on this node's disk: `<data_dir>/compiled/<platform>/<module digest>.cwasm` with a record beside it.
//!
//! The record's MAC is made with a key of this node, so that nothing else that was put there is ever loaded; the record's
//! sha256 is checked by the worker on the open file, before it is mapped.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skiff_api::compiled::Platform;

use crate::engine;

/// What is known of a compiled file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) sha256: String,
    size: u64,
    mac: String,
}

pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
    /// Name of the platform's directory: a hash over everything that code depends on.
    platform: String,
}

impl Cache {
    /// Opens or makes the cache in `dir`. Errors: the directory or key cannot be made.
    pub(super) fn open(dir: PathBuf, platform: &Platform) -> std::io::Result<Self> {
        let platform = engine::hex(&Sha256::digest(platform.text())[..16]);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir.join(&platform))?;
        let key = key(&dir.join("key"))?;
        Ok(Self { dir, key, platform })
    }

    pub(super) fn path(&self, digest: &str) -> PathBuf {
        let name = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.dir.join(&self.platform).join(format!("{name}.cwasm"))
    }

    /// The record beside the file, if it is ours and the file is as long as it says.
    pub(super) fn record(&self, digest: &str) -> Option<Record> {
        let path = self.path(digest);
        let record: Record = serde_json::from_slice(&std::fs::read(path.with_extension("json")).ok()?).ok()?;
        let expected = self.mac(digest, &record.sha256, record.size);
        let fits = std::fs::metadata(&path).ok()?.len() == record.size;
        (fits && equal(expected.as_bytes(), record.mac.as_bytes())).then_some(record)
    }

    /// Takes a finished file into the cache.
    pub(super) fn keep(&self, digest: &str, file: &Path) -> std::io::Result<Record> {
        let path = self.path(digest);
        let (sha256, size) = hash(file)?;
        let record = Record {
            mac: self.mac(digest, &sha256, size),
            sha256,
            size,
        };
        std::fs::rename(file, &path)?;
        let text = serde_json::to_vec(&record).expect("a record is plain data");
        write_private(&path.with_extension("json"), &text)?;
        Ok(record)
    }

    pub(super) fn discard(&self, digest: &str) {
        let path = self.path(digest);
        let _ = std::fs::remove_file(path.with_extension("json"));
        let _ = std::fs::remove_file(path);
    }

    /// Removes compiled code of modules that `keep` does not want, and all of other platforms. Returns bytes freed.
    pub(super) fn collect(&self, keep: impl Fn(&str) -> bool) -> u64 {
        let mut freed = 0;
        for platform in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let ours = platform.file_name().to_string_lossy() == self.platform;
            for file in std::fs::read_dir(platform.path()).into_iter().flatten().flatten() {
                let path = file.path();
                let digest = path
                    .file_stem()
                    .map(|stem| format!("sha256:{}", stem.to_string_lossy()));
                if ours && digest.is_some_and(|digest| keep(&digest)) {
                    continue;
                }
                let size = file.metadata().map_or(0, |metadata| metadata.len());
                if std::fs::remove_file(path).is_ok() {
                    freed += size;
                }
            }
        }
        freed
    }

    fn mac(&self, digest: &str, sha256: &str, size: u64) -> String {
        let text = format!("{}\n{digest}\n{sha256}\n{size}", self.platform);
        engine::hex(&hmac(&self.key, text.as_bytes()))
    }
}

fn hash(path: &Path) -> std::io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let size = std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok((engine::hex(&hasher.finalize()), size))
}

/// Replaces a file with one that only we can read.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("tmp");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// The node's key, made at first use.
fn key(path: &Path) -> std::io::Result<[u8; 32]> {
    use std::io::Read;
    let mut key = [0; 32];
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() == key.len() => key.copy_from_slice(&bytes),
        _ => {
            std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
            write_private(path, &key)?;
        }
    }
    Ok(key)
}

/// HMAC-SHA256 (RFC 2104) with a key of at most one block.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

/// Compares in constant time.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_hmac_sha256() {
        // Made with Python: hmac.new(bytes(range(32)), b"what do ya want for nothing?", "sha256").
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let mac = engine::hex(&hmac(&key, b"what do ya want for nothing?"));
        assert_eq!(mac, "099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a");
    }

    #[test]
    fn the_key_stays_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key");
        assert_eq!(key(&path).expect("made"), key(&path).expect("read"));
        assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
    }
}
