//! Identities over a real connection, and what the log says of them.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::authn::testing::TestServer;
use crate::test_server::TOKEN;

/// One request on a connection of its own; status and body.
async fn ask(
    test: &TestServer,
    address: SocketAddr,
    identity: Option<(&str, &str)>,
    request: hyper::http::request::Builder,
    body: &str,
) -> (u16, String) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(test.pki.ca_der().clone()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = request
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn certificates_tokens_and_passwords_over_tls() {
    let test = TestServer::start().await;
    let address = test.listen().await;
    let review = async |identity, authorization: Option<&str>| {
        let mut request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let (status, body) = ask(&test, address, identity, request, "{}").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        (
            status,
            answer.pointer("/status/userInfo/username").cloned().unwrap_or_default(),
        )
    };
    assert_eq!(
        review(Some(test.pki.admin()), None).await,
        (201, json!("kubernetes-admin"))
    );
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(review(None, Some(&bearer)).await, (201, json!("tester")));
    assert_eq!(review(None, None).await, (403, Value::Null));
    assert_eq!(review(None, Some("Bearer wrong")).await, (401, Value::Null));
    // A certificate comes first, whatever else is shown.
    assert_eq!(
        review(Some(test.pki.admin()), Some("Bearer wrong")).await,
        (201, json!("kubernetes-admin"))
    );

    // As clients of OCI registries log in: x:test-token.
    let catalog = async |authorization: Option<&str>| {
        let mut request = Request::get("/v2/_catalog");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        ask(&test, address, None, request, "").await
    };
    assert_eq!(
        catalog(Some("Basic eDp0ZXN0LXRva2Vu")).await,
        (200, json!({"repositories": []}).to_string())
    );
    assert_eq!(catalog(Some("Basic eDp3cm9uZw==")).await.0, 401);
    assert_eq!(catalog(None).await.0, 401);
}

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.lock().unwrap().push_str(&format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

#[tokio::test]
async fn no_token_is_ever_logged() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    let test = TestServer::start().await;
    let address = test.listen().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    test.create(
        accounts,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}}),
    )
    .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = test.create(&format!("{accounts}/sa/token"), request).await;
    let issued = skiff_api::object::str_at(&made, "/status/token").to_owned();
    let wrong = "canary-4711";
    let basic = "eDpjYW5hcnktNDcxMQ==";
    for authorization in [
        format!("Bearer {TOKEN}"),
        format!("Bearer {issued}"),
        format!("Bearer {wrong}"),
        format!("Basic {basic}"),
    ] {
        for path in ["/api/v1/pods", "/v2/", "/skiff/v1/join", "/version"] {
            let request = Request::get(path).header("authorization", authorization.as_str());
            ask(&test, address, None, request, "").await;
        }
    }
    let review = json!({"spec": {"token": wrong}});
    test.post(
        crate::authn::testing::admin(),
        "/apis/authentication.k8s.io/v1/tokenreviews",
        &review,
    )
    .await;
    drop(guard);
    let text = log.0.lock().unwrap().clone();
    assert!(text.contains("/api/v1/pods"), "the log is seen at all: {text}");
    for secret in [TOKEN, &issued, wrong, basic, "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{secret} was logged");
    }
}
