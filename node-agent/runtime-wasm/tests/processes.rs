//! Workers as processes: they outlive the runtime, their deaths cost one namespace, and damaged code is never run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Node, guests, kill};
use skiff_runtime::ContainerPhase;
use skiff_runtime::contract::Subject;

async fn running(subject: &mut Subject, uid: &str, namespace: &str) {
    let mut sandbox = subject.sandbox(uid);
    sandbox.namespace = namespace.into();
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let spec = subject.container(uid, "main", 0, &subject.runs.clone()).await;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "main").await.unwrap();
    subject.until(uid, "main", |c| c.phase == ContainerPhase::Running).await;
}

#[tokio::test]
async fn a_new_runtime_adopts_the_workers_with_their_pods_running() {
    let node = Node::new();
    let mut first = node.runtime().await;
    running(&mut first, "a", "one").await;
    running(&mut first, "b", "two").await;
    let before = (
        first.state("a", "main").await.unwrap(),
        node.worker("one"),
        node.worker("two"),
    );
    drop(first);
    let mut second = node.runtime().await;
    let after = (
        second.state("a", "main").await.unwrap(),
        node.worker("one"),
        node.worker("two"),
    );
    assert_eq!(
        (&before.0.id, before.0.started_at, before.0.phase),
        (&after.0.id, after.0.started_at, after.0.phase)
    );
    assert_eq!((before.1, before.2), (after.1, after.2));
    assert_eq!(second.runtime.list().await.unwrap().len(), 2);
    // And they can be worked with: their ends are told.
    second.runtime.stop_container("a", "main", 1).await.unwrap();
    second.until("a", "main", |c| c.phase == ContainerPhase::Exited).await;
    second.runtime.remove_sandbox("b").await.unwrap();
    assert!(second.runtime.inspect("b").await.unwrap().is_none());
}

#[tokio::test]
async fn a_killed_worker_costs_its_namespace_and_is_replaced() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    running(&mut subject, "a", "one").await;
    running(&mut subject, "b", "two").await;
    let (dead, other) = (node.worker("one"), node.worker("two"));
    kill(dead);
    let ended = subject.until("a", "main", |c| c.phase == ContainerPhase::Exited).await;
    assert_eq!(
        (ended.exit_code, ended.reason.as_str(), ended.message.as_str()),
        (137, "Error", "worker died")
    );
    assert_eq!(subject.state("b", "main").await.unwrap().phase, ContainerPhase::Running);
    assert_eq!(node.worker("two"), other);
    // The next attempt gets a new worker; the sandbox need not be made again.
    let spec = subject.container("a", "main", 1, &subject.runs.clone()).await;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container("a", "main").await.unwrap();
    let again = subject.until("a", "main", |c| c.phase == ContainerPhase::Running).await;
    assert_eq!(again.attempt, 1);
    assert_ne!(node.worker("one"), dead);
}

#[tokio::test]
async fn damaged_code_is_found_and_compiled_again() {
    let node = Node::new();
    let first = node.runtime().await;
    let image = first.exits_3.clone();
    first.runtime.ensure_image(&image, true, &[]).await.unwrap();
    drop(first);
    for file in ["cwasm", "json"] {
        let path = node.compiled(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut subject = node.runtime().await;
        let uid = format!("after-{file}");
        subject.start(&uid, "main", 0, &image).await;
        let ended = subject.until(&uid, "main", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!(ended.exit_code, 3);
        subject.runtime.remove_sandbox(&uid).await.unwrap();
        // The next round needs a worker that has not loaded it yet.
        kill(node.worker("contract"));
    }
}

#[tokio::test]
async fn an_image_that_is_here_needs_no_registry() {
    let node = Node::new();
    let first = node.runtime().await;
    let image = first.exits_0.clone();
    let pulled = first.runtime.ensure_image(&image, true, &[]).await.unwrap();
    drop(first);
    node.registry.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut subject = node.runtime().await;
    assert_eq!(subject.runtime.ensure_image(&image, false, &[]).await.unwrap(), pulled);
    let by_digest = format!("skiff.local/exits-0@{}", pulled.digest);
    assert_eq!(
        subject
            .runtime
            .ensure_image(&by_digest, true, &[])
            .await
            .unwrap()
            .digest,
        pulled.digest
    );
    let error = subject
        .runtime
        .ensure_image("skiff.local/other:1", true, &[])
        .await
        .expect_err("down");
    assert_eq!(error.reason(), "ErrImagePull");
    subject.start("offline", "main", 0, &by_digest).await;
    subject
        .until("offline", "main", |c| c.phase == ContainerPhase::Exited)
        .await;
}

#[tokio::test]
async fn a_module_is_compiled_once_however_many_ask() {
    let node = Node::new();
    let subject = node.runtime().await;
    let image = node.registry.push("shared", guests::prints("x"));
    let asking = (0..8).map(|_| subject.runtime.ensure_image(&image, true, &[]));
    let images = futures::future::try_join_all(asking).await.unwrap();
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    let compiled = node.compiled("cwasm");
    let engines = compiled.parent().unwrap();
    assert_eq!(
        std::fs::read_dir(engines).unwrap().count(),
        2,
        "one file and its record"
    );
}

#[tokio::test]
async fn collecting_garbage_removes_unused_images_with_their_code() {
    let node = Node::new();
    let subject = node.runtime().await;
    let (kept, unused) = (subject.exits_0.clone(), subject.exits_3.clone());
    subject.runtime.ensure_image(&kept, true, &[]).await.unwrap();
    let compiled = node.compiled("cwasm");
    subject.runtime.ensure_image(&unused, true, &[]).await.unwrap();
    assert!(subject.runtime.collect_images(&[kept].into()).await.unwrap() > 0);
    assert_eq!(node.compiled("cwasm"), compiled, "only the kept module's code is left");
}
