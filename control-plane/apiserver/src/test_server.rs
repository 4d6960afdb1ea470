//! A whole API server for tests: a store in a temporary directory, no network unless `listen` is called.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use serde_json::Value;
use skiff_store::embedded::{EmbeddedOptions, EmbeddedStore};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::authn::UserInfo;
use crate::body::Body;
use crate::pki::{Pki, server_tls_config, serving_names};
use crate::server::{ApiServer, CompilerProgram, ServerConfig};

pub(crate) const TOKEN: &str = "test-token";

pub(crate) struct TestServer {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) pki: Arc<Pki>,
    pub(crate) directory: TempDir,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::customised(|_| {}).await
    }

    pub(crate) async fn customised(customise: impl FnOnce(&mut ApiServer)) -> Self {
        Self::with(None, customise).await
    }

    pub(crate) async fn with(compiler: Option<CompilerProgram>, customise: impl FnOnce(&mut ApiServer)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tokens = directory.path().join("tokens");
        std::fs::write(
            &tokens,
            format!("{TOKEN},tester,1,\"system:masters\"\nuser-token,user,2,\"people\"\n"),
        )
        .unwrap();
        let pki = Pki::load_or_create(
            &directory.path().join("pki"),
            serving_names("127.0.0.1".parse().unwrap(), None, &[]),
        )
        .unwrap();
        let config = ServerConfig {
            prefix: "/registry".into(),
            data_dir: directory.path().to_owned(),
            public_url: "https://127.0.0.1:1".into(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.42.0.0/16".parse().unwrap(),
            token_auth_file: Some(tokens),
            client_ca_file: None,
            service_account_issuer: "https://issuer.test".into(),
            compiler,
        };
        let store = EmbeddedStore::open(directory.path().join("store.redb"), EmbeddedOptions::default()).unwrap();
        let server = ApiServer::assemble(config, Arc::new(store), pki.clone(), customise)
            .await
            .unwrap();
        Self { server, pki, directory }
    }

    /// Serves on a free port of 127.0.0.1.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Arc::new(server_tls_config(&self.pki, None).unwrap());
        tokio::spawn(self.server.clone().serve(listener, tls, CancellationToken::new()));
        address
    }

    /// A request by a member of system:masters; the answer, still to be read.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let groups = vec!["system:masters".into(), "system:authenticated".into()];
        let user = UserInfo {
            name: "tester".into(),
            groups,
            ..UserInfo::default()
        };
        self.server.handle_in_process(request, user).await
    }

    /// `POST /path` with a body, as (code, JSON).
    pub(crate) async fn call(&self, line: &str, body: impl Into<Option<Value>>) -> (u16, Value) {
        self.call_with(
            line,
            "application/json",
            body.into().map(|b| b.to_string()).unwrap_or_default(),
        )
        .await
    }

    /// The same with a Content-Type.
    pub(crate) async fn call_with(&self, line: &str, content_type: &str, body: String) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("user-agent", "test/1")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = self.send(request).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        (code, value)
    }

    /// `call` for what must succeed.
    pub(crate) async fn ok(&self, line: &str, body: impl Into<Option<Value>>) -> Value {
        let (code, value) = self.call(line, body).await;
        assert!(code < 300, "{line}: {code} {value}");
        value
    }
}
