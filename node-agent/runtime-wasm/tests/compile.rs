//! Who compiles: with a compile service at hand no pod's way through this node ever starts a compiler.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::Node;
use skiff_api::compiled::{COMPILER_AT_FAULT, Compiled, Key, OTHER_PLATFORM};
use skiff_runtime::ContainerPhase;
use skiff_runtime_wasm::{Answer, Compile, CompileService, ServiceError};

const HOST: &str = env!("CARGO_BIN_EXE_skiff-wasm-host");

/// A service in this process, with the real compiler.
#[derive(Default)]
struct Service {
    compiled: AtomicUsize,
    /// It compiles for a CPU without any features: code for the least of all machines.
    for_the_least: bool,
    away: AtomicBool,
    forges: AtomicBool,
}

impl Service {
    fn compile(&self, key: &Key, module: &Path) -> (String, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let features = key.platform().features().join(",");
        let features = if self.for_the_least { "" } else { &features };
        let output = run_compiler(module, &out, key.platform().target(), features);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.compiled.fetch_add(1, Ordering::SeqCst);
        let said = String::from_utf8(output.stdout).unwrap();
        let (engine, kind) = said.trim().split_once(' ').unwrap();
        assert_eq!(engine, key.platform().id());
        (kind.to_owned(), std::fs::read(out).unwrap())
    }
}

fn run_compiler(module: &Path, out: &Path, target: &str, features: &str) -> Output {
    let mut child = Command::new(HOST)
        .arg("wasm-compile")
        .args([module, out])
        .args([target, features])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    output
}

#[async_trait]
impl CompileService for Service {
    async fn ask(&self, key: &Key, module: Option<&Path>, _wait: Duration) -> Result<Answer, ServiceError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(ServiceError::Absent("nobody is there".to_owned()));
        }
        let Some(module) = module else {
            return Ok(Answer::SendModule);
        };
        let (kind, code) = self.compile(key, module);
        let compiled = Compiled {
            kind,
            sha256: common::digest(&code).replace("sha256:", ""),
            size: code.len() as u64,
        };
        let signature = match self.forges.load(Ordering::SeqCst) {
            true => b"forged".to_vec(),
            false => compiled.signed_text(key).into_bytes(),
        };
        Ok(Answer::Ready {
            compiled,
            signature,
            code: Box::pin(futures::stream::iter([Ok(code.into())])),
        })
    }
    fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        text.as_bytes() == signature
    }
}

/// A node whose every child process is noted.
fn node(compile: Compile) -> Node {
    let mut node = Node::new();
    let script = node.dir.path().join("noting");
    let text = "#!/bin/sh\necho \"$1\" >> \"$(dirname \"$0\")/children\"\nexec \"HOST\" \"$@\"\n";
    std::fs::write(&script, text.replace("HOST", HOST)).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    node.exe = script;
    node.compile = compile;
    node
}

fn children(node: &Node, command: &str) -> usize {
    let noted = std::fs::read_to_string(node.dir.path().join("children")).unwrap_or_default();
    noted.lines().filter(|line| *line == command).count()
}

fn has_code(directory: &Path) -> bool {
    let entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    let is_code = |path: &PathBuf| path.extension().is_some_and(|e| e == "cwasm" || e == "new");
    entries.iter().any(|path| is_code(path) || has_code(path))
}

#[test]
fn whose_fault_it_is_that_there_is_no_code() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let start = br#"(module (func (export "_start")) (memory (export "memory") 1))"#;
    std::fs::write(at("good"), wat::parse_bytes(start).unwrap()).unwrap();
    std::fs::write(at("malformed"), b"\0asm\x01\0\0\0\xff").unwrap();
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    for (module, target, features, code) in [
        ("good", here.as_str(), "", 0),
        ("malformed", &here, "", 1),
        ("missing", &here, "", COMPILER_AT_FAULT),
        ("good", "vax-unknown-linux-gnu", "", OTHER_PLATFORM),
        ("good", "nonsense", "", OTHER_PLATFORM),
        ("good", &here, "has_nonsense", OTHER_PLATFORM),
        ("good", &here, "no-feature", OTHER_PLATFORM),
    ] {
        let _ = std::fs::remove_file(at("out"));
        let output = run_compiler(&at(module), &at("out"), target, features);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{module} {target} {features}: {complaint}"
        );
        assert_eq!(complaint.is_empty(), code == 0, "{complaint}");
    }
}

#[tokio::test]
async fn no_pod_start_compiles_on_the_serving_node() {
    for for_the_least in [false, true] {
        let service = Arc::new(Service {
            for_the_least,
            ..Service::default()
        });
        for compile in [Compile::Service(service.clone()), Compile::Auto(service.clone())] {
            let node = node(compile);
            let mut subject = node.runtime().await;
            let image = subject.exits_3.clone();
            for (uid, attempt) in [("one", 0), ("two", 0)] {
                subject.start(uid, "main", attempt, &image).await;
                let ended = subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await;
                assert_eq!(ended.exit_code, 3);
            }
            assert_eq!(children(&node, "wasm-worker"), 1);
            assert_eq!(children(&node, "wasm-compile"), 0);
        }
        assert_eq!(service.compiled.load(Ordering::SeqCst), 2, "once for each node");
    }
}

#[tokio::test]
async fn a_node_helps_itself_only_where_it_may() {
    let service = Arc::new(Service::default());
    service.away.store(true, Ordering::SeqCst);
    let alone = node(Compile::Service(service.clone()));
    let subject = alone.runtime().await;
    let error = subject.runtime.ensure_image(&subject.exits_0, true, &[]).await;
    let error = error.expect_err("nobody compiles");
    assert_eq!(error.reason(), "CompileError");
    assert_eq!(error.to_string(), "the compile service cannot help: nobody is there");
    assert_eq!(children(&alone, "wasm-compile"), 0);

    let able = node(Compile::Auto(service));
    let subject = able.runtime().await;
    subject
        .runtime
        .ensure_image(&subject.exits_0, true, &[])
        .await
        .expect("compiled here");
    assert_eq!(children(&able, "wasm-compile"), 1);
}

#[tokio::test]
async fn what_the_cluster_has_not_signed_is_never_mapped() {
    let service = Arc::new(Service::default());
    service.forges.store(true, Ordering::SeqCst);
    for compile in [Compile::Service(service.clone()), Compile::Auto(service.clone())] {
        let node = node(compile);
        let subject = node.runtime().await;
        let error = subject.runtime.ensure_image(&subject.exits_0, true, &[]).await;
        let error = error.expect_err("forged");
        assert_eq!(error.reason(), "CompileError");
        assert!(
            error.to_string().contains("signature was not made by this cluster"),
            "{error}"
        );
        assert!(
            !has_code(&node.dir.path().join("data/compiled")),
            "nothing of it is kept"
        );
        assert_eq!(children(&node, "wasm-worker") + children(&node, "wasm-compile"), 0);
    }
    // The service is put right: the next try succeeds.
    service.forges.store(false, Ordering::SeqCst);
    let node = node(Compile::Service(service));
    let subject = node.runtime().await;
    subject
        .runtime
        .ensure_image(&subject.exits_0, true, &[])
        .await
        .expect("signed");
}
