//! The server's state and configuration: what every handler may reach.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Request, Response};
use ipnet::IpNet;
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_store::DynStore;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::authn::UserInfo;
use crate::body::Body;
use crate::limiter::Limiter;
use crate::limits::{SESSIONS_MAX, Timeouts};
use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::plugins::{self, Plugins, Route, Subresource};
use crate::registry::Registry;
use crate::resource_metrics::collect::Usages;
use crate::tunnel::Tunnels;

/// Settings of an API server. No defaults: whoever starts it says what it wants.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Key prefix of API objects in the store: `/registry`.
    pub prefix: String,
    /// Where certificates, keys and artifacts rest.
    pub data_dir: PathBuf,
    /// The URL that agents and kubeconfigs name: `https://127.0.0.1:6443`.
    pub public_url: String,
    /// Out of which Services get their address.
    pub service_cidr: IpNet,
    /// Out of which nodes get their podCIDR.
    pub pod_cidr: IpNet,
    /// A file of static tokens (`token,user,uid,"group1,group2"` lines), if any.
    pub token_auth_file: Option<PathBuf>,
    /// PEM file of further CAs whose client certificates count, if any.
    pub client_ca_file: Option<PathBuf>,
    /// The `iss` of ServiceAccount tokens.
    pub service_account_issuer: String,
    /// Compiles modules for the nodes, if anything here does.
    pub compiler: Option<CompilerProgram>,
}

/// A program with the subcommand `wasm-compile`.
#[derive(Clone, Debug)]
pub struct CompilerProgram(pub PathBuf);

/// A server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("start the caches over the store")]
    Caches(#[source] Box<ApiStatus>),
    #[error("make the objects that every cluster has")]
    Bootstrap(#[source] Box<ApiStatus>),
    #[error("check the node ledgers")]
    Ledgers(#[source] Box<ApiStatus>),
    #[error("set up authentication")]
    Authentication(#[from] crate::authn::AuthnError),
    #[error("open the registry of artifacts")]
    Artifacts(#[source] std::io::Error),
    #[error("open the cache of compiled modules")]
    Compiled(#[source] std::io::Error),
    #[error("accept connections")]
    Accept(#[source] std::io::Error),
}

/// The API server.
pub struct ApiServer {
    pub config: ServerConfig,
    pub registry: Arc<Registry>,
    pub plugins: Plugins,
    pub limiter: Limiter,
    pub metrics: Metrics,
    pub tunnels: Tunnels,
    /// Places for exec, attach and port-forward.
    pub sessions: Arc<Semaphore>,
    pub usages: Usages,
    pub timeouts: Timeouts,
    /// Cancelled when the server stops: watches end, readiness fails.
    pub draining: CancellationToken,
}

impl ApiServer {
    /// The plugged-in route of a path, the longest prefix first.
    pub fn route(&self, path: &str) -> Option<Arc<dyn Route>> {
        let matches = |prefix: &str| {
            let bare = prefix.strip_suffix('/').unwrap_or(prefix);
            path.strip_prefix(bare)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self.plugins.routes.iter().filter(|route| matches(route.prefix()));
        found.max_by_key(|route| route.prefix().len()).cloned()
    }
    /// Starts the caches, waits until each has read its resource once, and makes what every cluster has.
    pub async fn new(config: ServerConfig, store: DynStore, pki: Arc<Pki>) -> Result<Arc<Self>, ServerError> {
        Self::assemble(config, store, pki, |_| {}).await
    }
    /// `new`, with a last word on the finished parts; for tests.
    pub(crate) async fn assemble(
        config: ServerConfig,
        store: DynStore,
        pki: Arc<Pki>,
        customise: impl FnOnce(&mut Self),
    ) -> Result<Arc<Self>, ServerError> {
        let registry = Registry::start(store, &config.prefix, crate::kinds::all())
            .await
            .map_err(ServerError::Caches)?;
        let draining = CancellationToken::new();
        let plugins = plugins::standard(&config, &registry, &pki, &draining)?;
        crate::bootstrap::ensure(&registry, &pki)
            .await
            .map_err(ServerError::Bootstrap)?;
        crate::subresources::ledger::rebuild(&registry)
            .await
            .map_err(ServerError::Ledgers)?;
        let mut server = Self {
            config,
            registry,
            plugins,
            limiter: Limiter::default(),
            metrics: Metrics::default(),
            tunnels: Tunnels::default(),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            usages: Usages::default(),
            timeouts: Timeouts::STANDARD,
            draining,
        };
        customise(&mut server);
        Ok(Arc::new(server))
    }
    /// The plugin that serves a (sub)resource, if one does.
    pub fn subresource(&self, info: &crate::request_info::RequestInfo) -> Option<Arc<dyn Subresource>> {
        let serves = |plugin: &&Arc<dyn Subresource>| {
            plugin.subresource() == info.subresource
                && plugin.group() == info.group
                && plugin.resources().contains(&info.resource.as_str())
        };
        self.plugins.subresources.iter().find(serves).cloned()
    }
    /// Serves until `shutdown`, then lets running requests end.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        crate::serve::serve(self, listener, tls, shutdown).await
    }
    /// Answers a request of this process, already authenticated: authorisation and everything after it run as usual.
    pub async fn handle_in_process<B>(self: &Arc<Self>, request: Request<B>, user: UserInfo) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        crate::chain::handle_as(self, request.map(crate::body::request_body), user).await
    }
    /// Asks the authorizers in order.
    pub async fn authorize(&self, attributes: &crate::authz::Attributes) -> crate::authz::Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.plugins.authorizers {
            match authorizer.authorize(attributes).await {
                allow @ crate::authz::Decision::Allow { .. } => return allow,
                crate::authz::Decision::NoOpinion { reason } if !reason.is_empty() => reasons.push(reason),
                crate::authz::Decision::NoOpinion { .. } => {}
            }
        }
        crate::authz::Decision::NoOpinion {
            reason: reasons.join(", "),
        }
    }
    /// Who sends these credentials; `None` when nobody knows them, 401 when they are wrong.
    pub async fn authenticate(&self, credentials: &crate::authn::Credentials<'_>) -> ApiResult<Option<UserInfo>> {
        for authenticator in &self.plugins.authenticators {
            if let Some(user) = authenticator.authenticate(credentials).await? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}
