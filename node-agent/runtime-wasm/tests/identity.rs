//! `skiff:pod/identity`: commands of both tracks and servers are told which pod they run in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::guests::Identity;
use common::{Node, guests};
use skiff_runtime::ContainerPhase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LABELS: &[(&str, &str)] = &[("app", "web"), ("tier", "front")];

/// Creates and starts a container of this module in a pod `uid`, made by `module` out of what the pod's ip is.
async fn start(node: &Node, uid: &str, module: impl Fn(&Identity) -> Vec<u8>) -> skiff_runtime::contract::Subject {
    let mut subject = node.runtime().await;
    subject.ip = node.ip();
    let ip = subject.ip.to_string();
    let strings = [
        ("name", uid),
        ("namespace", "contract"),
        ("uid", uid),
        ("container", "main"),
        ("ip", &*ip),
    ];
    let image = node.registry.push(
        uid,
        module(&Identity {
            strings: &strings,
            labels: LABELS,
        }),
    );
    let mut sandbox = subject.sandbox(uid);
    sandbox.labels = LABELS
        .iter()
        .rev()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let mut spec = subject.container(uid, "main", 0, &image).await;
    spec.ports = vec![8080];
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "main").await.unwrap();
    subject
}

#[tokio::test]
async fn commands_of_both_tracks_know_their_pod() {
    let node = Node::new();
    for (uid, track) in [("p2", "0.2"), ("p3", "0.3")] {
        let mut subject = start(&node, uid, |identity| identity.command(track)).await;
        let ended = subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_wrong_expectation_is_noticed() {
    let node = Node::new();
    let wrong = Identity {
        strings: &[("name", "another")],
        labels: LABELS,
    };
    let mut subject = start(&node, "this", |_| wrong.command("0.2")).await;
    let ended = subject
        .until("this", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(ended.exit_code, 134, "{ended:?}");
}

#[tokio::test]
async fn a_server_knows_its_pod() {
    let node = Node::new();
    let mut subject = start(&node, "serves", |identity| identity.server()).await;
    subject
        .until("serves", "main", |c| c.phase == ContainerPhase::Running)
        .await;
    let mut stream = tokio::net::TcpStream::connect((subject.ip, 8080)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nHost: pod\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.contains(" 200 ") && answer.ends_with("hello from wasm\n"),
        "{answer}"
    );
}

#[test]
fn inspection_knows_the_interface() {
    let module = Identity {
        strings: &[("uid", "x")],
        labels: &[],
    }
    .command("0.2");
    let found = skiff_runtime_wasm::inspect(&module).unwrap();
    assert!(
        found.imports.contains(&"skiff:pod/identity@0.1.0".to_owned()),
        "{found:?}"
    );
    assert_eq!(found.refusal(), None);
    let unknown = guests::command(
        r#"(import "skiff:pod/identity@0.1.0" "name" (func (param i32)))"#,
        "(func (export \"_start\"))",
    );
    assert!(
        skiff_runtime_wasm::inspect(&unknown).unwrap().refusal().is_some(),
        "core modules get WASI only"
    );
}
