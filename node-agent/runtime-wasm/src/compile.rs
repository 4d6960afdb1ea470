//! Compiling, in a limited child process, once per module and engine; and the cache of what came out.
//!
//! The cache is `<data_dir>/compiled/<engine>/<module digest>.cwasm` with a record beside it. The record's MAC is made
//! with a key of this node, so that nothing else that was put there is ever loaded; the record's sha256 is checked by
//! the worker on the open file, before it is mapped.

use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skiff_runtime::RuntimeError;
use tokio::io::AsyncReadExt;

use crate::engine::{self, Flavour};
use crate::inspect::{Inspection, Kind};
use crate::limits;
use crate::protocol::Artifact;

mod child;

/// Bytes of the child's complaint that are kept.
const COMPLAINT_BYTES_MAX: u64 = 8 << 10;

/// Compiles one module and exits: `wasm-compile IN OUT FLAVOUR KIND`, the arguments after `wasm-compile`. Call it before
/// anything else starts threads. Returns the exit code; complaints go to stderr.
pub fn compile_main(args: &[String]) -> i32 {
    match child::run(args) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    }
}

/// What is known of a compiled file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    sha256: String,
    size: u64,
    mac: String,
}

type Flights = HashMap<(String, Flavour), Arc<tokio::sync::Mutex<()>>>;

/// The compile cache of a node.
pub(crate) struct Compiler {
    dir: PathBuf,
    exe: PathBuf,
    key: [u8; 32],
    engines: HashMap<Flavour, String>,
    /// Checked already in this process.
    known: Mutex<HashMap<(String, Flavour), Artifact>>,
    /// One compilation per module at a time.
    flights: Mutex<Flights>,
    turns: tokio::sync::Semaphore,
}

