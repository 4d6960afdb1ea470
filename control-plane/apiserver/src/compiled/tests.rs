//! The service as nodes use it, with a script for a compiler.

use std::path::PathBuf;

use hyper::Request;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use skiff_api::compiled::Compiled;

use super::*;
use crate::authn::UserInfo;
use crate::authn::testing::{Answer, TestServer, admin, node, user};
use crate::pki::hex;

/// Says that it compiles for `e-1`, notes every run, waits while `gate` exists, and fails as its module says.
const COMPILER: &str = r#"#!/bin/sh
here=$(dirname "$0")
if [ "$2" = --platform ]; then
    echo '{"engine": "'$(cat "$here/engine" 2>/dev/null || echo e-1)'", "target": "t", "features": ["has_a"]}'
    exit 0
fi
echo "$4" >> "$here/runs"
while [ -e "$here/gate" ]; do sleep 0.02; done
case "$(cat "$2")" in
bomb*) kill -XCPU $$ ;;
noroom*) echo "write the output: No space left on device" >&2; exit 3 ;;
malformed*) echo "not a WebAssembly module: unexpected end" >&2; exit 1 ;;
foreign*) echo "unsupported target t" >&2; exit 4 ;;
esac
(echo "code for $4 with $5 of"; cat "$2") > "$3"
engine=$(cat "$here/engine" 2>/dev/null || echo e-1)
echo "$engine component"
"#;

struct Bench {
    test: TestServer,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("compiler");
        std::fs::write(&program, COMPILER).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let test = TestServer::compiling(Some(CompilerProgram(program))).await;
        Self { test, directory }
    }
    fn gate(&self) -> PathBuf {
        self.directory.path().join("gate")
    }
    fn runs(&self) -> usize {
        let runs = std::fs::read_to_string(self.directory.path().join("runs"));
        runs.map_or(0, |text| text.lines().count())
    }
    async fn get(&self, who: UserInfo, key: &Key) -> Answer {
        self.test.get(who, &format!("{}&wait=30", key.path_and_query())).await
    }
    async fn send(&self, who: UserInfo, key: &Key, module: &[u8]) -> Answer {
        let path = format!("{}&wait=30", key.path_and_query());
        self.test.send(who, Request::post(path), module.to_vec()).await
    }
    async fn until_run(&self, count: usize) {
        while self.runs() < count {
            tokio::task::yield_now().await;
        }
    }
}

fn key_of(module: &[u8], engine: &str, features: &[&str]) -> Key {
    let features: Vec<String> = features.iter().map(|f| (*f).to_owned()).collect();
    let digest = format!("sha256:{}", hex(&Sha256::digest(module)));
    Key::new(&digest, Platform::new(engine, "t", &features).unwrap()).unwrap()
}

/// What the answer says that it is, its signature verified with the CA certificate as nodes verify it.
fn verified(bench: &Bench, key: &Key, answer: &Answer) -> Compiled {
    assert_eq!(answer.status, 200, "{}", answer.message());
    let compiled = Compiled {
        kind: answer.header(compiled::KIND_HEADER).to_owned(),
        sha256: answer.header(compiled::SHA256_HEADER).to_owned(),
        size: answer.body.len() as u64,
    };
    assert_eq!(compiled.sha256, hex(&Sha256::digest(&answer.body)));
    let signature = STANDARD.decode(answer.header(compiled::SIGNATURE_HEADER)).unwrap();
    assert!(is_signed(
        bench.test.pki.ca_der(),
        &compiled.signed_text(key),
        &signature
    ));
    let other = key_of(b"other", "e-1", &[]);
    assert!(!is_signed(
        bench.test.pki.ca_der(),
        &compiled.signed_text(&other),
        &signature
    ));
    compiled
}

fn is_signed(ca: &CertificateDer<'_>, text: &str, signature: &[u8]) -> bool {
    let (_, ca) = x509_parser::parse_x509_certificate(ca).unwrap();
    let public = &ca.public_key().subject_public_key.data;
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut algorithms = algorithms.all.iter();
    algorithms.any(|a| a.verify_signature(public, text.as_bytes(), signature).is_ok())
}

