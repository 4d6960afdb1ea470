//! Limits that a pod's annotations set, met on purpose; and that instances leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;

use common::serving::{OK, ask, ask_whole, connect, serve, start};
use common::{Node, guests};
use skiff_runtime::{ContainerPhase, Mount};
use tokio::net::TcpSocket;

#[tokio::test]
async fn requests_over_the_limit_and_the_queue_are_answered_503() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let module = guests::server("(loop $l (br $l))", "");
    let annotations = [("skiff.dev/requests", "1"), ("request-queue.skiff.dev/web", "0")];
    let ip = serve(&node, &mut subject, "full", module, &annotations).await;
    let (mut one, mut other) = (connect(ip).await, connect(ip).await);
    // Whichever came first has the only turn and spins; the other is answered.
    let answer = tokio::select! {
        answer = ask_whole(&mut one) => answer,
        answer = ask_whole(&mut other) => answer,
    };
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn requests_over_the_limit_wait_in_the_queue() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    // Long enough for the others to come meanwhile.
    let busy = "(local.set $s (i32.const 10000000)) \
        (loop $l (br_if $l (local.tee $s (i32.sub (local.get $s) (i32.const 1)))))";
    let annotations = [("skiff.dev/requests", "1")];
    let ip = serve(&node, &mut subject, "queue", guests::server(busy, ""), &annotations).await;
    let asked = (0..20).map(|_| async move { ask(&mut connect(ip).await).await });
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer == OK), "{answers:?}");
}

#[tokio::test]
async fn a_request_over_its_deadline_is_answered_504() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let module = guests::server("(loop $l (br $l))", "");
    let annotations = [("skiff.dev/request-deadline", "300ms")];
    let ip = serve(&node, &mut subject, "slow", module, &annotations).await;
    assert_eq!(ask(&mut connect(ip).await).await, "HTTP/1.1 504 Gateway Timeout");
    assert!(node.log("slow", "web").contains("not done after 300ms"));
}

#[tokio::test]
async fn a_connection_too_many_is_closed() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let annotations = [("skiff.dev/connections", "1")];
    let ip = serve(&node, &mut subject, "narrow", guests::server("", ""), &annotations).await;
    let mut kept = connect(ip).await;
    assert_eq!(ask(&mut kept).await, OK);
    assert_eq!(ask(&mut connect(ip).await).await, "");
}

#[tokio::test]
async fn only_whom_ingress_names_and_the_node_are_served() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let annotations = [("ingress.skiff.dev/web", "none")];
    let ip = serve(&node, &mut subject, "shut", guests::server("", ""), &annotations).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(node.ip(), 0)).unwrap();
    let mut stranger = socket.connect(SocketAddr::new(ip, 8080)).await.unwrap();
    assert_eq!(ask(&mut stranger).await, "");
    // From 127.0.0.1, as probes come.
    assert_eq!(ask(&mut connect(ip).await).await, OK);
}

#[tokio::test]
async fn open_files_are_as_many_as_the_pod_says() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let host_path = node.dir.path().join("volume");
    std::fs::create_dir(&host_path).unwrap();
    for (uid, most, code) in [("three", "3", 33), ("none", "0", 99)] {
        let mount = Mount {
            host_path: host_path.clone(),
            container_path: "/data".into(),
            read_only: false,
        };
        let annotations = [("skiff.dev/open-files", most)];
        start(
            &node,
            &mut subject,
            uid,
            guests::hogs_files(),
            &annotations,
            vec![mount],
        )
        .await;
        let ended = subject.until(uid, "web", |c| c.phase == ContainerPhase::Exited).await;
        // 99: having closed one it could not open another, for it never had one.
        assert_eq!(ended.exit_code, code, "{uid}");
    }
}

/// FAULTS.md G24. `SKIFF_SOAK_CYCLES=100000` for the whole.
#[tokio::test]
async fn instances_that_trap_leave_nothing_behind() {
    let cycles = std::env::var("SKIFF_SOAK_CYCLES").map_or(2000, |text| text.parse().unwrap());
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "soak", guests::server("unreachable", ""), &[]).await;
    let mut stream = connect(ip).await;
    let worker = node.worker("contract");
    let mut before = None;
    for cycle in 0..cycles {
        assert_eq!(
            ask(&mut stream).await,
            "HTTP/1.1 500 Internal Server Error",
            "cycle {cycle}"
        );
        // What is made once is there after the first tenth.
        if cycle == cycles / 10 {
            before = Some(held(worker));
        }
    }
    let ((rss, files, threads), (rss_after, files_after, threads_after)) = (before.unwrap(), held(worker));
    assert!(files_after <= files + 1, "{files} descriptors became {files_after}");
    assert!(threads_after <= threads + 1, "{threads} threads became {threads_after}");
    assert!(rss_after <= rss + (16 << 10), "{rss} KiB became {rss_after}");
}

/// KiB of memory, open descriptors and threads of a process.
fn held(pid: i32) -> (u64, usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (
        rss.trim().trim_end_matches(" kB").parse().unwrap(),
        count("fd"),
        count("task"),
    )
}
