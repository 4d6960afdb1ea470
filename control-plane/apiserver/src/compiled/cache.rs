//! Compiled code on disk: `<id>.cwasm` and its record `<id>.json`, where id is a hash over the whole key. What is being made
//! lies in `new/` and is thrown away at start. The record comes last: a file without one is garbage.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skiff_api::compiled::{Compiled, Key};

use crate::pki::hex;

/// All compiled code together; what was asked for longest ago goes first. A typical module makes 0.5 to 5 MB, a Python
/// interpreter 60 MB.
const BYTES_MAX: u64 = 8 << 30;
/// Code of modules that are not in this server's registry is kept for so long after it was last asked for.
const UNASKED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is known of one file of compiled code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `sha256:…` of the module.
    pub(super) module: String,
    /// [`Key::text`].
    key: String,
    engine: String,
    kind: String,
    sha256: String,
    size: u64,
    /// The module was sent by a node, and is not in the registry.
    uploaded: bool,
}

impl Record {
    pub(super) fn compiled(&self) -> Compiled {
        Compiled {
            kind: self.kind.clone(),
            sha256: self.sha256.clone(),
            size: self.size,
        }
    }
}

pub(super) struct Cache {
    directory: PathBuf,
    /// For what is being made. Another one in each life: a compiler may outlive the process that it works for, and finds
    /// its place gone.
    new: PathBuf,
    temporary: AtomicU64,
    /// Files whose hash was found right since this process started.
    checked: Mutex<HashSet<String>>,
}

impl Cache {
    /// Opens or makes the cache; removes what a crash left unfinished.
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        match fs::remove_dir_all(directory.join("new")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut builder = fs::DirBuilder::new();
        let new = directory.join("new").join(uuid::Uuid::new_v4().simple().to_string());
        builder.recursive(true).mode(0o700).create(&new)?;
        for path in files(directory)? {
            if !path.with_extension("json").exists() {
                fs::remove_file(path)?;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            new,
            temporary: AtomicU64::new(0),
            checked: Mutex::default(),
        })
    }

    /// A name for a new file that is not there yet.
    pub(super) fn temporary(&self) -> PathBuf {
        self.new
            .join(self.temporary.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        let id = hex(&Sha256::digest(key.text())[..20]);
        self.directory.join(format!("{id}.cwasm"))
    }

    /// The record of this key, if its file is there and what was written. Reads the whole file the first time.
    pub(super) fn find(&self, key: &Key) -> Option<Record> {
        let path = self.path(key);
        let record: Record = serde_json::from_slice(&fs::read(path.with_extension("json")).ok()?).ok()?;
        if record.key != key.text() || fs::metadata(&path).ok()?.len() != record.size {
            return None;
        }
        if !self.checked().contains(&record.sha256) {
            if hash(&path).ok()?.0 != record.sha256 {
                tracing::warn!(%key, "compiled code was damaged on disk and is made again");
                let _ = fs::remove_file(path.with_extension("json"));
                let _ = fs::remove_file(&path);
                return None;
            }
            self.checked().insert(record.sha256.clone());
        }
        // When it was asked for last.
        if let Ok(file) = File::open(path.with_extension("json")) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(record)
    }

    /// Takes over a finished file.
    pub(super) fn keep(&self, key: &Key, file: &Path, kind: String, uploaded: bool) -> std::io::Result<Record> {
        let (sha256, size) = hash(file)?;
        let record = Record {
            module: key.module().to_owned(),
            key: key.text(),
            engine: key.platform().id().to_owned(),
            kind,
            sha256,
            size,
            uploaded,
        };
        let path = self.path(key);
        fs::rename(file, &path)?;
        let text = serde_json::to_vec(&record)?;
        crate::pki::write_atomically(&path.with_extension("json"), &text, 0o600).map_err(std::io::Error::other)?;
        self.checked().insert(record.sha256.clone());
        Ok(record)
    }

    /// Removes code whose module has left the registry (`has_module`), of other engines than `engine`, that nobody asked
    /// for in a long time, and the least asked for beyond the bound. Returns the bytes freed.
    pub(super) fn collect(
        &self,
        now: SystemTime,
        engine: Option<&str>,
        has_module: impl Fn(&str) -> bool,
    ) -> std::io::Result<u64> {
        self.collect_to(BYTES_MAX, now, engine, has_module)
    }

    fn collect_to(
        &self,
        most: u64,
        now: SystemTime,
        engine: Option<&str>,
        has_module: impl Fn(&str) -> bool,
    ) -> std::io::Result<u64> {
        let (mut freed, mut kept) = (0, Vec::new());
        for path in files(&self.directory)? {
            let beside = path.with_extension("json");
            let record = fs::read(&beside)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            // One that has no record yet is being taken over.
            let Some(record) = record else { continue };
            let asked = fs::metadata(&beside).and_then(|metadata| metadata.modified());
            let asked = asked.unwrap_or(SystemTime::UNIX_EPOCH);
            let unasked = now.duration_since(asked).unwrap_or_default();
            let wanted = engine.is_none_or(|engine| record.engine == engine)
                && (has_module(&record.module) || (record.uploaded && unasked < UNASKED_MAX));
            kept.push((wanted, asked, record.size, path));
        }
        // The unwanted first, then by when they were asked for.
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, _, size, _)| size).sum();
        for (wanted, _, size, path) in kept {
            if wanted && total <= most {
                break;
            }
            remove(&path.with_extension("json"))?;
            remove(&path)?;
            total -= size;
            freed += size;
        }
        Ok(freed)
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.checked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Removes a file, which one who found it damaged may have done already.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of compiled code in a directory.
fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths: Result<Vec<_>, _> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    Ok(paths?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .collect())
}

