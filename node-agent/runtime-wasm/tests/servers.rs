//! Servers: a fresh instance per request, and what a bad one costs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use bytes::Bytes;
use common::{Node, guests};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skiff_runtime::ContainerPhase;
use skiff_runtime::contract::Subject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Starts a server of this module and waits until it runs.
async fn serve(node: &Node, subject: &mut Subject, uid: &str, module: Vec<u8>, memory: Option<u64>) -> IpAddr {
    serve_with(node, subject, uid, module, memory, &[]).await
}

/// The same, with annotations.
async fn serve_with(
    node: &Node,
    subject: &mut Subject,
    uid: &str,
    module: Vec<u8>,
    memory: Option<u64>,
    annotations: &[(&str, &str)],
) -> IpAddr {
    subject.ip = node.ip();
    let image = node.registry.push(uid, module);
    let mut sandbox = subject.sandbox(uid);
    let annotations = annotations
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    sandbox.annotations.extend(annotations);
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let mut spec = subject.container(uid, "web", 0, &image).await;
    spec.ports = vec![8080];
    spec.resources.memory_limit_bytes = memory;
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container(uid, "web").await.unwrap();
    subject.until(uid, "web", |c| c.phase == ContainerPhase::Running).await;
    subject.ip
}

/// Status and body. Errors: the connection broke off before the end of the response.
async fn try_get_at(ip: IpAddr, path: &str) -> Result<(StatusCode, String), hyper::Error> {
    let stream = TcpStream::connect((ip, 8080)).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "pod")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?;
    Ok((status, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
}

async fn try_get(ip: IpAddr) -> Result<(StatusCode, String), hyper::Error> {
    try_get_at(ip, "/").await
}

async fn get(ip: IpAddr) -> (StatusCode, String) {
    try_get(ip).await.expect("a whole response")
}

#[tokio::test]
async fn a_server_answers_and_each_request_has_an_instance_of_its_own() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    // Answers only while its memory is as new, and dirties it.
    let module = guests::server(
        "(if (i32.load (i32.const 1000)) (then unreachable)) (i32.store (i32.const 1000) (i32.const 1))",
        "",
    );
    let ip = serve(&node, &mut subject, "hello", module, None).await;
    for _ in 0..20 {
        let (status, body) = get(ip).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "hello from wasm\n"));
    }
    assert_eq!(
        subject.state("hello", "web").await.unwrap().memory_bytes,
        0,
        "idle servers hold no instance"
    );
}

#[tokio::test]
async fn an_instance_serves_as_many_requests_as_asked_unless_it_fails() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    // Counts its requests, and traps at the third.
    let module = guests::server(
        "(if (i32.eq (i32.load (i32.const 1000)) (i32.const 2)) (then unreachable))
        (i32.store (i32.const 1000) (i32.add (i32.load (i32.const 1000)) (i32.const 1)))",
        "",
    );
    let mut answers = Vec::new();
    for reuse in ["2", "9"] {
        let annotations = [("skiff.dev/instance-reuse", reuse)];
        let uid = format!("reuse-{reuse}");
        let ip = serve_with(&node, &mut subject, &uid, module.clone(), None, &annotations).await;
        for _ in 0..6 {
            answers.push(get(ip).await.0.as_u16());
        }
    }
    assert_eq!(answers, [200, 200, 200, 200, 200, 200, 200, 200, 500, 200, 200, 500]);
}

#[tokio::test]
async fn http_2_is_spoken_with_prior_knowledge() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "h2", guests::server("", ""), None).await;
    let stream = TcpStream::connect((ip, 8080)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://pod/").body(Empty::<Bytes>::new()).unwrap();
    let body = sender
        .send_request(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "hello from wasm\n");
}

#[tokio::test]
async fn a_request_that_traps_costs_that_request() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "traps", guests::server("unreachable", ""), None).await;
    for _ in 0..3 {
        assert_eq!(get(ip).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(
        subject.state("traps", "web").await.unwrap().phase,
        ContainerPhase::Running
    );
    let log = node.log("traps", "web");
    assert!(
        log.contains("request GET / failed") && log.contains("unreachable"),
        "{log}"
    );
}

#[tokio::test]
async fn a_body_whose_guest_failed_breaks_off() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "half", guests::server("", "unreachable"), None).await;
    assert!(try_get(ip).await.is_err(), "half a body must not look whole");
}

