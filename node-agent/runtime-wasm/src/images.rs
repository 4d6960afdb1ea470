//! Modules on this node: blobs by digest, verified while they are written, and an index of references. Once an image is
//! here no registry is needed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::hex;
use crate::inspect::Inspection;
use source::BlobStream;

pub mod manifest;
pub mod oci;
pub mod pull;
pub mod source;

/// One image of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of the image manifest.
    pub manifest: String,
    /// Digest of the module: a layer of the image.
    pub module: String,
    /// Bytes of the module.
    pub size: u64,
    pub inspection: Inspection,
}

#[derive(Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Entry>,
}

/// The images of a node.
pub struct ImageStore {
    dir: PathBuf,
    index: Mutex<Index>,
    temporary: AtomicU64,
}

impl ImageStore {
    /// Opens or makes the store. A broken index is set aside: blobs are found again when they are pulled.
    pub fn open(dir: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir.join("blobs/sha256"))?;
        let path = dir.join("index.json");
        let index = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "image index was unreadable and was set aside");
                let _ = std::fs::rename(&path, dir.join("index.broken"));
                Index::default()
            }),
            Err(_) => Index::default(),
        };
        Ok(Self {
            dir,
            index: Mutex::new(index),
            temporary: AtomicU64::new(0),
        })
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().expect("no panic happens while the index is held")
    }

    /// The image of this reference, if its module is here.
    pub fn get(&self, reference: &str) -> Option<Entry> {
        self.index()
            .images
            .get(reference)
            .filter(|entry| self.has(&entry.module))
            .cloned()
    }

    /// An image by its manifest's digest.
    pub fn by_manifest(&self, digest: &str) -> Option<Entry> {
        self.index()
            .images
            .values()
            .find(|entry| entry.manifest == digest && self.has(&entry.module))
            .cloned()
    }

    /// Records what a reference stands for now.
    pub fn put(&self, reference: &str, entry: Entry) -> std::io::Result<()> {
        let mut index = self.index();
        if index.images.get(reference) == Some(&entry) {
            return Ok(());
        }
        index.images.insert(reference.to_owned(), entry);
        self.save(&index)
    }

    fn save(&self, index: &Index) -> std::io::Result<()> {
        let temporary = self.dir.join("index.new");
        let mut file = std::fs::File::create(&temporary)?;
        serde_json::to_writer(&mut file, index)?;
        file.sync_all()?;
        std::fs::rename(temporary, self.dir.join("index.json"))
    }

    /// Where a blob is or would be. Only for digests that passed [`hex_of`].
    pub fn blob(&self, digest: &str) -> PathBuf {
        let name = hex_of(digest).unwrap_or("invalid");
        self.dir.join("blobs/sha256").join(name)
    }

    pub fn has(&self, digest: &str) -> bool {
        hex_of(digest).is_some() && self.blob(digest).is_file()
    }

    /// Writes a blob from a stream. Errors: other bytes than the digest says, more than `most`, IO.
    pub async fn write(&self, digest: &str, most: u64, mut stream: BlobStream) -> std::io::Result<u64> {
        let expected = hex_of(digest).ok_or_else(|| std::io::Error::other(format!("not a sha256 digest: {digest}")))?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = Temporary(self.dir.join(format!("blobs/.new-{}-{number}", std::process::id())));
        let mut file = std::fs::File::create(&temporary.0)?;
        let (mut hasher, mut size) = (Sha256::new(), 0_u64);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            size += chunk.len() as u64;
            if size > most {
                return Err(std::io::Error::other(format!("the blob is larger than {most} bytes")));
            }
            hasher.update(&chunk);
            file.write_all(&chunk)?;
        }
        let found = hex(&hasher.finalize());
        if found != expected {
            return Err(std::io::Error::other(format!(
                "the blob's digest is sha256:{found}, not {digest}"
            )));
        }
        file.sync_all()?;
        std::fs::rename(&temporary.0, self.blob(digest))?;
        Ok(size)
    }

    /// Forgets images that `in_use` does not want by reference or manifest digest, and blobs that none wants.
    /// Returns the bytes freed.
    pub fn collect(&self, in_use: impl Fn(&str, &Entry) -> bool) -> std::io::Result<u64> {
        let mut index = self.index();
        let before = index.images.len();
        index.images.retain(|reference, entry| in_use(reference, entry));
        if index.images.len() != before {
            self.save(&index)?;
        }
        let kept: BTreeSet<&str> = index
            .images
            .values()
            .flat_map(|e| [&e.manifest, &e.module])
            .filter_map(|digest| hex_of(digest))
            .collect();
        let mut freed = 0;
        for blob in std::fs::read_dir(self.dir.join("blobs/sha256"))?.flatten() {
            if !kept.contains(&*blob.file_name().to_string_lossy()) {
                freed += blob.metadata().map_or(0, |metadata| metadata.len());
                std::fs::remove_file(blob.path())?;
            }
        }
        Ok(freed)
    }

    /// Digests of all modules here.
    pub fn modules(&self) -> BTreeSet<String> {
        self.index().images.values().map(|entry| entry.module.clone()).collect()
    }
}

