//! How a machine becomes a node: `GET /skiff/v1/ca` and `POST /skiff/v1/join`.
//!
//! The CA is public: the agent compares its hash with the one in its join token. The join request is made with a bootstrap
//! token, or for renewal with the node's own certificate, and answered with a client certificate for the key in it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use hyper::{Method, Response};
use serde_json::{Value, json};
use skiff_api::object::str_at;
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_api::{names, time};

use crate::authn::{MASTERS, UserInfo, bootstrap_token, unix_now};
use crate::authz::node::{GROUP as NODES_GROUP, LEASE_NAMESPACE, USER_PREFIX, node_name};
use crate::body::Body;
use crate::negotiate::response_with_type;
use crate::pki::{Pki, PkiError};
use crate::plugins::{Access, PluginRequest, Route};
use crate::registry::{Lookup, Registry};
use crate::server::ApiServer;

/// Certificates signed per second once the burst is used up: far above any fleet's rollout, far below what hurts.
const JOINS_PER_SECOND: f64 = 50.0;
const JOINS_BURST: f64 = 200.0;
/// A node whose Lease is younger is connected, and nobody else may take its name (Kubernetes' node monitor grace period).
const CONNECTED_SECONDS: i64 = 40;
/// When to try again while the name is taken.
const TAKEN_RETRY_SECONDS: u32 = 10;

/// `GET /skiff/v1/ca`: PEM, for everyone.
pub struct CaRoute {
    pki: Arc<Pki>,
}

impl CaRoute {
    pub fn new(pki: Arc<Pki>) -> Self {
        Self { pki }
    }
}

#[async_trait]
impl Route for CaRoute {
    fn prefix(&self) -> &'static str {
        "/skiff/v1/ca"
    }
    fn access(&self) -> Access {
        Access::Open
    }
    async fn handle(&self, _server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        if request.parts.method != Method::GET && request.parts.method != Method::HEAD {
            return Err(ApiStatus::method_not_allowed());
        }
        Ok(response_with_type(
            200,
            "application/x-pem-file",
            Body::full(self.pki.ca_pem().to_owned()),
        ))
    }
}

/// `POST /skiff/v1/join` with `{"nodeName", "csr": PEM}`, answered `{"certificate": PEM, "ca": PEM}`.
pub struct JoinRoute {
    pki: Arc<Pki>,
    bucket: Bucket,
}

impl JoinRoute {
    pub fn new(pki: Arc<Pki>) -> Self {
        Self {
            pki,
            bucket: Bucket::new(),
        }
    }
}

#[async_trait]
impl Route for JoinRoute {
    fn prefix(&self) -> &'static str {
        "/skiff/v1/join"
    }
    fn access(&self) -> Access {
        Access::Authenticated
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let PluginRequest {
            parts, mut body, user, ..
        } = request;
        if parts.method != Method::POST {
            return Err(ApiStatus::method_not_allowed());
        }
        let renewing = node_name(&user).map(str::to_owned);
        if renewing.is_none() && !may_join(&user) {
            let why = format!(
                "User {:?} may not join a node: a bootstrap token or the node's certificate is needed",
                user.name
            );
            return Err(ApiStatus::forbidden(Default::default(), &why));
        }
        if !self.bucket.take() {
            return Err(ApiStatus::too_many_requests(
                "too many nodes are joining, please try again later",
                1,
            ));
        }
        let body = crate::handlers::body::read(&parts, &mut body).await?;
        let asked: Value =
            serde_json::from_slice(&body).map_err(|e| ApiStatus::bad_request(format!("the body is not JSON: {e}")))?;
        let node = str_at(&asked, "/nodeName");
        if let Some(why) = names::dns1123_subdomain(node).first() {
            return Err(ApiStatus::bad_request(format!("nodeName {node:?} is invalid: {why}")));
        }
        match &renewing {
            Some(own) if own != node => {
                let why = format!("node {own:?} is not allowed to get a certificate for node {node:?}");
                return Err(ApiStatus::forbidden(Default::default(), &why));
            }
            Some(_) => {}
            None if is_connected(&server.registry, node) => {
                let why = format!("a node named {node:?} is connected; choose another name with --node-name");
                return Err(ApiStatus::too_many_requests(why, TAKEN_RETRY_SECONDS));
            }
            None => {}
        }
        let certificate = self
            .pki
            .sign_client(str_at(&asked, "/csr"), &format!("{USER_PREFIX}{node}"), NODES_GROUP)
            .map_err(|error| match error {
                PkiError::BadRequest { .. } => ApiStatus::bad_request(error.to_string()),
                other => ApiStatus::internal(other),
            })?;
        tracing::info!(
            node,
            by = user.name,
            renewal = renewing.is_some(),
            "node certificate issued"
        );
        let answer = json!({"certificate": certificate, "ca": self.pki.ca_pem()});
        Ok(response_with_type(
            200,
            crate::negotiate::JSON,
            Body::full(answer.to_string()),
        ))
    }
}