#[tokio::test]
async fn running_out_of_memory_ends_the_container() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let hog = guests::server("(loop $l (drop (memory.grow (i32.const 1))) (br $l))", "");
    let ip = serve(&node, &mut subject, "hog", hog, Some(1 << 20)).await;
    let mut stream = TcpStream::connect((ip, 8080)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: pod\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    let ended = subject.until("hog", "web", |c| c.phase == ContainerPhase::Exited).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"), "{answer}");
}

#[tokio::test]
async fn a_spinning_request_delays_no_other() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let spinner = serve(
        &node,
        &mut subject,
        "spins",
        guests::server("(loop $l (br $l))", ""),
        None,
    )
    .await;
    let hello = serve(&node, &mut subject, "hello", guests::server("", ""), None).await;
    let mut spinning = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect((spinner, 8080)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: pod\r\n\r\n").await.unwrap();
        spinning.push(stream);
    }
    for _ in 0..10 {
        assert_eq!(get(hello).await.0, StatusCode::OK);
    }
    // Their clients leave: nothing goes on spinning, and the stop has nothing to wait for.
    drop(spinning);
    subject.runtime.stop_container("spins", "web", 600).await.unwrap();
    let ended = subject
        .until("spins", "web", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"));
}

#[tokio::test]
async fn a_stopped_server_frees_its_port() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "first", guests::server("", ""), None).await;
    assert_eq!(get(ip).await.0, StatusCode::OK);
    subject.runtime.stop_container("first", "web", 30).await.unwrap();
    subject
        .until("first", "web", |c| c.phase == ContainerPhase::Exited)
        .await;
    assert!(TcpStream::connect((ip, 8080)).await.is_err());
    let image = node.registry.push("first", guests::server("", ""));
    let mut spec = subject.container("first", "web", 1, &image).await;
    spec.ports = vec![8080];
    subject.runtime.create_container(&spec).await.unwrap();
    subject.runtime.start_container("first", "web").await.unwrap();
    assert_eq!(get(ip).await.0, StatusCode::OK);
    // Another container on the same address and port cannot start.
    let mut spec = subject.container("first", "second", 0, &image).await;
    spec.ports = vec![8080];
    subject.runtime.create_container(&spec).await.unwrap();
    let error = subject
        .runtime
        .start_container("first", "second")
        .await
        .expect_err("taken");
    assert_eq!(error.reason(), "RunContainerError");
}

#[tokio::test]
async fn a_request_without_a_host_is_a_bad_request() {
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "hello", guests::server("", ""), None).await;
    let mut stream = TcpStream::connect((ip, 8080)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
}

#[tokio::test]
async fn a_server_built_from_rust_answers() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wasm-examples/prebuilt/hello-http.wasm");
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(
        &node,
        &mut subject,
        "rust",
        std::fs::read(path).unwrap(),
        Some(64 << 20),
    )
    .await;
    let (status, body) = get(ip).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

#[tokio::test]
async fn a_server_of_wasi_0_3_answers_and_its_failures_cost_their_requests() {
    let module = common::encode(include_bytes!("fixtures/server-p3.wasm"));
    let node = Node::new();
    let mut subject = node.runtime().await;
    let ip = serve(&node, &mut subject, "p3", module, Some(64 << 20)).await;
    for _ in 0..3 {
        assert_eq!(get(ip).await, (StatusCode::OK, "hello from wasm\n".to_owned()));
        assert_eq!(
            try_get_at(ip, "/trap").await.unwrap().0,
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
    let mut spinning = TcpStream::connect((ip, 8080)).await.unwrap();
    spinning
        .write_all(b"GET /spin HTTP/1.1\r\nhost: pod\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(get(ip).await.0, StatusCode::OK);
    drop(spinning);
    subject.runtime.stop_container("p3", "web", 600).await.unwrap();
    let ended = subject.until("p3", "web", |c| c.phase == ContainerPhase::Exited).await;
    assert_eq!(ended.exit_code, 0);
}