fn hash(path: &Path) -> std::io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let size = std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((hex(&hasher.finalize()), size))
}

#[cfg(test)]
mod tests {
    use skiff_api::compiled::Platform;

    use super::*;

    fn key(module: &str, engine: &str) -> Key {
        let platform = Platform::new(engine, "t", &[]).unwrap();
        Key::new(&format!("sha256:{}", module.repeat(64)), platform).unwrap()
    }

    fn keep(cache: &Cache, key: &Key, bytes: &[u8], uploaded: bool) {
        let file = cache.temporary();
        fs::write(&file, bytes).unwrap();
        cache.keep(key, &file, "core".to_owned(), uploaded).unwrap();
    }

    #[test]
    fn what_was_damaged_or_left_unfinished_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        keep(&cache, &key("a", "e"), b"code", false);
        assert!(cache.find(&key("a", "e")).is_some() && cache.find(&key("b", "e")).is_none());
        fs::write(cache.path(&key("b", "e")), "no record").unwrap();
        fs::write(cache.temporary(), "half").unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        assert!(!cache.path(&key("b", "e")).exists());
        assert_eq!(fs::read_dir(directory.path().join("new")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&cache.new).unwrap().count(), 0);
        fs::write(cache.path(&key("a", "e")), "c0de").unwrap();
        assert!(cache.find(&key("a", "e")).is_none());
        assert!(!cache.path(&key("a", "e")).exists(), "it is made again");
    }

    #[test]
    fn code_goes_with_its_image_its_engine_and_its_use() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        for (module, engine, uploaded) in [
            ("a", "e", false),
            ("b", "e", false),
            ("c", "old", false),
            ("d", "e", true),
        ] {
            keep(&cache, &key(module, engine), b"code", uploaded);
        }
        let has = |digest: &str| digest != key("b", "e").module() && digest != key("d", "e").module();
        let now = SystemTime::now();
        assert_eq!(
            cache.collect(now, Some("e"), has).unwrap(),
            8,
            "b's image and c's engine are gone"
        );
        assert!(cache.find(&key("a", "e")).is_some() && cache.find(&key("d", "e")).is_some());
        let later = now + UNASKED_MAX + Duration::from_secs(60);
        assert_eq!(cache.collect(later, Some("e"), has).unwrap(), 4, "d was not asked for");
        assert!(cache.find(&key("a", "e")).is_some());
    }

    #[test]
    fn beyond_the_bound_what_was_asked_for_longest_ago_goes() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        for (module, age) in [("a", 30), ("b", 10), ("c", 20)] {
            let key = key(module, "e");
            keep(&cache, &key, b"code", false);
            let record = File::open(cache.path(&key).with_extension("json")).unwrap();
            record
                .set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
        }
        assert_eq!(cache.collect_to(5, SystemTime::now(), None, |_| true).unwrap(), 8);
        assert!(cache.find(&key("b", "e")).is_some());
    }
}
