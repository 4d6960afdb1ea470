//! ServiceAccount tokens as identities: good only as long as everything that they are bound to exists unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};

use super::tokens::{Claims, Reference, Refused, TokenSigner};
use super::{Authenticator, Credentials, UserInfo, bearer, unix_now};
use crate::registry::{Lookup, Registry};

/// All ServiceAccounts are in it.
pub const GROUP: &str = "system:serviceaccounts";

pub struct ServiceAccountTokens {
    tokens: Arc<TokenSigner>,
    registry: Arc<Registry>,
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Namespace and name of a ServiceAccount's user name.
pub fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of every ServiceAccount of a namespace.
pub fn groups(namespace: &str) -> Vec<String> {
    vec![GROUP.to_owned(), format!("{GROUP}:{namespace}")]
}

impl ServiceAccountTokens {
    pub fn new(tokens: Arc<TokenSigner>, registry: Arc<Registry>) -> Self {
        Self { tokens, registry }
    }

    pub fn signer(&self) -> &TokenSigner {
        &self.tokens
    }

    /// Who a token stands for, for one of `audiences`; with the audiences that matched. `None`: not a token of ours.
    pub async fn identify(&self, token: &str, audiences: &[String]) -> ApiResult<Option<(UserInfo, Vec<String>)>> {
        match self.tokens.verify(token, audiences, unix_now()) {
            Ok(claims) => {
                self.check_bound_objects(&claims).await?;
                let matched = claims.aud.iter().filter(|a| audiences.contains(a)).cloned().collect();
                Ok(Some((user_of(&claims), matched)))
            }
            Err(Refused::NotOurs) => Ok(None),
            Err(Refused::Invalid | Refused::Audience) => Err(ApiStatus::unauthorized()),
        }
    }

    /// Whether a token is good but for its audience.
    pub fn is_for_others(&self, token: &str, audiences: &[String]) -> bool {
        self.tokens.verify(token, audiences, unix_now()) == Err(Refused::Audience)
    }

    async fn check_bound_objects(&self, claims: &Claims) -> ApiResult<()> {
        let bound = &claims.bound;
        let namespace = bound.namespace.as_str();
        let mut wanted = vec![("serviceaccounts", namespace, Some(&bound.serviceaccount))];
        wanted.push(("pods", namespace, bound.pod.as_ref()));
        wanted.push(("secrets", namespace, bound.secret.as_ref()));
        // A pod's token names its node for information; only a token bound to the node alone depends on it.
        if bound.pod.is_none() {
            wanted.push(("nodes", "", bound.node.as_ref()));
        }
        for (resource, namespace, reference) in wanted {
            if let Some(reference) = reference
                && !self.exists(resource, namespace, reference).await?
            {
                return Err(ApiStatus::unauthorized());
            }
        }
        Ok(())
    }

    /// In the cache, or in the store when it was made a moment ago.
    async fn exists(&self, resource: &str, namespace: &str, reference: &Reference) -> ApiResult<bool> {
        let is_it = |found: &Value| object::uid(found) == reference.uid;
        if Lookup::get(self.registry.as_ref(), "", resource, namespace, &reference.name).is_some_and(|o| is_it(&o)) {
            return Ok(true);
        }
        let Some(resource) = self.registry.resource("", resource) else {
            return Ok(false);
        };
        Ok(self
            .registry
            .find(resource, namespace, &reference.name)
            .await?
            .is_some_and(|stored| is_it(&stored.value)))
    }
}

fn user_of(claims: &Claims) -> UserInfo {
    let bound = &claims.bound;
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    for (kind, reference) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(reference) = reference {
            add(&format!("{kind}-name"), &reference.name);
            add(&format!("{kind}-uid"), &reference.uid);
        }
    }
    UserInfo {
        name: user_name(&bound.namespace, &bound.serviceaccount.name),
        uid: bound.serviceaccount.uid.clone(),
        groups: groups(&bound.namespace),
        extra,
    }
    .authenticated()
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>> {
        let Some(token) = bearer::token(credentials) else {
            return Ok(None);
        };
        Ok(self
            .identify(&token, &self.tokens.api_audiences())
            .await?
            .map(|(user, _)| user))
    }
}