fn may_join(user: &UserInfo) -> bool {
    user.in_group(bootstrap_token::GROUP) || user.in_group(MASTERS)
}

/// Whether a node of this name has sent a heartbeat a moment ago.
fn is_connected(registry: &Registry, node: &str) -> bool {
    let lease = Lookup::get(registry, "coordination.k8s.io", "leases", LEASE_NAMESPACE, node);
    let renewed = lease.and_then(|lease| time::parse_rfc3339(str_at(&lease, "/spec/renewTime")));
    renewed.is_some_and(|renewed| unix_now() - renewed < CONNECTED_SECONDS)
}

/// A token bucket over all clients.
struct Bucket(Mutex<(f64, Instant)>);

impl Bucket {
    fn new() -> Self {
        Self(Mutex::new((JOINS_BURST, Instant::now())))
    }
    fn take(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let filled = state.0 + now.duration_since(state.1).as_secs_f64() * JOINS_PER_SECOND;
        *state = (filled.min(JOINS_BURST), now);
        if state.0 < 1.0 {
            return false;
        }
        state.0 -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::authn::testing::{Answer, TestServer, admin, node, user};

    fn signing_request() -> String {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(Vec::new())
            .unwrap()
            .serialize_request(&key)
            .unwrap()
            .pem()
            .unwrap()
    }

    async fn join(test: &TestServer, who: UserInfo, name: &str) -> Answer {
        test.post(
            who,
            "/skiff/v1/join",
            &json!({"nodeName": name, "csr": signing_request()}),
        )
        .await
    }

    fn bootstrapper() -> UserInfo {
        user("system:bootstrap:abcdef", &["system:bootstrappers"])
    }

    #[tokio::test]
    async fn a_bootstrap_token_gets_a_node_certificate() {
        let test = TestServer::start().await;
        let answer = join(&test, bootstrapper(), "n1").await;
        assert_eq!(answer.status, 200, "{}", answer.message());
        let body = answer.json();
        assert_eq!(str_at(&body, "/ca"), test.pki.ca_pem());
        let der = CertificateDer::from_pem_slice(str_at(&body, "/certificate").as_bytes()).unwrap();
        let found = crate::authn::x509::identity(&der, unix_now()).unwrap().unwrap();
        assert_eq!(node_name(&found), Some("n1"));
        assert_eq!(
            test.get(UserInfo::anonymous(), "/skiff/v1/ca").await.body,
            test.pki.ca_pem()
        );
    }

    #[tokio::test]
    async fn nobody_gets_another_nodes_certificate() {
        let test = TestServer::start().await;
        assert_eq!(join(&test, node("n1"), "n1").await.status, 200, "renewal");
        assert_eq!(join(&test, node("n1"), "n2").await.status, 403);
        assert_eq!(join(&test, user("bob", &[]), "n1").await.status, 403);
        assert_eq!(join(&test, UserInfo::anonymous(), "n1").await.status, 403);
        // A connected node keeps its name.
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"},
            "spec": {"holderIdentity": "n1", "renewTime": time::format_micro(unix_now() * 1_000_000)}});
        test.create("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)
            .await;
        let mut refused = join(&test, bootstrapper(), "n1").await;
        for _ in 0..1000 {
            if refused.status == 429 {
                break;
            }
            tokio::task::yield_now().await;
            refused = join(&test, bootstrapper(), "n1").await;
        }
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (429, "10"),
            "{}",
            refused.message()
        );
        assert_eq!(join(&test, node("n1"), "n1").await.status, 200, "it may still renew");
    }

    #[tokio::test]
    async fn wrong_requests_are_named() {
        let test = TestServer::start().await;
        let bad = async |body: &str| {
            let answer = test
                .send(admin(), Request::post("/skiff/v1/join"), body.to_owned())
                .await;
            (answer.status, answer.message())
        };
        assert_eq!(bad("{").await.0, 400);
        assert!(
            bad(r#"{"nodeName": "A_b", "csr": ""}"#)
                .await
                .1
                .starts_with("nodeName \"A_b\" is invalid: ")
        );
        let request = bad(r#"{"nodeName": "n", "csr": "nonsense"}"#).await;
        assert_eq!(request.0, 400);
        assert!(
            request.1.starts_with("the certificate signing request is not usable"),
            "{}",
            request.1
        );
        assert_eq!(test.get(admin(), "/skiff/v1/join").await.status, 405);
    }

    #[test]
    fn the_bucket_is_finite() {
        let bucket = Bucket::new();
        let taken = (0..100_000).filter(|_| bucket.take()).count();
        assert!((200..50_000).contains(&taken), "{taken}");
    }
}
