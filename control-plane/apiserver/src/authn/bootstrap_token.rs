//! Bootstrap tokens `id.secret`, kept as kubeadm keeps them: Secrets `bootstrap-token-<id>` in kube-system.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_api::{object, time};

use super::{Authenticator, Credentials, UserInfo, bearer, unix_now};
use crate::registry::{Lookup, Registry};

pub const ID_LENGTH: usize = 6;
pub const SECRET_LENGTH: usize = 16;
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
pub const NAMESPACE: &str = "kube-system";
/// Every user of a bootstrap token is in it.
pub const GROUP: &str = "system:bootstrappers";

/// Splits `id.secret` when it has the form of a bootstrap token.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret)).then_some((id, secret))
}

pub struct BootstrapTokens {
    registry: Arc<Registry>,
}

impl BootstrapTokens {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The token's Secret: from the cache, or from the store when it was made a moment ago.
    async fn secret(&self, id: &str) -> ApiResult<Option<Arc<Value>>> {
        let name = format!("bootstrap-token-{id}");
        if let Some(found) = Lookup::get(self.registry.as_ref(), "", "secrets", NAMESPACE, &name) {
            return Ok(Some(found));
        }
        let Some(resource) = self.registry.resource("", "secrets") else {
            return Ok(None);
        };
        Ok(self
            .registry
            .find(resource, NAMESPACE, &name)
            .await?
            .map(|stored| Arc::new(stored.value)))
    }
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>> {
        let Some(token) = bearer::token(credentials) else {
            return Ok(None);
        };
        let Some((id, secret)) = split(&token) else {
            return Ok(None);
        };
        let Some(object) = self.secret(id).await? else {
            return Ok(None);
        };
        identity(&object, id, secret, unix_now())
            .map(Some)
            .ok_or_else(ApiStatus::unauthorized)
    }
}

/// The user that a token Secret stands for, if it is in order, for authentication, not expired at `now` (seconds since
/// the epoch), and its secret is `secret`.
pub fn identity(object: &Value, id: &str, secret: &str, now: i64) -> Option<UserInfo> {
    let data = |key: &str| {
        let bytes = STANDARD.decode(object::str_at(object, &format!("/data/{key}"))).ok()?;
        String::from_utf8(bytes).ok()
    };
    if object::is_terminating(object) || object::str_at(object, "/type") != SECRET_TYPE {
        return None;
    }
    // Digests are compared, so that the time taken says nothing about the secret.
    let same = |a: &str, b: &str| Sha256::digest(a) == Sha256::digest(b);
    if !same(&data("token-secret")?, secret) || data("token-id")? != id {
        return None;
    }
    if data("usage-bootstrap-authentication").as_deref() != Some("true") {
        return None;
    }
    if let Some(expiration) = data("expiration").filter(|e| !e.is_empty())
        && time::parse_rfc3339(&expiration)? <= now
    {
        return None;
    }
    let extra_groups = data("auth-extra-groups").unwrap_or_default();
    let mut groups = vec![GROUP.to_owned()];
    for group in extra_groups.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        if !group.starts_with("system:bootstrappers:") {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(
        UserInfo {
            name: format!("system:bootstrap:{id}"),
            groups,
            ..UserInfo::default()
        }
        .authenticated(),
    )
}