impl Compiler {
    /// Opens or makes the cache in `dir`. Errors: the directory or key cannot be made, or no engine can.
    pub(crate) fn open(dir: PathBuf, exe: PathBuf) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let key = key(&dir.join("key"))?;
        let mut engines = HashMap::new();
        for flavour in [Flavour::Lean, Flavour::P3] {
            let name = engine::compatibility(flavour).map_err(|error| std::io::Error::other(error.to_string()))?;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir.join(&name))?;
            engines.insert(flavour, name);
        }
        let turns = tokio::sync::Semaphore::new(limits::COMPILES_AT_ONCE);
        Ok(Self {
            dir,
            exe,
            key,
            engines,
            known: Mutex::default(),
            flights: Mutex::default(),
            turns,
        })
    }

    /// The compiled form of a module, compiled now if need be. Errors: it cannot be compiled, or not within the limits.
    pub(crate) async fn ensure(
        &self,
        digest: &str,
        module: &Path,
        inspection: &Inspection,
    ) -> Result<Artifact, RuntimeError> {
        let flavour = if inspection.p3 { Flavour::P3 } else { Flavour::Lean };
        let kind = inspection
            .kind
            .ok_or_else(|| unrunnable(inspection.refusal().unwrap_or_default()))?;
        let id = (digest.to_owned(), flavour);
        if let Some(artifact) = self.known(&id) {
            return Ok(artifact);
        }
        let flight = self.flights().entry(id.clone()).or_default().clone();
        let _flight = flight.lock().await;
        if let Some(artifact) = self.known(&id) {
            return Ok(artifact);
        }
        let path = self.path(digest, flavour);
        let record = match self.record(digest, flavour) {
            Some(record) => record,
            None => self.compile(digest, module, flavour, kind, &path).await?,
        };
        let artifact = Artifact {
            path,
            sha256: record.sha256,
            kind,
            p3: inspection.p3,
        };
        self.known
            .lock()
            .expect("no panic happens while it is held")
            .insert(id.clone(), artifact.clone());
        self.flights().remove(&id);
        Ok(artifact)
    }

    /// Forgets a file that a worker found not to be what was compiled.
    pub(crate) fn discard(&self, digest: &str, p3: bool) {
        let flavour = if p3 { Flavour::P3 } else { Flavour::Lean };
        self.known
            .lock()
            .expect("no panic happens while it is held")
            .remove(&(digest.to_owned(), flavour));
        let path = self.path(digest, flavour);
        let _ = std::fs::remove_file(path.with_extension("json"));
        let _ = std::fs::remove_file(path);
    }

    /// Removes compiled code of modules that `keep` does not want, and all of other engines. Returns bytes freed.
    pub(crate) fn collect(&self, keep: impl Fn(&str) -> bool) -> u64 {
        let mut freed = 0;
        for engine in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let ours = self
                .engines
                .values()
                .any(|name| *name == *engine.file_name().to_string_lossy());
            for file in std::fs::read_dir(engine.path()).into_iter().flatten().flatten() {
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
        self.known
            .lock()
            .expect("no panic happens while it is held")
            .retain(|(digest, _), _| keep(digest));
        freed
    }

    fn known(&self, id: &(String, Flavour)) -> Option<Artifact> {
        let known = self.known.lock().expect("no panic happens while it is held");
        known.get(id).filter(|artifact| artifact.path.exists()).cloned()
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, Flights> {
        self.flights
            .lock()
            .expect("no panic happens while the flights are held")
    }

    fn path(&self, digest: &str, flavour: Flavour) -> PathBuf {
        let name = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.dir.join(&self.engines[&flavour]).join(format!("{name}.cwasm"))
    }

    /// The record beside the file, if it is ours and the file is as long as it says.
    fn record(&self, digest: &str, flavour: Flavour) -> Option<Record> {
        let path = self.path(digest, flavour);
        let record: Record = serde_json::from_slice(&std::fs::read(path.with_extension("json")).ok()?).ok()?;
        let expected = self.mac(digest, flavour, &record.sha256, record.size);
        let fits = std::fs::metadata(&path).ok()?.len() == record.size;
        (fits && equal(expected.as_bytes(), record.mac.as_bytes())).then_some(record)
    }

    fn mac(&self, digest: &str, flavour: Flavour, sha256: &str, size: u64) -> String {
        let text = format!("{}\n{digest}\n{sha256}\n{size}", self.engines[&flavour]);
        engine::hex(&hmac(&self.key, text.as_bytes()))
    }

    async fn compile(
        &self,
        digest: &str,
        module: &Path,
        flavour: Flavour,
        kind: Kind,
        path: &Path,
    ) -> Result<Record, RuntimeError> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        tracing::info!(digest, flavour = flavour.name(), "compiling a module");
        let out = path.with_extension("new");
        let _ = std::fs::remove_file(&out);
        let result = self.spawn(module, &out, flavour, kind).await;
        let record = result.and_then(|()| {
            let kept = |error: std::io::Error| unrunnable(format!("keep the compiled module: {error}"));
            let (sha256, size) = hash(&out).map_err(kept)?;
            let record = Record {
                mac: self.mac(digest, flavour, &sha256, size),
                sha256,
                size,
            };
            std::fs::rename(&out, path).map_err(kept)?;
            let text = serde_json::to_vec(&record).expect("a record is plain data");
            write_private(&path.with_extension("json"), &text).map_err(kept)?;
            Ok(record)
        });
        if record.is_err() {
            let _ = std::fs::remove_file(&out);
        }
        record
    }

    async fn spawn(&self, module: &Path, out: &Path, flavour: Flavour, kind: Kind) -> Result<(), RuntimeError> {
        let failed = |error: std::io::Error| RuntimeError::Unavailable {
            why: format!("run the compiler: {error}"),
        };
        let shape = if kind == Kind::CoreP1 { "core" } else { "component" };
        let mut child = tokio::process::Command::new(&self.exe)
            .arg("wasm-compile")
            .args([module, out])
            .args([flavour.name(), shape])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut complaint = Vec::new();
        let waiting = async {
            if let Some(stderr) = child.stderr.take() {
                let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint).await;
            }
            child.wait().await
        };
        let status = tokio::time::timeout(limits::COMPILE_DEADLINE, waiting)
            .await
            .map_err(|_| unrunnable(format!("compiling the module took over {:?}", limits::COMPILE_DEADLINE)))?
            .map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Err(unrunnable(match status.signal() {
            Some(signal) => format!("the compiler was ended by its limits (signal {signal}): {complaint}"),
            None => format!("the module cannot be compiled: {complaint}"),
        }))
    }
}

fn unrunnable(why: String) -> RuntimeError {
    RuntimeError::Unrunnable { why }
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
