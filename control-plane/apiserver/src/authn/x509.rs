//! Client certificates: the common name is the user, the organizations are its groups.
//!
//! TLS has verified the chain when the connection began; a connection may outlive its certificate, so the dates are looked
//! at again on every request.

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use skiff_api::status::{ApiResult, ApiStatus};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authenticator, Credentials, UserInfo, unix_now};
use crate::pki::{hex, subject_of};

pub struct ClientCertificates;

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>> {
        let Some(leaf) = credentials.client_certificates.first() else {
            return Ok(None);
        };
        identity(leaf, unix_now())
    }
}

/// Who a verified leaf certificate stands for at `now` (seconds since the epoch); nobody without a common name.
pub fn identity(leaf: &CertificateDer<'_>, now: i64) -> ApiResult<Option<UserInfo>> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| ApiStatus::unauthorized())?;
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return Err(ApiStatus::unauthorized());
    }
    let for_clients = certificate
        .extended_key_usage()
        .ok()
        .flatten()
        .is_none_or(|usage| usage.value.client_auth || usage.value.any);
    if !for_clients || certificate.is_ca() {
        return Err(ApiStatus::unauthorized());
    }
    let Some((name, groups)) = subject_of(leaf) else {
        return Err(ApiStatus::unauthorized());
    };
    if name.is_empty() {
        return Ok(None);
    }
    let credential = format!("X509SHA256={}", hex(&Sha256::digest(leaf)));
    let extra = [(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![credential],
    )]
    .into();
    Ok(Some(
        UserInfo {
            name,
            groups,
            extra,
            ..UserInfo::default()
        }
        .authenticated(),
    ))
}
