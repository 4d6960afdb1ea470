//! What containers use: exact, told as it changes, and with every limit that was met.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Node, guests};
use skiff_runtime::contract::Subject;
use skiff_runtime::usage::SeriesValue;
use skiff_runtime::{ContainerPhase, ContainerUsage, Usage};

async fn start(subject: &mut Subject, uid: &str, image: &str, attempt: u32, memory: Option<u64>) {
    subject.runtime.create_sandbox(&subject.sandbox(uid)).await.unwrap();
    let mut spec = subject.container(uid, "main", attempt, image).await;
    spec.resources.memory_limit_bytes = memory;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "main").await.unwrap();
}

async fn ended(subject: &mut Subject, uid: &str) {
    subject.until(uid, "main", |c| c.phase == ContainerPhase::Exited).await;
}

fn of<'a>(usage: &'a Usage, uid: &str) -> &'a ContainerUsage {
    usage.containers.iter().find(|c| c.pod_uid == uid).expect("told")
}

#[tokio::test]
async fn a_met_limit_is_counted_over_the_attempts_of_its_container() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let hog = node.registry.push("hog", guests::hogs_memory());
    for attempt in 0..2 {
        start(&mut subject, "hog", &hog, attempt, Some(300_000)).await;
        ended(&mut subject, "hog").await;
    }
    let deep = node.registry.push("deep", guests::overflows_stack());
    start(&mut subject, "deep", &deep, 0, None).await;
    ended(&mut subject, "deep").await;
    let usage = subject.runtime.usage().await.unwrap();
    assert_eq!(of(&usage, "hog").limit_hits, [("memory".to_owned(), 2)]);
    assert_eq!(of(&usage, "deep").limit_hits, [("stack".to_owned(), 1)]);
}

#[tokio::test]
async fn figures_are_of_now_and_an_adopting_agent_is_told_them_all() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let (spins, sleeps) = (
        node.registry.push("spins", guests::spins()),
        node.registry.push("sleeps", guests::sleeps()),
    );
    start(&mut subject, "spins", &spins, 0, None).await;
    start(&mut subject, "sleeps", &sleeps, 0, None).await;
    let mut used = Vec::new();
    // Nothing but the question makes the worker tell: the pods' states do not change any more.
    while used.len() < 3 {
        let usage = subject.runtime.usage().await.unwrap();
        let now = of(&usage, "spins").figures.cpu_nanos;
        assert!(used.last().is_none_or(|last| now >= *last));
        if used.last() != Some(&now) {
            used.push(now);
        }
    }
    let usage = subject.runtime.usage().await.unwrap();
    let idle = of(&usage, "sleeps");
    assert_eq!((idle.figures.memory_bytes, idle.figures.instances), (64 << 10, 1));
    assert!(idle.running && idle.read_nanos > idle.figures.started_nanos && idle.figures.started_nanos > 0);

    let adopting = node.runtime().await;
    let adopted = adopting.runtime.usage().await.unwrap();
    assert_eq!(of(&adopted, "sleeps").figures, idle.figures);
    // Asked by both, each is told what changed since it asked itself.
    let again = subject.runtime.usage().await.unwrap();
    assert!(of(&again, "spins").figures.cpu_nanos >= of(&adopted, "spins").figures.cpu_nanos);
    subject.runtime.remove_sandbox("sleeps").await.unwrap();
    let less = subject.runtime.usage().await.unwrap();
    assert_eq!(less.containers.len(), 1);
}

#[tokio::test]
async fn a_worker_tells_its_pools_and_how_long_instances_took() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let sleeps = node.registry.push("sleeps", guests::sleeps());
    start(&mut subject, "sleeps", &sleeps, 0, None).await;
    loop {
        let usage = subject.runtime.usage().await.unwrap();
        let [worker] = &usage.hosts[..] else {
            panic!("one worker")
        };
        assert_eq!(worker.pid as i32, node.worker(&worker.name));
        assert!(worker.memory_bytes > 0 && worker.cpu_nanos >= worker.overhead_cpu_nanos);
        let value = |name: &str| &worker.series.iter().find(|series| series.name == name).unwrap().value;
        let SeriesValue::Histogram { buckets, .. } = value("skiff_wasm_instantiation_seconds") else {
            panic!("a histogram")
        };
        // The instance is made a moment after the container counts as started.
        if buckets.last().unwrap().1 == 1 {
            assert_eq!(*value("skiff_wasm_pool_memories"), SeriesValue::Gauge(1.0));
            return;
        }
    }
}