#[tokio::test]
async fn fifty_who_ask_for_one_module_cost_one_compilation() {
    let bench = Bench::start().await;
    let key = key_of(b"module", "e-1", &["has_b", "has_a"]);
    std::fs::write(bench.gate(), "").unwrap();
    let asked = bench.test.get(node("n1"), &key.path_and_query()).await;
    assert_eq!(
        (asked.status, asked.json()["state"].as_str()),
        (202, Some("send-module"))
    );
    let path = key.path_and_query();
    let sent = bench.test.send(node("n1"), Request::post(path), &b"module"[..]).await;
    assert_eq!(sent.json()["state"], "working", "{}", sent.message());
    let all = futures::future::join_all((0..50).map(|i| {
        let (bench, key) = (&bench, &key);
        async move { bench.get(node(&format!("n{i}")), key).await }
    }));
    let open = async {
        bench.until_run(1).await;
        let told = bench.test.get(node("n1"), &key.path_and_query()).await;
        assert_eq!(told.json()["message"], "the module is being compiled");
        assert_eq!(bench.test.get(admin(), compiled::PATH).await.json()["compiling"], 1);
        std::fs::remove_file(bench.gate()).unwrap();
    };
    let (answers, ()) = tokio::join!(all, open);
    for answer in &answers {
        assert_eq!(verified(&bench, &key, answer).kind, "component");
        assert_eq!(answer.body, "code for t with has_a,has_b of\nmodule");
    }
    assert_eq!(bench.runs(), 1);
    let elsewhere = key_of(b"module", "e-1", &[]);
    assert_eq!(bench.send(node("n9"), &elsewhere, b"module").await.status, 200);
    assert_eq!(bench.runs(), 2, "another CPU's code is another's");
}

/// Who names a target or a CPU feature that nobody knows spoils nothing for others.
#[tokio::test]
async fn a_platform_that_the_compiler_does_not_know_is_not_the_modules_fault() {
    let bench = Bench::start().await;
    let key = key_of(b"foreign", "e-1", &["has_nonsense"]);
    for run in [1, 2] {
        let answer = bench.send(node("n1"), &key, b"foreign").await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (
                409,
                "this control plane does not compile for this machine: unsupported target t"
            )
        );
        assert_eq!(bench.runs(), run, "it is not held against the module");
    }
}

#[tokio::test]
async fn code_of_a_compiler_that_was_replaced_is_not_signed_for_the_old_one() {
    let bench = Bench::start().await;
    let first = key_of(b"first", "e-1", &[]);
    assert_eq!(bench.send(node("n1"), &first, b"first").await.status, 200);
    std::fs::write(bench.directory.path().join("engine"), "e-2").unwrap();
    let old = key_of(b"module", "e-1", &[]);
    let answer = bench.send(node("n1"), &old, b"module").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (
            409,
            "the compiler was replaced: it compiles with e-2, the node runs e-1"
        )
    );
    let answer = bench.send(node("n1"), &old, b"module").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (409, "this control plane compiles with e-2, the node runs e-1")
    );
    let new = key_of(b"module", "e-2", &[]);
    verified(&bench, &new, &bench.send(node("n1"), &new, b"module").await);
}

