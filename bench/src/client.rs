//! A client of the API: HTTP/2 over TLS on one connection, authenticated by the kubeconfig's client certificate.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// HTTP/2 windows as Go's transport, and thus every client-go program, has them.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

pub const JSON: &str = "application/json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// Where the pods of the API benchmarks live.
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// One connection; clones share it.
#[derive(Clone)]
pub struct Client {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Client {
    /// Connects as the kubeconfig says.
    pub async fn connect(kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig).with_context(|| format!("read {}", kubeconfig.display()))?;
        let config: Value = serde_saphyr::from_str(&text).context("parse the kubeconfig")?;
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let server = cluster["server"].as_str().context("the kubeconfig names no server")?;
        let authority = server.trim_start_matches("https://").to_owned();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&embedded(
            cluster,
            "certificate-authority-data",
        )?)?)?;
        let certificate = CertificateDer::from_pem_slice(&embedded(user, "client-certificate-data")?)?;
        let key = PrivateKeyDer::from_pem_slice(&embedded(user, "client-key-data")?)?;
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(&authority)
            .await
            .with_context(|| format!("connect to {authority}"))?;
        tcp.set_nodelay(true)?;
        let host = authority
            .rsplit_once(':')
            .map_or(authority.as_str(), |(host, _)| host)
            .to_owned();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect(ServerName::try_from(host)?, tcp)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority })
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .header("accept", JSON)
            .header("content-type", kind)
            .body(Full::new(body))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }

    /// One request and its whole answer, which must be a success.
    pub async fn call(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes> {
        let response = self.send(method.clone(), path, kind, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.call(Method::GET, path, JSON, Bytes::new()).await
    }

    pub async fn create(&self, path: &str, object: &Value) -> Result<Bytes> {
        self.call(Method::POST, path, JSON, Bytes::from(object.to_string()))
            .await
    }

    pub async fn delete(&self, path: &str) -> Result<Bytes> {
        self.call(
            Method::DELETE,
            path,
            JSON,
            Bytes::from_static(br#"{"gracePeriodSeconds":0}"#),
        )
        .await
    }

    /// Lines of a watch, as they come. Ends with the connection or when the receiver is dropped.
    pub async fn watch(&self, path: &str) -> Result<mpsc::UnboundedReceiver<Bytes>> {
        let response = self.send(Method::GET, path, JSON, Bytes::new()).await?;
        if !response.status().is_success() {
            bail!("watch {path}: {}", response.status());
        }
        let (lines, receiver) = mpsc::unbounded_channel();
        let mut body = response.into_body();
        // Ends with its reader: a watch that stays open holds one of the connection's streams.
        tokio::spawn(async move {
            tokio::select! {
                () = lines.closed() => {}
                () = forward(&mut body, &lines) => {}
            }
        });
        Ok(receiver)
    }

    /// The body of a watch as it is, for those who only count.
    pub async fn watch_body(&self, path: &str) -> Result<Incoming> {
        let response = self.send(Method::GET, path, JSON, Bytes::new()).await?;
        if !response.status().is_success() {
            bail!("watch {path}: {}", response.status());
        }
        Ok(response.into_body())
    }
}

/// Splits a body into lines until it ends.
async fn forward(body: &mut Incoming, lines: &mpsc::UnboundedSender<Bytes>) {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = Bytes::copy_from_slice(&rest[..end]);
            rest.drain(..=end);
            if lines.send(line).is_err() {
                return;
            }
        }
    }
}

fn embedded(section: &Value, name: &str) -> Result<Vec<u8>> {
    let text = section[name]
        .as_str()
        .with_context(|| format!("the kubeconfig has no {name}"))?;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .with_context(|| format!("decode {name}"))
}
