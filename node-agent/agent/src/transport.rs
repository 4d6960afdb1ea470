//! The agent's way to the API server: TCP, TLS 1.2+ with a client certificate that can be exchanged while running, and
//! HTTP/1.1 or 2. One connection pool for everything that goes through `kube::Client`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower::Service;

use crate::error::AgentError;

/// A server that does not take a connection within this time is treated as absent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent HTTP/2 connection is asked for a sign of life this often, and given up after `PING_TIMEOUT`: a dead link
/// must be noticed well before the node is declared NotReady (40 s).
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The client certificate in use. Renewal replaces it; new connections present the new one.
#[derive(Debug)]
pub struct ClientCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ClientCertificate {
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AgentError> {
        Ok(Self {
            current: RwLock::new(certified_key(certificate_pem, key_pem)?),
        })
    }

    pub fn replace(&self, certificate_pem: &str, key_pem: &str) -> Result<(), AgentError> {
        let key = certified_key(certificate_pem, key_pem)?;
        *self.current.write().expect("no code panics while holding this lock") = key;
        Ok(())
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .expect("no code panics while holding this lock")
                .clone(),
        )
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified_key(certificate_pem: &str, key_pem: &str) -> Result<Arc<CertifiedKey>, AgentError> {
    let malformed = |why: String| AgentError::Malformed {
        attempted: "read the node's client certificate and key",
        why,
    };
    let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| malformed(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider())
        .map(Arc::new)
        .map_err(|error| malformed(error.to_string()))
}

/// Which server certificates are believed.
pub enum Trust<'a> {
    /// Those that this CA (PEM) signed.
    Authority(&'a str),
    /// Any: only for fetching the CA certificate itself, which is then checked against the token's pin.
    AnyForPinnedFetch,
}

pub fn tls_config(
    trust: Trust<'_>,
    certificate: Option<Arc<ClientCertificate>>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, AgentError> {
    let malformed = |why: String| AgentError::Malformed {
        attempted: "set up TLS",
        why,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| malformed(error.to_string()))?;
    let builder = match trust {
        Trust::Authority(ca_pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
                let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
                roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
            }
            builder.with_root_certificates(roots)
        }
        Trust::AnyForPinnedFetch => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer { provider: provider() })),
    };
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Connects to `host:port` of the URI and completes the TLS handshake.
pub async fn connect(config: Arc<ClientConfig>, uri: &Uri) -> Result<TlsStream<TcpStream>, BoxError> {
    let host = uri.host().ok_or("server URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.to_owned())?;
    let connecting = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
        Ok::<_, BoxError>(stream)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| "connection timed out")?
}

#[derive(Clone)]
struct Connector {
    config: Arc<ClientConfig>,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.config.clone();
        Box::pin(async move { Ok(Stream(TokioIo::new(connect(config, &uri).await?))) })
    }
}

/// A TLS stream that tells hyper which HTTP version was agreed on.
struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match self.0.inner().get_ref().1.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Sends requests to one server. Paths come from the request, scheme and authority from the base.
#[derive(Clone)]
pub struct Transport {
    base: Uri,
    client: Client<Connector, kube::client::Body>,
}

impl Transport {
    pub fn new(server_url: &str, config: Arc<ClientConfig>) -> Result<Self, AgentError> {
        let base: Uri = server_url
            .trim_end_matches('/')
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| AgentError::Malformed {
                attempted: "read the server URL",
                why: error.to_string(),
            })?;
        if base.scheme_str() != Some("https") || base.host().is_none() {
            let why = format!("{server_url:?} is not of the form https://HOST:PORT");
            return Err(AgentError::Malformed {
                attempted: "read the server URL",
                why,
            });
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .build(Connector { config });
        Ok(Self { base, client })
    }

    /// One request with a body held in memory; answers status and body.
    pub async fn send(&self, attempted: &'static str, request: Request<Vec<u8>>) -> Result<(u16, Vec<u8>), AgentError> {
        let request = request.map(kube::client::Body::from);
        let unreachable = |error: BoxError| AgentError::Unreachable {
            attempted,
            why: crate::error::chain(&*error),
        };
        let response = self.clone().call(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(unreachable)?.to_bytes();
        Ok((status, body.to_vec()))
    }
}

/// Answers to joining hold two certificates; more than this is not an answer of ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;

impl Service<Request<kube::client::Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let client = self.client.clone();
        let base = self.base.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let mut uri = std::mem::take(&mut head.uri).into_parts();
            uri.scheme = base.scheme().cloned();
            uri.authority = base.authority().cloned();
            head.uri = Uri::from_parts(uri)?;
            head.headers
                .entry(USER_AGENT)
                .or_insert(HeaderValue::from_static(concat!(
                    "skiff-agent/",
                    env!("CARGO_PKG_VERSION")
                )));
            Ok(client.request(Request::from_parts(head, body)).await?)
        })
    }
}

/// Believes any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