/// FAULTS G21 and G22 at the service.
#[tokio::test]
async fn a_bomb_and_a_malformed_module_are_refused_once_and_others_are_served() {
    let bench = Bench::start().await;
    for (module, why) in [
        (&b"bomb"[..], "the compiler was ended by its limits (signal 24)"),
        (
            b"malformed",
            "the module cannot be compiled: not a WebAssembly module: unexpected end",
        ),
    ] {
        let key = key_of(module, "e-1", &["has_a"]);
        let refused = bench.send(node("n1"), &key, module).await;
        assert_eq!(refused.status, 422);
        assert!(refused.message().starts_with(why), "{}", refused.message());
        let runs = bench.runs();
        assert_eq!(bench.get(node("n2"), &key).await.status, 422);
        let variant = key_of(module, "e-1", &[]);
        assert_eq!(bench.send(node("n2"), &variant, module).await.status, 422);
        assert_eq!(bench.runs(), runs, "it is not tried again and again");
    }
    // A fault of our own is not held against the module.
    let key = key_of(b"noroom", "e-1", &[]);
    for run in [3, 4] {
        assert_eq!(bench.send(node("n1"), &key, b"noroom").await.status, 500);
        assert_eq!(bench.runs(), run);
    }
    let good = key_of(b"good", "e-1", &[]);
    assert_eq!(bench.send(node("n1"), &good, b"good").await.status, 200);
    let new = std::fs::read_dir(bench.test.directory.path().join("compiled/new")).unwrap();
    let left = new.flat_map(|life| std::fs::read_dir(life.unwrap().path()).unwrap());
    assert_eq!(left.count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn who_may_not_and_what_cannot_be_is_said() {
    let bench = Bench::start().await;
    let key = key_of(b"module", "e-1", &[]);
    assert_eq!(bench.get(user("bob", &[]), &key).await.status, 403);
    assert_eq!(bench.get(UserInfo::anonymous(), &key).await.status, 403);
    let other = bench.get(node("n"), &key_of(b"module", "e-2", &[])).await;
    assert_eq!(
        (other.status, other.message().as_str()),
        (409, "this control plane compiles with e-1, the node runs e-2")
    );
    let wrong = bench.send(node("n"), &key, b"another module").await;
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.message().starts_with("the module's digest is sha256:"),
        "{}",
        wrong.message()
    );
    for query in [
        "sha256:00?engine=e-1&target=t",
        &format!("{}?engine=e-1&target=t&features=evil", key.module()),
    ] {
        let answer = bench.test.get(node("n"), &format!("{}{query}", compiled::PATH)).await;
        assert_eq!(answer.status, 400, "{query}");
    }
    assert_eq!(bench.runs(), 0);

    let without = TestServer::compiling(None).await;
    let answer = without.get(node("n"), &key.path_and_query()).await;
    assert_eq!(answer.status, 409);
    assert!(answer.message().contains("has no compiler"), "{}", answer.message());
}

#[tokio::test]
async fn a_pushed_module_is_compiled_before_anyone_asks() {
    let bench = Bench::start().await;
    let module = b"pushed";
    let key = key_of(module, "e-1", &["has_a"]);
    let digest = key.module();
    let blob = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    let pushed = bench.test.send(admin(), Request::post(blob), module.to_vec()).await;
    assert_eq!(pushed.status, 201);
    let manifest = json!({"schemaVersion": 2, "layers":
        [{"mediaType": "application/wasm", "digest": digest, "size": module.len()}]});
    let request = Request::put("/v2/team/app/manifests/v1");
    let pushed = bench.test.send(admin(), request, manifest.to_string()).await;
    assert_eq!(pushed.status, 201);
    bench.until_run(1).await;
    verified(&bench, &key, &bench.get(node("n1"), &key).await);
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn one_asker_cannot_fill_the_queue() {
    let bench = Bench::start().await;
    std::fs::write(bench.gate(), "").unwrap();
    let mut refused = 0;
    for i in 0..40_u8 {
        let module = [b'm', i];
        let path = key_of(&module, "e-1", &[]).path_and_query();
        let answer = bench
            .test
            .send(node("greedy"), Request::post(path), module.to_vec())
            .await;
        match answer.status {
            202 => {}
            429 => refused += 1,
            other => panic!("{other}: {}", answer.message()),
        }
    }
    assert_eq!(refused, 8);
    let more = key_of(b"more", "e-1", &[]).path_and_query();
    let told = bench.test.get(node("greedy"), &more).await;
    assert_eq!(told.status, 429, "no module is asked for that there is no room for");
    let path = key_of(b"mine", "e-1", &[]).path_and_query();
    let answer = bench.test.send(node("modest"), Request::post(path), &b"mine"[..]).await;
    assert_eq!(answer.json()["message"], "the module is to be compiled after 32 others");
    std::fs::remove_file(bench.gate()).unwrap();
}
