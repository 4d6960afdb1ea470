//! Guests, and callers, that ask for more than anybody needs (FAULTS.md, group G).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::serving::{OK, REQUEST, ask, connect, serve, start};
use common::{Node, guests};
use skiff_runtime::ContainerPhase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Preview 1's "not enough memory".
const NOMEM: i32 = 48;

/// KiB of memory that a process had at most.
fn most_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What the host may hold of one body and for one more instance.
const SLACK_KIB: u64 = 16 << 10;

#[tokio::test]
async fn a_response_that_nobody_reads_is_not_kept() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let flood = "(loop $l (call $write (local.get $s) (i32.const 64) (i32.const 4096) (i32.const 0)) (br $l))";
    let annotations = [("skiff.dev/request-deadline", "2s")];
    let ip = serve(&node, &mut subject, "flood", guests::server("", flood), &annotations).await;
    let before = most_memory(node.worker("contract"));
    let mut stream = connect(ip).await;
    stream.write_all(REQUEST).await.unwrap();
    // Until its deadline it writes as fast as it can into what the kernel takes, and then has to wait.
    node.until_logged("flood", "web").await;
    let most = most_memory(node.worker("contract"));
    assert!(most <= before + SLACK_KIB, "{before} KiB became {most}");
    let mut body = Vec::new();
    let _ = stream.read_to_end(&mut body).await;
    assert!(
        body.starts_with(OK.as_bytes()) && body.len() < 64 << 20,
        "{}",
        body.len()
    );
    assert!(
        !body.ends_with(b"0\r\n\r\n"),
        "a body that broke off must not look whole"
    );
}

#[tokio::test]
async fn a_request_body_that_the_guest_does_not_read_is_not_taken() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let annotations = [("skiff.dev/request-deadline", "2s")];
    let spins = guests::server("(loop $l (br $l))", "");
    let ip = serve(&node, &mut subject, "deaf", spins, &annotations).await;
    let before = most_memory(node.worker("contract"));
    let mut stream = connect(ip).await;
    let head = b"POST / HTTP/1.1\r\nhost: pod\r\ncontent-length: 10000000000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let (piece, mut taken) = (vec![b'x'; 64 << 10], 0);
    // Ends when the connection is closed after the deadline.
    while let Ok(length) = stream.write(&piece).await {
        taken += length;
        assert!(taken < 64 << 20, "more than the kernel's buffers hold was taken");
    }
    let most = most_memory(node.worker("contract"));
    assert!(most <= before + SLACK_KIB, "{before} KiB became {most}");
}

#[tokio::test]
async fn a_large_request_body_goes_through_in_pieces() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    const PIECES: u32 = 2048;
    let module = guests::reads_its_request(PIECES << 16);
    let ip = serve(&node, &mut subject, "reads", module, &[]).await;
    let before = most_memory(node.worker("contract"));
    let mut stream = connect(ip).await;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: pod\r\ncontent-length: {}\r\n\r\n",
        PIECES << 16
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..PIECES {
        stream.write_all(&piece).await.unwrap();
    }
    let mut answer = vec![0; OK.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, OK.as_bytes());
    let most = most_memory(node.worker("contract"));
    assert!(most <= before + SLACK_KIB, "{before} KiB became {most}");
}

/// Seconds of CPU that a process has used.
fn cpu_of(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::test]
async fn a_storm_of_host_calls_is_charged_to_its_guest() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    start(&node, &mut subject, "storm", guests::storms(), &[], Vec::new()).await;
    let worker = node.worker("contract");
    let mut used = 0.0;
    while used < 1.0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        used = cpu_of(worker);
    }
    // The worker did little else than this guest's calls, loading it included.
    let usage = subject.runtime.usage().await.unwrap();
    let charged = usage.containers[0].figures.cpu_nanos as f64 / 1e9;
    assert!(charged > used / 2.0, "{charged} s of {used} s");
    for n in 0..5 {
        let uid = format!("quick-{n}");
        start(&node, &mut subject, &uid, guests::exits(0), &[], Vec::new()).await;
        let ended = subject.until(&uid, "web", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!(ended.exit_code, 0);
    }
    subject.runtime.stop_container("storm", "web", 600).await.unwrap();
    let ended = subject
        .until("storm", "web", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!(ended.exit_code, 143);
}

#[tokio::test]
async fn header_fields_are_bounded() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    const FAILED: &str = "HTTP/1.1 500 Internal Server Error";
    for (uid, fields, bytes, line) in [
        ("some", 1000, 1, OK),
        ("many", 40_000, 1, FAILED),
        ("large", 1, 1 << 20, FAILED),
    ] {
        let ip = serve(&node, &mut subject, uid, guests::makes_fields(fields, bytes), &[]).await;
        assert_eq!(ask(&mut connect(ip).await).await, line, "{uid}");
        if line == FAILED {
            let log = node.log(uid, "web");
            assert!(log.contains("total size of fields exceeds limit"), "{log}");
        }
    }
    let ip = serve(&node, &mut subject, "caller", guests::server("", ""), &[]).await;
    for fields in [200, 40_000] {
        let mut stream = connect(ip).await;
        let request = format!("GET / HTTP/1.1\r\nhost: pod\r\n{}\r\n", "a: b\r\n".repeat(fields));
        // It may be refused before it was heard out.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert_eq!(ask(&mut connect(ip).await).await, OK);
}

#[tokio::test]
async fn giant_arguments_are_refused() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    // 16 MiB in one call of a component: a trap.
    let ip = serve(&node, &mut subject, "giant", guests::makes_fields(1, 16 << 20), &[]).await;
    assert!(ask(&mut connect(ip).await).await.starts_with("HTTP/1.1 500 "));
    let usage = subject.runtime.usage().await.unwrap();
    assert_eq!(usage.containers[0].limit_hits, [("host-call-bytes".to_owned(), 1)]);
    // Two million buffers, a million things to wait for: preview 1 has an error for it.
    for (uid, module) in [
        ("buffers", guests::writes_buffers(2 << 20)),
        ("waits", guests::polls(1_000_000)),
    ] {
        start(&node, &mut subject, uid, module, &[], Vec::new()).await;
        let ended = subject.until(uid, "web", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!(ended.exit_code, NOMEM, "{uid}");
    }
}

#[tokio::test]
async fn a_sleep_of_a_hundred_years_can_be_stopped() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    for (uid, nanos) in [("century", 3_155_760_000_000_000_000), ("longest", u64::MAX)] {
        start(
            &node,
            &mut subject,
            uid,
            guests::says_and_sleeps(nanos),
            &[],
            Vec::new(),
        )
        .await;
        node.until_logged(uid, "web").await;
        subject.runtime.stop_container(uid, "web", 600).await.unwrap();
        let ended = subject.until(uid, "web", |c| c.phase == ContainerPhase::Exited).await;
        assert_eq!(ended.exit_code, 143, "{uid}");
    }
}
