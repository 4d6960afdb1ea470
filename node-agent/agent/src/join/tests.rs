//! Joining and the tunnel against a server with TLS.

use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::transport::provider;

/// A control plane that signs everything, with certificates of so many seconds.
struct Server {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    tls: Arc<rustls::ServerConfig>,
    life_seconds: i64,
    /// Authorization headers of join requests.
    bearers: Mutex<Vec<Option<String>>>,
    tunnels: mpsc::UnboundedSender<hyper::upgrade::Upgraded>,
}

async fn serve(life_seconds: i64) -> (Arc<Server>, String, mpsc::UnboundedReceiver<hyper::upgrade::Upgraded>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (tunnels, opened) = mpsc::unbounded_channel();
    let bearers = Mutex::default();
    let server = Arc::new(Server {
        ca_pem,
        issuer,
        tls: Arc::new(tls),
        life_seconds,
        bearers,
        tunnels,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let this = server.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let this = this.clone();
            tokio::spawn(async move {
                let acceptor = tokio_rustls::TlsAcceptor::from(this.tls.clone());
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = hyper::service::service_fn(move |request| {
                    let this = this.clone();
                    async move { Ok::<_, std::convert::Infallible>(this.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    (server, url, opened)
}

impl Server {
    async fn answer(&self, mut request: hyper::Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/skiff/v1/ca" => Response::new(Full::from(self.ca_pem.clone())),
            "/skiff/v1/join" => {
                let bearer = request
                    .headers()
                    .get("authorization")
                    .map(|value| value.to_str().unwrap().to_owned());
                self.bearers.lock().unwrap().push(bearer);
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let mut csr = CertificateSigningRequestParams::from_pem(body["csr"].as_str().unwrap()).unwrap();
                csr.params.not_before = std::time::SystemTime::now().into();
                let life = std::time::Duration::from_secs(self.life_seconds.unsigned_abs());
                csr.params.not_after = (std::time::SystemTime::now() + life).into();
                let certificate = csr.signed_by(&self.issuer).unwrap().pem();
                let body = serde_json::json!({ "certificate": certificate, "ca": self.ca_pem });
                Response::new(Full::from(body.to_string()))
            }
            crate::tunnel::PATH => {
                let tunnels = self.tunnels.clone();
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move { tunnels.send(upgrade.await.unwrap()) });
                let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
                let response = response
                    .header("connection", "upgrade")
                    .header("upgrade", "skiff-tunnel");
                response.body(Full::default()).unwrap()
            }
            _ => Response::builder().status(404).body(Full::default()).unwrap(),
        }
    }

    fn token(&self) -> String {
        format!(
            "skiff.{}.abcdef.0123456789abcdef",
            authority_hash(&self.ca_pem).unwrap()
        )
    }
}

#[test]
fn a_token_names_the_authority_and_carries_the_secret() {
    let hash = "ab".repeat(32);
    let token = JoinToken::parse(&format!("skiff.{hash}.abcdef.0123456789abcdef\n")).unwrap();
    assert_eq!(
        token,
        JoinToken {
            ca_hash: hash,
            bearer: "abcdef.0123456789abcdef".to_owned()
        }
    );
    for bad in ["", "skiff", "skiff.12.a.b", "other.aa.b.c"] {
        assert!(JoinToken::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_node_without_certificate_or_token_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let error = load_or_join("https://127.0.0.1:1", None, directory.path(), "n1")
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("no join token was given"), "{error}");
}

#[tokio::test]
async fn a_node_joins_once_and_keeps_its_identity() {
    let (server, url, _) = serve(3600).await;
    let directory = tempfile::tempdir().unwrap();
    let identity = load_or_join(&url, Some(&server.token()), directory.path(), "n1")
        .await
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(identity.key_path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        *server.bearers.lock().unwrap(),
        [Some("Bearer abcdef.0123456789abcdef".to_owned())]
    );
    // Without a token, from disk; a fresh certificate is not renewed.
    let again = load_or_join(&url, None, directory.path(), "n1").await.unwrap();
    assert!(!renew_if_due(&again).await.unwrap());
    assert_eq!(server.bearers.lock().unwrap().len(), 1);
    // Another name is another node.
    assert!(load_or_join(&url, None, directory.path(), "n2").await.is_err());
}

#[tokio::test]
async fn an_authority_that_the_token_does_not_name_is_not_trusted() {
    let (server, url, _) = serve(3600).await;
    let (other, _, _) = serve(3600).await;
    let directory = tempfile::tempdir().unwrap();
    let error = load_or_join(&url, Some(&other.token()), directory.path(), "n1")
        .await
        .err()
        .unwrap();
    assert!(matches!(error, AgentError::WrongAuthority { .. }), "{error}");
    assert!(server.bearers.lock().unwrap().is_empty(), "the secret must not be sent");
}

#[tokio::test]
async fn a_certificate_near_its_end_is_renewed_with_itself_as_credential() {
    let (server, url, _) = serve(1).await;
    let directory = tempfile::tempdir().unwrap();
    let identity = load_or_join(&url, Some(&server.token()), directory.path(), "n1")
        .await
        .unwrap();
    let before = std::fs::read(identity.certificate_path()).unwrap();
    // Two thirds of a life of one second are over within the second.
    while !renew_if_due(&identity).await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert_ne!(std::fs::read(identity.certificate_path()).unwrap(), before);
    assert_eq!(server.bearers.lock().unwrap()[1], None);
}

#[test]
fn renewal_is_due_when_a_third_of_the_life_is_left() {
    let facts = CertificateFacts {
        common_name: String::new(),
        not_before: 0,
        not_after: 300,
    };
    assert!(!facts.is_due(199));
    assert!(facts.is_due(200));
}

#[tokio::test]
async fn the_tunnel_serves_over_the_connection_that_the_node_opened_and_comes_back() {
    let (server, url, mut opened) = serve(3600).await;
    let directory = tempfile::tempdir().unwrap();
    let identity = load_or_join(&url, Some(&server.token()), directory.path(), "n1")
        .await
        .unwrap();
    let client = crate::client(&identity).unwrap();
    let config = crate::AgentConfig::new(identity, directory.path().to_owned(), [127, 0, 0, 1].into());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let agent = crate::agent::Agent::start(config, client, Vec::new(), shutdown.clone()).unwrap();
    for _ in 0..2 {
        let upgraded = TokioIo::new(opened.recv().await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(upgraded));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get("http://node/healthz")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        // The control plane goes away; the node opens another one.
        connection.abort();
    }
    shutdown.cancel();
    drop(agent);
}
