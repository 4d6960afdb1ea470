//! Who is asking: identities and the chain that finds them out.

use std::collections::BTreeMap;

use std::sync::Arc;

use async_trait::async_trait;
use skiff_api::status::ApiResult;

use crate::registry::Registry;
use crate::server::ServerConfig;

pub mod bearer;
pub mod bootstrap_token;
pub mod discovery;
pub mod service_account;
pub mod static_tokens;
pub mod tokens;
pub mod x509;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// Everyone whose credentials were good is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Members may do everything, whatever RBAC says.
pub const MASTERS: &str = "system:masters";

/// The identity of a request, as `authentication.k8s.io` UserInfo has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }
    /// Adds `system:authenticated`, as the last group.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.in_group(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.into());
        }
        self
    }
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// What an authenticator may look at.
pub struct Credentials<'a> {
    /// The value of the Authorization header, if there is one.
    pub authorization: Option<&'a str>,
    /// The verified client certificate chain (DER), leaf first; empty without one.
    pub client_certificates: &'a [rustls::pki_types::CertificateDer<'static>],
}

/// Seconds since the epoch; a clock before it counts as 0.
pub(crate) fn unix_now() -> i64 {
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// One way to find out who asks. `Ok(None)` = "not mine", an error = "mine, and wrong" (401).
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>>;
}

/// The standard chain: client certificates, static tokens, ServiceAccount tokens, bootstrap tokens; a token that none of
/// them knows is an error.
pub fn standard(
    config: &ServerConfig,
    registry: &Arc<Registry>,
    service_accounts: &Arc<service_account::ServiceAccountTokens>,
) -> Result<Vec<Arc<dyn Authenticator>>, AuthnError> {
    let mut chain: Vec<Arc<dyn Authenticator>> = vec![Arc::new(x509::ClientCertificates)];
    if let Some(path) = &config.token_auth_file {
        chain.push(Arc::new(static_tokens::StaticTokens::load(path)?));
    }
    chain.push(Arc::clone(service_accounts) as _);
    chain.push(Arc::new(bootstrap_token::BootstrapTokens::new(Arc::clone(registry))));
    chain.push(Arc::new(bearer::UnknownToken));
    Ok(chain)
}

/// The authenticators could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    #[error("read the token file {path}", path = path.display())]
    TokenFile {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    /// Names the line, never its content.
    #[error("token file {path}, line {line}: {why}", path = path.display())]
    TokenLine {
        path: std::path::PathBuf,
        line: usize,
        why: &'static str,
    },
    #[error("prepare the key of ServiceAccount tokens")]
    Key(#[source] jsonwebtoken::errors::Error),
}
