//! Logs over HTTP/2, as through the tunnel.

use std::io::Write;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::harness::Harness;
use crate::server::Shared;

async fn ask(harness: &Harness, path: &str) -> Response<Incoming> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let shared = Shared(harness.agent.as_ref().unwrap().server());
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(server), shared),
    );
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(client))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://node{path}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await.unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn write(harness: &Harness, attempt: u32, line: &str) {
    let directory = harness.directory.path().join("logs/pods/default_web_web/web");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{attempt}.log"));
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "2026-01-01T00:00:00Z stdout F {line}").unwrap();
}

#[tokio::test]
async fn logs_of_this_and_the_previous_container() {
    let harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    write(&harness, 0, "first");
    assert_eq!(
        text(ask(&harness, "/containerLogs/default/web/web").await).await,
        "first\n"
    );
    harness.runtime.exit("web", "web", 1, "Error", "");
    harness
        .eventually("a restart", || harness.container("web")["restartCount"] == 1)
        .await;
    harness.running("web").await;
    write(&harness, 1, "second");
    assert_eq!(
        text(ask(&harness, "/containerLogs/default/web/web?tailLines=5").await).await,
        "second\n"
    );
    assert_eq!(
        text(ask(&harness, "/containerLogs/default/web/web?previous=true").await).await,
        "first\n"
    );
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let harness = Harness::start().await;
    harness.create("web", json!({ "restartPolicy": "Never" }));
    harness.running("web").await;
    write(&harness, 0, "one");
    let mut body = ask(&harness, "/containerLogs/default/web/web?follow=true")
        .await
        .into_body();
    // The end of a stream may come as an empty piece.
    let mut next = async || {
        let frame = body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
        frame.filter(|data| !data.is_empty())
    };
    assert_eq!(next().await.unwrap(), "one\n");
    write(&harness, 0, "two");
    assert_eq!(next().await.unwrap(), "two\n");
    write(&harness, 0, "three");
    harness.runtime.exit("web", "web", 0, "Completed", "");
    assert_eq!(next().await.unwrap(), "three\n");
    assert!(next().await.is_none());
}

#[tokio::test]
async fn errors_are_a_status_with_kubelets_text() {
    let harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    for (path, code, message) in [
        ("/containerLogs/default/other/web", 404, "pod does not exist"),
        (
            "/containerLogs/default/web/other",
            404,
            "container \"other\" not found in pod \"web_default\"",
        ),
        (
            "/containerLogs/default/web/web?previous=true",
            400,
            "previous terminated container \"web\" in pod \"web\" not found",
        ),
        (
            "/proxy/default/web/web",
            404,
            "the server could not find the requested resource",
        ),
    ] {
        let response = ask(&harness, path).await;
        assert_eq!(response.status(), code, "{path}");
        let status: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(status["message"], message, "{path}");
    }
}
