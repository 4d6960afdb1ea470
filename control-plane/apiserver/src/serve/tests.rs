//! Hostile clients: each is ended or refused, and none of them holds anything for long. Deadlines are shortened; a test
//! passes as soon as the server acts, and `LIMIT` only turns a hang into a failure.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::Response;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use skiff_api::status::ApiResult;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::Body;
use crate::limits::Timeouts;
use crate::plugins::{Access, PluginRequest, Route};
use crate::server::ApiServer;
use crate::test_server::{TOKEN, TestServer};

const LIMIT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

async fn server() -> (TestServer, std::net::SocketAddr) {
    let timeouts = Timeouts {
        handshake: SHORT,
        first_bytes: SHORT,
        header: SHORT,
        write_stall: SHORT,
        body_base: SHORT,
    };
    let server = TestServer::customised(|server| {
        server.timeouts = timeouts;
        server.plugins.routes.push(Arc::new(Panics));
    })
    .await;
    let address = server.listen().await;
    (server, address)
}

/// A handler with a bug.
struct Panics;

#[async_trait]
impl Route for Panics {
    fn prefix(&self) -> &'static str {
        "/panics"
    }
    fn access(&self) -> Access {
        Access::Open
    }
    async fn handle(&self, _server: &Arc<ApiServer>, _request: PluginRequest) -> ApiResult<Response<Body>> {
        panic!("a bug, for the test")
    }
}

async fn tls(server: &TestServer, address: std::net::SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(server.pki.ca_der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// Everything until the server closes.
async fn until_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = Vec::new();
    // An abrupt end is an end too.
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut read))
        .await
        .expect("the server closes in time");
    String::from_utf8_lossy(&read).into_owned()
}

/// Sends text on a new HTTP/1.1 connection and reads until the server closes.
async fn exchange(text: String) -> String {
    let (server, address) = server().await;
    let mut stream = tls(&server, address, b"http/1.1").await;
    // The server may close before it has read everything.
    let _ = stream.write_all(text.as_bytes()).await;
    until_closed(&mut stream).await
}

fn head(extra: &str) -> String {
    format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n{extra}\r\n"
    )
}

fn status_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or("")
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let (_server, address) = server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(until_closed(&mut stream).await, "");
}

#[tokio::test]
async fn silence_after_the_handshake_is_closed() {
    let (server, address) = server().await;
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let mut stream = tls(&server, address, protocol).await;
        until_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn half_a_preface_is_closed() {
    let (server, address) = server().await;
    let mut stream = tls(&server, address, b"h2").await;
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    until_closed(&mut stream).await;
}

#[tokio::test]
async fn half_a_head_is_closed() {
    let answer = exchange("GET / HTTP/1.1\r\nhost: x\r\nx-slow: a".into()).await;
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let answer = exchange(head("content-type: application/json\r\ncontent-length: 100\r\n") + "{").await;
    assert_eq!(status_line(&answer), "HTTP/1.1 408 Request Timeout");
}

#[tokio::test]
async fn an_announced_huge_body_is_refused_unread() {
    let answer = exchange(head("content-length: 4000000\r\n")).await;
    assert_eq!(status_line(&answer), "HTTP/1.1 413 Payload Too Large");
}

#[tokio::test]
async fn an_unannounced_huge_body_is_refused_at_the_limit() {
    let mut text = head("transfer-encoding: chunked\r\n");
    let chunk = format!("{:x}\r\n{}\r\n", 0x10_0000, "x".repeat(0x10_0000));
    for _ in 0..4 {
        text.push_str(&chunk);
    }
    let answer = exchange(text).await;
    assert_eq!(status_line(&answer), "HTTP/1.1 413 Payload Too Large");
}

#[tokio::test]
async fn deep_json_is_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let body = format!("{{\"data\":{}1{}}}", open.repeat(100_000), close.repeat(100_000));
        let answer = exchange(head(&format!("content-length: {}\r\n", body.len())) + &body).await;
        assert_eq!(status_line(&answer), "HTTP/1.1 400 Bad Request");
    }
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let headers: String = (0..1000).map(|i| format!("x-{i}: a\r\n")).collect();
    let answer = exchange(head(&headers)).await;
    assert_eq!(status_line(&answer), "HTTP/1.1 431 Request Header Fields Too Large");
}

#[tokio::test]
async fn an_endless_header_is_refused() {
    let answer = exchange(head(&format!("x: {}\r\n", "a".repeat(1_000_000)))).await;
    assert_eq!(status_line(&answer), "HTTP/1.1 431 Request Header Fields Too Large");
}

#[tokio::test]
async fn a_panic_costs_its_own_request_only() {
    let (server, address) = server().await;
    let mut stream = tls(&server, address, b"http/1.1").await;
    let request = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{last}\r\n");
    let both = request("/panics", "") + &request("/version", "connection: close\r\n");
    stream.write_all(both.as_bytes()).await.unwrap();
    let answers = until_closed(&mut stream).await;
    assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
    assert!(answers.contains("HTTP/1.1 200 OK"), "{answers}");
}

#[tokio::test]
async fn path_tricks_reach_nothing() {
    let (server, address) = server().await;
    for path in [
        "/api/v1/namespaces/default/../../nodes",
        "/api/v1//pods",
        "/api/v1/namespaces/a%2fb/pods",
        "/apis/%2e%2e/x/y",
    ] {
        let mut stream = tls(&server, address, b"http/1.1").await;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert_eq!(status_line(&answer), "HTTP/1.1 404 Not Found", "{path}");
    }
}

#[tokio::test]
async fn bad_credentials_are_unauthorized_and_none_are_anonymous() {
    let (server, address) = server().await;
    for (header, expected) in [
        ("authorization: Bearer wrong\r\n", "HTTP/1.1 401 Unauthorized"),
        ("", "HTTP/1.1 403 Forbidden"),
        ("authorization: Bearer user-token\r\n", "HTTP/1.1 403 Forbidden"),
    ] {
        let mut stream = tls(&server, address, b"http/1.1").await;
        let request = format!("GET /api/v1/secrets HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status_line(&until_closed(&mut stream).await), expected);
    }
}