/// Removes what was not finished.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The 64 hex digits of `sha256:…`; None for anything else, so that a digest never names another file.
pub fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (hex.len() == 64 && hex.bytes().all(lower)).then_some(hex)
}

/// `sha256:…` of these bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Bytes of a file, for a module that fits in memory.
pub(crate) fn read_module(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bytes: &'static [u8]) -> BlobStream {
        Box::pin(futures::stream::iter(
            bytes.chunks(3).map(|chunk| Ok(bytes::Bytes::from_static(chunk))),
        ))
    }

    fn entry(manifest: &str, module: &str) -> Entry {
        let inspection = Inspection {
            kind: None,
            p3: false,
            imports: vec![],
            exports: vec![],
            missing: vec![],
        };
        Entry {
            manifest: manifest.into(),
            module: module.into(),
            size: 5,
            inspection,
        }
    }

    #[tokio::test]
    async fn only_what_the_digest_says_is_kept() {
        let directory = tempfile::tempdir().expect("directory");
        let store = ImageStore::open(directory.path().into()).expect("open");
        let digest = digest_of(b"hello");
        let error = store
            .write(&digest, 100, stream(b"hullo"))
            .await
            .expect_err("other bytes");
        assert!(error.to_string().contains(&digest), "{error}");
        assert!(store.write(&digest, 4, stream(b"hello")).await.is_err());
        assert!(!store.has(&digest));
        assert_eq!(store.write(&digest, 5, stream(b"hello")).await.expect("written"), 5);
        assert!(store.has(&digest));
        assert_eq!(
            std::fs::read_dir(directory.path().join("blobs"))
                .expect("blobs")
                .count(),
            1
        );
    }

    #[tokio::test]
    async fn the_index_outlives_the_process_and_collecting_frees_the_unwanted() {
        let directory = tempfile::tempdir().expect("directory");
        let store = ImageStore::open(directory.path().into()).expect("open");
        for bytes in [&b"one"[..], b"other"] {
            store
                .write(&digest_of(bytes), 100, stream(bytes))
                .await
                .expect("written");
        }
        store.put("a:1", entry("sha256:m1", &digest_of(b"one"))).expect("put");
        store.put("b:1", entry("sha256:m2", &digest_of(b"other"))).expect("put");
        let store = ImageStore::open(directory.path().into()).expect("open again");
        assert_eq!(store.get("a:1").expect("known").manifest, "sha256:m1");
        let freed = store.collect(|reference, _| reference == "a:1").expect("collect");
        assert_eq!(freed, 5);
        assert!(store.get("a:1").is_some() && store.get("b:1").is_none());
    }

    #[test]
    fn a_digest_cannot_name_another_file() {
        assert_eq!(hex_of("sha256:../../etc/passwd"), None);
        assert_eq!(hex_of(&format!("sha256:{}", "A".repeat(64))), None);
        assert!(hex_of(&digest_of(b"")).is_some());
    }
}
