//! ServiceAccount tokens as text: JSON web tokens signed with ES256 by the cluster's own key.
//!
//! The algorithm is pinned: a header that names any other, or none, is refused before a key is looked at.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::AuthnError;
use crate::pki::Pki;

/// The audience that means this API server, beside the issuer itself.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc";
/// Tokens whose signature has been checked are remembered by digest; a full memory is emptied. At some 300 bytes each.
const VERIFIED_MAX: usize = 4096;
/// Longer texts are not tokens of ours.
const TOKEN_LENGTH_MAX: usize = 16 * 1024;
/// How far another control plane's clock may be ahead.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 60;

/// An object that a token is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// The private claims, `kubernetes.io`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub namespace: String,
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
}

/// All claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Vec<String>,
    /// Seconds since the epoch, like the next two.
    pub exp: i64,
    pub iat: i64,
    pub nbf: i64,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a token of this issuer: someone else may know it.
    NotOurs,
    /// Says that it is ours, and is wrong, too old, or too new.
    Invalid,
    /// Good, but for somebody else.
    Audience,
}

pub struct TokenSigner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    public_key_der: Vec<u8>,
    issuer: String,
    verified: Mutex<HashMap<[u8; 32], Claims>>,
}

impl TokenSigner {
    pub fn new(pki: &Pki, issuer: &str) -> Result<Self, AuthnError> {
        let (private, public) = pki.service_account_key();
        let public_key_der = pem_content(&public);
        Ok(Self {
            encoding: EncodingKey::from_ec_pem(private.as_bytes()).map_err(AuthnError::Key)?,
            decoding: DecodingKey::from_ec_pem(public.as_bytes()).map_err(AuthnError::Key)?,
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(&public_key_der)),
            public_key_der,
            issuer: issuer.to_owned(),
            verified: Mutex::new(HashMap::new()),
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Audiences that mean the API server; a request without any gets the first.
    pub fn api_audiences(&self) -> Vec<String> {
        let mut audiences = vec![API_AUDIENCE.to_owned()];
        if self.issuer != API_AUDIENCE {
            audiences.push(self.issuer.clone());
        }
        audiences
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header {
            kid: Some(self.key_id.clone()),
            typ: None,
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, claims, &self.encoding)
    }

    /// The claims of a token that is ours and good at `now` (seconds since the epoch) for one of `audiences`.
    pub fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<Claims, Refused> {
        if token.len() > TOKEN_LENGTH_MAX || !self.claims_to_be_ours(token) {
            return Err(Refused::NotOurs);
        }
        let claims = self.verified_claims(token)?;
        if claims.iss != self.issuer || now >= claims.exp || now + NOT_BEFORE_LEEWAY_SECONDS < claims.nbf {
            return Err(Refused::Invalid);
        }
        let user = format!(
            "system:serviceaccount:{}:{}",
            claims.bound.namespace, claims.bound.serviceaccount.name
        );
        if claims.sub != user {
            return Err(Refused::Invalid);
        }
        if !claims.aud.iter().any(|a| audiences.contains(a)) {
            return Err(Refused::Audience);
        }
        Ok(claims)
    }

    /// Whether the unverified text names our issuer.
    fn claims_to_be_ours(&self, token: &str) -> bool {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let Ok(payload) = URL_SAFE_NO_PAD.decode(payload) else {
            return false;
        };
        serde_json::from_slice::<Value>(&payload).is_ok_and(|claims| claims["iss"] == self.issuer.as_str())
    }

    /// Claims whose signature holds; times and audience are not looked at, so the answer stays true.
    fn verified_claims(&self, token: &str) -> Result<Claims, Refused> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let lock = || self.verified.lock().expect("nothing panics while holding this lock");
        if let Some(claims) = lock().get(&digest) {
            return Ok(claims.clone());
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|_| Refused::Invalid)?
            .claims;
        let mut verified = lock();
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Ok(claims)
    }

    /// The public key as a JSON web key set (RFC 7517), for others who want to verify our tokens.
    pub fn key_set(&self) -> Value {
        // An uncompressed P-256 point (04, x, y) ends the SubjectPublicKeyInfo.
        let point = &self.public_key_der[self.public_key_der.len().saturating_sub(64)..];
        let (x, y) = point.split_at(point.len() / 2);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

/// The bytes within a PEM text that we made ourselves.
fn pem_content(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .expect("our own PEM is base64 between its marks")
}
