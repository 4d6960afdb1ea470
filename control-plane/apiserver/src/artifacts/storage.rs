//! What the registry keeps on disk. A file is whole under its final name or not there: written aside, synced, renamed.
//!
//! ```text
//! blobs/sha256/ab/abcd…            content, by digest
//! uploads/<uuid>/{data,repository} content on its way
//! repositories/<name>/_blobs/<hex>               the repository has this blob
//! repositories/<name>/_manifests/<hex>           … this manifest; the file holds its media type
//! repositories/<name>/_tags/<tag>                the digest that a tag stands for
//! repositories/<name>/_referrers/<hex>/<hex>     descriptor of a manifest whose subject is the first
//! ```
//! No component of a repository's name starts with `_`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::{Code, OciError};
use super::path::Digest;

/// Uploads open at once; each is a directory and at most one open file.
pub(super) const UPLOADS_MAX: usize = 256;
/// A single module or image layer; larger ones have no business on an edge node.
pub(super) const BLOB_BYTES_MAX: u64 = 4 << 30;
/// As other registries limit it.
pub(super) const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Pushing stops while the disk has less than this left: the store beside us needs room to go on.
const FREE_BYTES_MIN: u64 = 256 << 20;

pub(super) struct Storage {
    root: PathBuf,
    /// One writer at a time per upload.
    uploads: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Writers of links and manifests read-lock it, the collector write-locks it.
    pub(super) collecting: tokio::sync::RwLock<()>,
}

impl Storage {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        for directory in ["blobs/sha256", "uploads", "repositories"] {
            fs::create_dir_all(root.join(directory))?;
        }
        Ok(Self {
            root: root.to_owned(),
            uploads: Mutex::new(HashMap::new()),
            collecting: tokio::sync::RwLock::new(()),
        })
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs/sha256")
            .join(&digest.hex()[..2])
            .join(digest.hex())
    }
    pub(super) fn blobs_directory(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }
    pub(super) fn repositories_directory(&self) -> PathBuf {
        self.root.join("repositories")
    }
    pub(super) fn repository(&self, name: &str) -> PathBuf {
        self.repositories_directory().join(name)
    }
    pub(super) fn uploads_directory(&self) -> PathBuf {
        self.root.join("uploads")
    }
    pub(super) fn upload_data(&self, id: &str) -> PathBuf {
        self.uploads_directory().join(id).join("data")
    }

    /// Whether the repository has a blob, and its size.
    pub(super) fn blob_size(&self, name: &str, digest: &Digest) -> Result<Option<u64>, OciError> {
        let linked = self.link_path(name, digest).exists() || self.manifest_path(name, digest).exists();
        if !linked {
            return Ok(None);
        }
        match fs::metadata(self.blob_path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
    pub(super) fn link_path(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name).join("_blobs").join(digest.hex())
    }
    pub(super) fn manifest_path(&self, name: &str, digest: &Digest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.hex())
    }
    pub(super) fn tag_path(&self, name: &str, tag: &str) -> PathBuf {
        self.repository(name).join("_tags").join(tag)
    }
    pub(super) fn referrers_path(&self, name: &str, subject: &Digest) -> PathBuf {
        self.repository(name).join("_referrers").join(subject.hex())
    }

    pub(super) async fn link_blob(&self, name: &str, digest: &Digest) -> io::Result<()> {
        write_whole(self.link_path(name, digest), Vec::new()).await
    }
    /// Moves a finished file under its digest, durably.
    pub(super) async fn adopt_blob(&self, file: PathBuf, digest: &Digest) -> io::Result<()> {
        let target = self.blob_path(digest);
        let parent = target.parent().unwrap_or(&self.root).to_owned();
        blocking(move || {
            File::open(&file)?.sync_all()?;
            fs::create_dir_all(&parent)?;
            fs::rename(file, &target)?;
            File::open(parent)?.sync_all()
        })
        .await
    }
    /// Small content under its digest.
    pub(super) async fn write_blob(&self, digest: &Digest, content: Vec<u8>) -> io::Result<()> {
        let path = self.blob_path(digest);
        if path.exists() {
            Ok(())
        } else {
            write_whole(path, content).await
        }
    }

    /// Opens an upload for a repository: its id.
    pub(super) fn begin_upload(&self, name: &str) -> Result<String, OciError> {
        self.check_space()?;
        if fs::read_dir(self.uploads_directory())?.count() >= UPLOADS_MAX {
            return Err(OciError::new(429, Code::TooManyRequests, "too many uploads are open")
                .with_header("retry-after", "10".to_owned()));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let directory = self.uploads_directory().join(&id);
        fs::create_dir(&directory)?;
        fs::write(directory.join("repository"), name)?;
        File::create(directory.join("data"))?;
        Ok(id)
    }
    /// The lock of an upload of this repository; 404 when there is none.
    pub(super) fn upload_lock(&self, name: &str, id: &str) -> Result<Arc<tokio::sync::Mutex<()>>, OciError> {
        let unknown = || OciError::new(404, Code::BlobUploadUnknown, "blob upload unknown to registry");
        match fs::read_to_string(self.uploads_directory().join(id).join("repository")) {
            Ok(owner) if owner == name => {}
            Ok(_) => return Err(unknown()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            Err(e) => return Err(e.into()),
        }
        let mut uploads = self.uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Arc::clone(uploads.entry(id.to_owned()).or_default()))
    }
    pub(super) fn end_upload(&self, id: &str) -> io::Result<()> {
        self.uploads
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(id);
        match fs::remove_dir_all(self.uploads_directory().join(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// An error while the disk is nearly full.
    pub(super) fn check_space(&self) -> Result<(), OciError> {
        let space = rustix::fs::statvfs(&self.root).map_err(io::Error::from)?;
        if space.f_bavail.saturating_mul(space.f_frsize) < FREE_BYTES_MIN {
            return Err(OciError::new(
                507,
                Code::Unknown,
                "the registry's disk is nearly full; nothing was stored",
            ));
        }
        Ok(())
    }
}

/// Runs what waits for the disk (syncs above all) away from the threads that serve requests.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Writes a small file whole or not at all, making its directories.
pub(super) async fn write_whole(path: PathBuf, content: Vec<u8>) -> io::Result<()> {
    blocking(move || {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let temporary = parent.join(format!(".{}", uuid::Uuid::new_v4().simple()));
        let written = (|| {
            let mut file = File::create_new(&temporary)?;
            file.write_all(&content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(parent)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    })
    .await
}

/// Names in a directory, sorted; none when it does not exist. Files being written (`.…`) are not seen.
pub(super) fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(
            entry?
                .file_name()
                .into_string()
                .ok()
                .filter(|name| !name.starts_with('.')),
        );
    }
    names.sort();
    Ok(names)
}

/// Removes a file; whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
