//! What guests may import beyond WASI's core: configuration, logging, buckets, and the pod's life.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Node, encode, kill};
use skiff_runtime::contract::Subject;
use skiff_runtime::{ContainerPhase, ContainerSpec, ContainerState};

fn capable() -> Vec<u8> {
    encode(include_bytes!("fixtures/capable.wasm"))
}

/// Creates and starts the capable guest as pod `uid`, to carry out these steps.
async fn start(node: &Node, subject: &Subject, uid: &str, steps: &[&str], change: impl FnOnce(&mut ContainerSpec)) {
    let image = node.registry.push("capable", capable());
    let sandbox = subject.sandbox(uid);
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let mut spec = subject.container(uid, "main", 0, &image).await;
    spec.args = ["capable"].iter().chain(steps).map(|&step| step.to_owned()).collect();
    change(&mut spec);
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "main").await.unwrap();
}

async fn ended(subject: &mut Subject, uid: &str) -> ContainerState {
    subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await
}

/// Carries out the steps to the end and returns what the log says.
async fn run(node: &Node, subject: &mut Subject, uid: &str, steps: &[&str]) -> Vec<String> {
    start(node, subject, uid, steps, |_| {}).await;
    let end = ended(subject, uid).await;
    assert_eq!(end.exit_code, 0, "{end:?}");
    node.lines(uid, "main")
}

#[tokio::test]
async fn configuration_and_limits_are_the_containers() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let steps = ["config color", "config size", "config", "limits", "usage"];
    start(&node, &subject, "conf", &steps, |spec| {
        spec.config = [("size", "12"), ("color", "blue")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .to_vec();
        spec.resources.memory_limit_bytes = Some(64 << 20);
        spec.resources.cpu_limit_millis = Some(500);
    })
    .await;
    ended(&mut subject, "conf").await;
    let lines = node.lines("conf", "main");
    assert_eq!(lines[..3], ["blue", "12", r#"[("color", "blue"), ("size", "12")]"#]);
    assert!(
        lines[3].contains("cpu-millis: Some(500), memory-bytes: Some(67108864)"),
        "{lines:?}"
    );
    assert_eq!(lines[4], "true");
    // Another container of the namespace has none of it.
    assert_eq!(
        run(&node, &mut subject, "bare", &["config color", "config"]).await,
        ["none", "[]"]
    );
}

#[tokio::test]
async fn messages_of_the_log_have_level_and_context() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let lines = run(&node, &mut subject, "logs", &["log warn db one|two", "log info  three"]).await;
    assert_eq!(
        lines,
        ["WARN [db] one", "WARN [db] two", "logged", "INFO three", "logged"]
    );
    assert!(node.log("logs", "main").contains(" stderr F WARN [db] one\n"));
}

#[tokio::test]
async fn buckets_keep_what_both_drafts_write() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let steps = [
        "get b k",
        "set b k one",
        "get b k",
        "exists b k",
        "get2 b k",
        "get c k",
        "add b n 41",
        "add2 b n 1",
        "add b k 1",
        "get-many b k nothing n",
        "delete-many b k n",
        "exists b k",
        "many pages 2500",
        "list pages",
        "list2 pages",
        "set b v old",
        "swap b v new",
        "swap b v newer between",
        "get b v",
        "open a/b",
        "open ../b",
        "fill b large 2000000",
    ];
    let lines = run(&node, &mut subject, "kv", &steps).await;
    let expected = [
        "none",
        "set",
        "one",
        "true",
        "one",
        "none",
        "41",
        "42",
        r#"error: Error::Other("the value is not a number")"#,
        "one,none,42",
        "deleted",
        "false",
        "set",
        "2500 keys in 3 pages, key-00000..key-02499, sorted true",
        "2500 keys in 3 pages, key-00000..key-02499, sorted true",
        "set",
        "swapped",
        "swapped after between",
        "newer",
        "error: Error::NoSuchStore",
        "error: Error::NoSuchStore",
        r#"error: Error::Other("a value must be at most 1048576 bytes long")"#,
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn swaps_of_many_pods_lose_nothing() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let pods = ["one", "two", "three"];
    for uid in pods {
        start(&node, &subject, uid, &["count b n 20", "add b m 1"], |_| {}).await;
    }
    for uid in pods {
        ended(&mut subject, uid).await;
    }
    assert_eq!(
        run(&node, &mut subject, "sum", &["get b n", "get b m"]).await,
        ["60", "3"]
    );
}

#[tokio::test]
async fn buckets_outlive_worker_and_agent() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    assert_eq!(run(&node, &mut subject, "before", &["set b k kept"]).await, ["set"]);
    kill(node.worker("contract"));
    drop(subject);
    let mut subject = node.runtime().await;
    assert_eq!(
        run(&node, &mut subject, "after", &["get b k", "add b n 1"]).await,
        ["kept", "1"]
    );
}

#[tokio::test]
async fn namespaces_have_buckets_of_their_own() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    assert_eq!(run(&node, &mut subject, "mine", &["set b k secret"]).await, ["set"]);
    let image = node.registry.push("capable", capable());
    let mut sandbox = subject.sandbox("theirs");
    sandbox.namespace = "other".to_owned();
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let mut spec = subject.container("theirs", "main", 0, &image).await;
    spec.args = ["capable", "get b k", "list b"].map(str::to_owned).to_vec();
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container("theirs", "main").await.unwrap();
    ended(&mut subject, "theirs").await;
    assert_eq!(
        node.lines("theirs", "main"),
        ["none", "0 keys in 1 pages, .., sorted true"]
    );
}

#[tokio::test]
async fn who_looks_for_the_drain_is_given_the_time_to_end() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let steps = ["draining", "drain 3600000", "draining"];
    start(&node, &subject, "heeds", &steps, |_| {}).await;
    node.until_logged("heeds", "main").await;
    subject.runtime.stop_container("heeds", "main", 600).await.unwrap();
    let end = ended(&mut subject, "heeds").await;
    assert_eq!(end.exit_code, 0, "it came to its own end: {end:?}");
    assert_eq!(node.lines("heeds", "main"), ["false", "true", "true"]);
}

#[tokio::test]
async fn a_command_that_tells_its_readiness_is_not_ready_before() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &subject, "gate", &["ready true", "drain 3600000"], |_| {}).await;
    start(&node, &subject, "shut", &["drain 3600000"], |_| {}).await;
    subject.until("gate", "main", |c| c.ready).await;
    let shut = subject
        .until("shut", "main", |c| c.phase == ContainerPhase::Running)
        .await;
    assert!(!shut.ready, "{shut:?}");
    let plain = subject.runs.clone();
    subject.start("plain", "main", 0, &plain).await;
    assert!(
        subject
            .until("plain", "main", |c| c.phase == ContainerPhase::Running)
            .await
            .ready
    );
}
