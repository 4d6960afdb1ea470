//! What is plugged into the server: identities, permissions, admission rules, subresources, routes. The one list of them.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use hyper::http::request::Parts;
use serde_json::Value;
use skiff_api::status::ApiResult;
use tokio_util::sync::CancellationToken;

use crate::admission::Admissions;
use crate::authn::service_account::ServiceAccountTokens;
use crate::authn::tokens::TokenSigner;
use crate::authn::{self, Authenticator, UserInfo};
use crate::authz::{self, Authorizer, rbac};
use crate::body::{Body, RequestBody};
use crate::pki::Pki;
use crate::registry::{Lookup, Registry};
use crate::request_info::RequestInfo;
use crate::server::{ApiServer, ServerConfig, ServerError};
use crate::{admission, reviews, subresources};

/// How far the chain goes before a route's handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody is asked who they are (`user` is anonymous unless credentials were good).
    Open,
    /// Credentials must not be wrong; the route decides the rest itself.
    Authenticated,
    /// Authorised as a non-resource path, like `/metrics`.
    Authorized,
}

/// A path prefix outside `/api` and `/apis` with a handler of its own.
#[async_trait]
pub trait Route: Send + Sync + 'static {
    /// `/v2/` matches everything below it and `/v2`; `/openapi/v2` only itself and what lies below.
    fn prefix(&self) -> &'static str;
    fn access(&self) -> Access {
        Access::Authorized
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>>;
}

/// A subresource (`pods/binding`), or with an empty `subresource` a resource that is not stored (`subjectaccessreviews`).
#[async_trait]
pub trait Subresource: Send + Sync + 'static {
    fn group(&self) -> &'static str;
    /// Plural; one implementation may serve several.
    fn resources(&self) -> &'static [&'static str];
    fn subresource(&self) -> &'static str;
    /// The chain has authorised it. Verbs come from the resource table; others are answered 405 before this.
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>>;
}

/// Changes who a request acts as: impersonation.
#[async_trait]
pub trait UserFilter: Send + Sync + 'static {
    async fn filter(&self, server: &Arc<ApiServer>, parts: &Parts, user: UserInfo) -> ApiResult<UserInfo>;
}

/// A request as a plugin sees it.
pub struct PluginRequest {
    pub info: RequestInfo,
    pub parts: Parts,
    pub body: RequestBody,
    pub user: UserInfo,
}

impl PluginRequest {
    /// Reads and decodes the body by its Content-Type as `group/version, Kind` (empty Kind: whatever it says).
    /// Warnings of a lenient decoding are dropped.
    pub async fn object(&mut self, server: &ApiServer, group: &str, version: &str, kind: &str) -> ApiResult<Value> {
        crate::handlers::body::read_object(server, &self.parts, &mut self.body, group, version, kind).await
    }
    /// The last value of a query parameter, decoded.
    pub fn query(&self, key: &str) -> Option<String> {
        crate::query::Query::parse(self.parts.uri.query().unwrap_or(""))
            .get(key)
            .map(str::to_owned)
    }
    /// Whether the query has `dryRun=All`.
    pub fn dry_run(&self) -> bool {
        self.query("dryRun").is_some_and(|v| v == "All")
    }
    /// An answer in the form that the client accepts.
    pub fn respond(&self, code: u16, object: &Value) -> ApiResult<Response<Body>> {
        crate::negotiate::respond_object(&self.parts, code, object)
    }
}

/// Everything plugged in.
#[derive(Default)]
pub struct Plugins {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub user_filters: Vec<Arc<dyn UserFilter>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub admission: Admissions,
    pub subresources: Vec<Arc<dyn Subresource>>,
    pub routes: Vec<Arc<dyn Route>>,
}

/// The standard set. `registry` reads caches; `config` says where files lie.
/// `draining` ends what runs in the background.
pub fn standard(
    config: &ServerConfig,
    registry: &Arc<Registry>,
    pki: &Arc<Pki>,
    draining: &CancellationToken,
) -> Result<Plugins, ServerError> {
    let lookup: Arc<dyn Lookup> = registry.clone();
    let rbac = rbac::Rbac::new(lookup.clone());
    let artifacts =
        crate::artifacts::Registry::open(&config.data_dir.join("registry")).map_err(ServerError::Artifacts)?;
    tokio::spawn(artifacts.clone().collect_regularly(draining.clone()));
    let compiled = crate::compiled::CompileRoute::open(
        &config.data_dir.join("compiled"),
        config.compiler.clone(),
        artifacts.clone(),
        pki.clone(),
        draining,
    )
    .map_err(ServerError::Compiled)?;
    tokio::spawn(crate::authz::aggregation::run(registry.clone(), draining.clone()));
    tokio::spawn(crate::pki::renew_regularly(pki.clone(), draining.clone()));
    let tokens = Arc::new(TokenSigner::new(pki, &config.service_account_issuer)?);
    let service_accounts = Arc::new(ServiceAccountTokens::new(tokens.clone(), registry.clone()));
    Ok(Plugins {
        authenticators: authn::standard(config, registry, &service_accounts)?,
        user_filters: vec![Arc::new(crate::impersonate::Impersonation)],
        authorizers: authz::standard(&lookup, &rbac),
        admission: Admissions(vec![
            Arc::new(admission::namespace_lifecycle::NamespaceLifecycle),
            Arc::new(admission::service_account::ServiceAccount),
            Arc::new(authz::node_restriction::NodeRestriction),
            Arc::new(admission::taint_nodes::TaintNodesByCondition),
            Arc::new(admission::priority::Priority),
            Arc::new(admission::default_tolerations::DefaultTolerationSeconds),
            Arc::new(admission::runtime_class::RuntimeClass),
            Arc::new(authz::escalation::EscalationCheck::new(rbac.clone())),
        ]),
        subresources: vec![
            Arc::new(reviews::access::AccessReviews),
            Arc::new(reviews::rules::RulesReview::new(rbac)),
            Arc::new(reviews::selves::SelfReview),
            Arc::new(reviews::token::TokenReviews::new(service_accounts)),
            Arc::new(subresources::token::TokenRequests::new(tokens.clone())),
            Arc::new(subresources::binding::PodBinding),
            Arc::new(subresources::binding::Bindings),
            Arc::new(subresources::eviction::Eviction),
            Arc::new(subresources::finalize::Finalize),
            Arc::new(subresources::scale::ScaleOf),
            Arc::new(subresources::log::PodLog),
            Arc::new(subresources::connect::PodStreams("exec")),
            Arc::new(subresources::connect::PodStreams("attach")),
            Arc::new(subresources::connect::PodPortForward),
            Arc::new(subresources::node_proxy::NodeProxy),
            Arc::new(crate::resource_metrics::ResourceMetrics),
        ],
        routes: vec![
            Arc::new(crate::join::CaRoute::new(pki.clone())),
            Arc::new(crate::join::JoinRoute::new(pki.clone())),
            Arc::new(crate::tunnel::TunnelRoute),
            Arc::new(authn::discovery::Configuration(tokens.clone())),
            Arc::new(authn::discovery::Keys(tokens)),
            Arc::new(crate::openapi::V3::default()),
            Arc::new(crate::openapi::V2::default()),
            artifacts,
            compiled,
        ],
    })
}
