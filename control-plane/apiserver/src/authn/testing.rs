//! Asking a whole server as somebody: what the tests of identities and permissions stand on.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::http::request::Builder;
use hyper::{HeaderMap, Request};
use serde_json::Value;

use super::{MASTERS, UserInfo};

/// The `iss` of the server's tokens.
pub(crate) const ISSUER: &str = "https://issuer.test";

/// A server; its parts by dereference.
pub(crate) struct TestServer(crate::test_server::TestServer);

impl std::ops::Deref for TestServer {
    type Target = crate::test_server::TestServer;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    pub(crate) fn message(&self) -> String {
        skiff_api::object::str_at(&self.json(), "/message").to_owned()
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

/// A user in these groups and in `system:authenticated`.
pub(crate) fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    UserInfo {
        name: name.into(),
        groups,
        ..UserInfo::default()
    }
    .authenticated()
}

pub(crate) fn admin() -> UserInfo {
    user("admin", &[MASTERS])
}

pub(crate) fn node(name: &str) -> UserInfo {
    user(&format!("system:node:{name}"), &["system:nodes"])
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self(crate::test_server::TestServer::start().await)
    }

    /// One that compiles with this program.
    pub(crate) async fn compiling(compiler: Option<crate::server::CompilerProgram>) -> Self {
        Self(crate::test_server::TestServer::with(compiler, |_| {}).await)
    }

    pub(crate) async fn send(&self, user: UserInfo, request: Builder, body: impl Into<Bytes>) -> Answer {
        let request: Request<Full<Bytes>> = request.body(Full::new(body.into())).unwrap();
        let (parts, body) = self.server.handle_in_process(request, user).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn get(&self, user: UserInfo, path: &str) -> Answer {
        self.send(user, Request::get(path), "").await
    }

    pub(crate) async fn post(&self, user: UserInfo, path: &str, object: &Value) -> Answer {
        self.send(
            user,
            Request::post(path).header("content-type", "application/json"),
            object.to_string(),
        )
        .await
    }

    /// Creates an object as the administrator, which must succeed.
    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        let answer = self.post(admin(), path, &object).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.message());
        answer.json()
    }
}
