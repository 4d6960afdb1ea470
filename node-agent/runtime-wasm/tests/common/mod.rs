//! A node in a temporary directory, with images held in memory and guests written as text.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use skiff_runtime::PullCredentials;
use skiff_runtime::contract::Subject;
use skiff_runtime_wasm::images::source::ImageReference;
use skiff_runtime_wasm::{
    ArtifactSource, BlobStream, Compile, ResolvedManifest, SourceError, WasmConfig, WasmLimits, WasmRuntime,
};
use wit_component::{ComponentEncoder, StringEncoding};

pub mod guests;
pub mod serving;

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A registry in memory.
#[derive(Default)]
pub struct Registry {
    blobs: Mutex<HashMap<String, Bytes>>,
    tags: Mutex<HashMap<String, String>>,
    pub down: std::sync::atomic::AtomicBool,
}

impl Registry {
    /// Pushes a module as an image and returns its reference.
    pub fn push(&self, name: &str, module: Vec<u8>) -> String {
        let (module_digest, size) = (digest(&module), module.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"layers":[{{"mediaType":"application/wasm","digest":"{module_digest}","size":{size}}}]}}"#
        );
        let manifest = Bytes::from(manifest);
        let manifest_digest = digest(&manifest);
        let mut blobs = self.blobs.lock().unwrap();
        blobs.insert(module_digest, module.into());
        blobs.insert(manifest_digest.clone(), manifest);
        self.tags.lock().unwrap().insert(name.to_owned(), manifest_digest);
        format!("skiff.local/{name}:1")
    }

    fn check(&self) -> Result<(), SourceError> {
        match self.down.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(SourceError::Unreachable("the registry is down".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl ArtifactSource for Registry {
    fn serves(&self, registry: &str) -> bool {
        registry == "skiff.local"
    }
    async fn resolve(&self, image: &ImageReference, _: &[PullCredentials]) -> Result<ResolvedManifest, SourceError> {
        self.check()?;
        let digest = match &image.digest {
            Some(digest) => digest.clone(),
            None => self
                .tags
                .lock()
                .unwrap()
                .get(&image.repository)
                .cloned()
                .ok_or(SourceError::NotFound)?,
        };
        let bytes = self
            .blobs
            .lock()
            .unwrap()
            .get(&digest)
            .cloned()
            .ok_or(SourceError::NotFound)?;
        Ok(ResolvedManifest { digest, bytes })
    }
    async fn blob(&self, _: &ImageReference, digest: &str, _: &[PullCredentials]) -> Result<BlobStream, SourceError> {
        self.check()?;
        let bytes = self
            .blobs
            .lock()
            .unwrap()
            .get(digest)
            .cloned()
            .ok_or(SourceError::NotFound)?;
        Ok(Box::pin(futures::stream::iter([Ok(bytes)])))
    }
}

/// A node: its directory, its registry, its addresses. Its workers end with it.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub registry: Arc<Registry>,
    next_ip: Mutex<u8>,
    pub compile: Compile,
    /// The program started for workers and compilers.
    pub exe: PathBuf,
}

impl Node {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("skiff-wasm").tempdir().unwrap();
        Self {
            dir,
            registry: Arc::default(),
            next_ip: Mutex::new(0),
            compile: Compile::Local,
            exe: PathBuf::from(env!("CARGO_BIN_EXE_skiff-wasm-host")),
        }
    }

    /// A runtime on this node's directory; a second one adopts what the first left.
    pub async fn runtime(&self) -> Subject {
        let (wake, wakes) = tokio::sync::mpsc::channel(1024);
        let config = WasmConfig {
            data_dir: self.dir.path().join("data"),
            exe: self.exe.clone(),
            sources: vec![self.registry.clone()],
            wake,
            limits: WasmLimits {
                slots: 64,
                threads: 2,
                denied: Vec::new(),
            },
            compile: self.compile.clone(),
        };
        let runtime = Arc::new(WasmRuntime::new(config).await.expect("a runtime"));
        Subject {
            runtime,
            wakes,
            exits_0: self.registry.push("exits-0", guests::exits(0)),
            exits_3: self.registry.push("exits-3", guests::exits(3)),
            runs: self.registry.push("runs", guests::sleeps()),
            absent: "skiff.local/absent:1".into(),
            ip: self.ip(),
            log_dir: self.dir.path().join("logs"),
        }
    }

    /// An address that no other test uses.
    pub fn ip(&self) -> IpAddr {
        let mut next = self.next_ip.lock().unwrap();
        *next += 1;
        let pid = std::process::id();
        // The test's place in its binary does not matter: a process runs its tests on one range, told apart by the thread.
        let thread = format!("{:?}", std::thread::current().id())
            .bytes()
            .fold(7_u8, |hash, b| hash.wrapping_mul(31) ^ b);
        Ipv4Addr::new(127, 64 + (pid % 128) as u8, thread, *next).into()
    }

    pub fn log(&self, uid: &str, container: &str) -> String {
        let path = self.dir.path().join("logs").join(uid).join(container).join("0.log");
        std::fs::read_to_string(path).expect("the log")
    }

    /// The records' texts, without time, stream and tag.
    pub fn lines(&self, uid: &str, container: &str) -> Vec<String> {
        self.log(uid, container)
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or("").to_owned())
            .collect()
    }

    /// Waits until the container has logged something.
    pub async fn until_logged(&self, uid: &str, container: &str) {
        for _ in 0..6000 {
            if !self.log(uid, container).is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("nothing was logged in a minute");
    }

    /// Process id of a namespace's worker.
    pub fn worker(&self, namespace: &str) -> i32 {
        let path = self.dir.path().join("data/workers").join(namespace).join("lock");
        std::fs::read_to_string(path)
            .expect("the worker's lock file")
            .trim()
            .parse()
            .expect("a process id")
    }

    /// The one compiled file with this extension.
    pub fn compiled(&self, extension: &str) -> PathBuf {
        let find = |dir: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect()
        };
        let dirs = find(&self.dir.path().join("data/compiled"));
        let mut files = dirs.iter().flat_map(|dir| find(dir));
        files
            .find(|path| path.extension().is_some_and(|e| e == extension))
            .expect("a compiled file")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let workers = std::fs::read_dir(self.dir.path().join("data/workers"));
        for worker in workers.into_iter().flatten().flatten() {
            if std::thread::panicking() {
                let log = std::fs::read_to_string(worker.path().join("worker.log")).unwrap_or_default();
                eprintln!("worker {:?} said:\n{log}", worker.file_name());
            }
            let text = std::fs::read_to_string(worker.path().join("lock")).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                kill(pid);
            }
        }
    }
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// A component of `tests/fixtures/guest.wit` out of a core module's text.
pub fn component(world: &str, text: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    resolve
        // As the first guests were built: a newer 0.1 must serve them.
        .push_str(
            "pod.wit",
            &include_str!("../../../../wit/skiff-pod/pod.wit").replace("@0.1.1", "@0.1.0"),
        )
        .expect("our own WIT");
    let package = resolve
        .push_str("guest.wit", include_str!("../fixtures/guest.wit"))
        .expect("the fixture's WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("a world of it");
    let mut module = wat::parse_str(text).expect("the fixture's text");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("embedded");
    encode(&module)
}

/// A component of a core module that says itself which world it is of.
pub fn encode(module: &[u8]) -> Vec<u8> {
    ComponentEncoder::default()
        .module(module)
        .expect("a module")
        .validate(true)
        .encode()
        .expect("a component")
}
