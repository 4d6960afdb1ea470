//! Who is asking: identities and the chain that finds them out.

use std::collections::BTreeMap;

use async_trait::async_trait;
use skiff_api::status::ApiResult;

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
        Self { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..Self::default() }
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

/// One way to find out who asks. `Ok(None)` = "not mine", an error = "mine, and wrong" (401).
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>>;
}
