//! How a machine becomes a node: a join token names the control plane's CA by its hash and carries a bootstrap secret;
//! with it the agent asks for a client certificate `system:node:NAME`. The certificate is kept in the data directory and
//! renewed, with itself as credential, when a third of its life is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::error::{AgentError, chain};
use crate::files;
use crate::transport::{ClientCertificate, Transport, Trust, tls_config};

/// An unreachable server is tried again after this long: the agent may be started before it.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the certificate's age is looked at.
const RENEWAL_CHECK_INTERVAL: Duration = Duration::from_secs(60 * 10);

/// Who this node is, and whom it trusts.
#[derive(Clone)]
pub struct Identity {
    pub server_url: String,
    pub node_name: String,
    /// The control plane's CA, PEM.
    pub ca_pem: String,
    /// Where `client.crt`, `client.key` and `ca.crt` lie.
    pub directory: PathBuf,
    pub(crate) certificate: Arc<ClientCertificate>,
}

impl Identity {
    /// TLS settings for a connection that offers these protocols.
    pub(crate) fn tls_config(&self, alpn: &[&[u8]]) -> Result<Arc<rustls::ClientConfig>, AgentError> {
        tls_config(Trust::Authority(&self.ca_pem), Some(self.certificate.clone()), alpn)
    }

    /// TLS settings with the node's certificate, for fetching images from the control plane's registry.
    pub fn registry_tls_config(&self) -> Result<Arc<rustls::ClientConfig>, AgentError> {
        self.tls_config(&[b"h2", b"http/1.1"])
    }

    /// Whether the control plane's CA signed `text`.
    pub fn ca_has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        crate::signature::is_by(&self.ca_pem, text, signature)
    }

    pub fn certificate_path(&self) -> PathBuf {
        self.directory.join("client.crt")
    }
    pub fn key_path(&self) -> PathBuf {
        self.directory.join("client.key")
    }
    pub fn ca_path(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }
}

/// `skiff.<sha256 of the CA certificate, hex>.<id>.<secret>`
#[derive(Debug, PartialEq, Eq)]
struct JoinToken {
    ca_hash: String,
    /// `<id>.<secret>`
    bearer: String,
}

impl JoinToken {
    fn parse(text: &str) -> Result<Self, AgentError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let ["skiff", ca_hash, id, secret] = parts[..] else {
            return Err(AgentError::Token {
                why: "expected skiff.<ca hash>.<id>.<secret>",
            });
        };
        if ca_hash.len() != 64 || !ca_hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AgentError::Token {
                why: "the CA hash must be 64 hexadecimal digits",
            });
        }
        if id.is_empty() || secret.is_empty() {
            return Err(AgentError::Token {
                why: "id and secret must not be empty",
            });
        }
        Ok(Self {
            ca_hash: ca_hash.to_ascii_lowercase(),
            bearer: format!("{id}.{secret}"),
        })
    }
}

/// Loads the identity from `data_dir`, or joins with the token. Waits for an unreachable server.
pub async fn load_or_join(
    server_url: &str,
    token: Option<&str>,
    data_dir: &Path,
    node_name: &str,
) -> Result<Identity, AgentError> {
    let directory = data_dir.join("identity");
    if let Some(identity) = load(server_url, &directory, node_name)? {
        return Ok(identity);
    }
    let Some(token) = token else {
        return Err(AgentError::NotJoined { path: directory });
    };
    let token = JoinToken::parse(token)?;
    let mut told = false;
    loop {
        match join(server_url, &token, &directory, node_name).await {
            Ok(identity) => {
                info!(node = node_name, server = server_url, "joined");
                return Ok(identity);
            }
            Err(error) if error.is_retryable() => {
                if !std::mem::replace(&mut told, true) {
                    warn!(error = chain(&error), "could not join yet, trying again");
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The identity on disk, unless it is another node's, another control plane's (no CA), or has run out.
fn load(server_url: &str, directory: &Path, node_name: &str) -> Result<Option<Identity>, AgentError> {
    let read = |name: &str| files::read_optional(&directory.join(name));
    let (Some(certificate_pem), Some(key_pem), Some(ca_pem)) =
        (read("client.crt")?, read("client.key")?, read("ca.crt")?)
    else {
        return Ok(None);
    };
    let facts = certificate_facts(&certificate_pem)?;
    if facts.common_name != format!("system:node:{node_name}") {
        warn!(
            found = facts.common_name,
            "the certificate on disk is another node's, joining again"
        );
        return Ok(None);
    }
    if facts.not_after <= jiff::Timestamp::now().as_second() {
        warn!("the certificate on disk has expired, joining again");
        return Ok(None);
    }
    let certificate = Arc::new(ClientCertificate::from_pem(&certificate_pem, &key_pem)?);
    Ok(Some(Identity {
        server_url: server_url.to_owned(),
        node_name: node_name.to_owned(),
        ca_pem,
        directory: directory.to_owned(),
        certificate,
    }))
}

async fn join(server_url: &str, token: &JoinToken, directory: &Path, node_name: &str) -> Result<Identity, AgentError> {
    let unverified = Transport::new(server_url, tls_config(Trust::AnyForPinnedFetch, None, &[b"http/1.1"])?)?;
    let request = request("GET", "/skiff/v1/ca", None, Vec::new());
    let ca_pem = answer_text(
        unverified.send("fetch the CA certificate", request).await?,
        "fetch the CA certificate",
    )?;
    let found = authority_hash(&ca_pem)?;
    if found != token.ca_hash {
        return Err(AgentError::WrongAuthority {
            expected: token.ca_hash.clone(),
            found,
        });
    }
    let transport = Transport::new(server_url, tls_config(Trust::Authority(&ca_pem), None, &[b"http/1.1"])?)?;
    let issued = ask_for_certificate(&transport, node_name, Some(&token.bearer)).await?;
    let certificate = Arc::new(ClientCertificate::from_pem(&issued.certificate_pem, &issued.key_pem)?);
    issued.save(directory, &ca_pem)?;
    Ok(Identity {
        server_url: server_url.to_owned(),
        node_name: node_name.to_owned(),
        ca_pem,
        directory: directory.to_owned(),
        certificate,
    })
}

struct Issued {
    certificate_pem: String,
    key_pem: String,
}

impl Issued {
    /// The key first: a certificate without its key would be useless after a crash in between.
    fn save(&self, directory: &Path, ca_pem: &str) -> Result<(), AgentError> {
        files::create_directory(directory)?;
        files::write_atomic(&directory.join("ca.crt"), ca_pem.as_bytes(), 0o644)?;
        files::write_atomic(&directory.join("client.key"), self.key_pem.as_bytes(), 0o600)?;
        files::write_atomic(&directory.join("client.crt"), self.certificate_pem.as_bytes(), 0o644)
    }
}

async fn ask_for_certificate(
    transport: &Transport,
    node_name: &str,
    bearer: Option<&str>,
) -> Result<Issued, AgentError> {
    const ATTEMPTED: &str = "join the cluster";
    let malformed = |why: String| AgentError::Malformed {
        attempted: "make a certificate request",
        why,
    };
    let key = KeyPair::generate().map_err(|error| malformed(error.to_string()))?;
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{node_name}"));
    params.distinguished_name = name;
    let csr = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(|error| malformed(error.to_string()))?;
    let body = serde_json::json!({ "nodeName": node_name, "csr": csr }).to_string();
    let answer = transport
        .send(ATTEMPTED, request("POST", "/skiff/v1/join", bearer, body.into_bytes()))
        .await?;
    if answer.0 == 401 && bearer.is_some() {
        return Err(AgentError::TokenRefused);
    }
    let text = answer_text(answer, ATTEMPTED)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| AgentError::Malformed {
        attempted: ATTEMPTED,
        why: error.to_string(),
    })?;
    let certificate_pem = value["certificate"].as_str().ok_or_else(|| AgentError::Malformed {
        attempted: ATTEMPTED,
        why: "the answer holds no certificate".to_owned(),
    })?;
    Ok(Issued {
        certificate_pem: certificate_pem.to_owned(),
        key_pem: key.serialize_pem(),
    })
}

/// Renews the certificate before it runs out, for as long as the agent lives.
pub(crate) async fn keep_renewed(identity: Identity) {
    loop {
        match renew_if_due(&identity).await {
            Ok(true) => info!("renewed the node's certificate"),
            Ok(false) => {}
            Err(error) => warn!(error = chain(&error), "could not renew the node's certificate"),
        }
        tokio::time::sleep(RENEWAL_CHECK_INTERVAL).await;
    }
}

pub(crate) async fn renew_if_due(identity: &Identity) -> Result<bool, AgentError> {
    let Some(pem) = files::read_optional(&identity.certificate_path())? else {
        return Ok(false);
    };
    let facts = certificate_facts(&pem)?;
    if !facts.is_due(jiff::Timestamp::now().as_second()) {
        return Ok(false);
    }
    let transport = Transport::new(&identity.server_url, identity.tls_config(&[b"http/1.1"])?)?;
    let issued = ask_for_certificate(&transport, &identity.node_name, None).await?;
    identity.certificate.replace(&issued.certificate_pem, &issued.key_pem)?;
    issued.save(&identity.directory, &identity.ca_pem)?;
    Ok(true)
}

fn request(method: &str, path: &str, bearer: Option<&str>, body: Vec<u8>) -> Request<Vec<u8>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", "application/json, */*");
    if !body.is_empty() {
        builder = builder.header("content-type", "application/json");
    }
    if let Some(bearer) = bearer {
        builder = builder.header("authorization", format!("Bearer {bearer}"));
    }
    builder
        .body(body)
        .expect("method, path and headers are well formed: a token's parts are checked when parsed")
}

fn answer_text((status, body): (u16, Vec<u8>), attempted: &'static str) -> Result<String, AgentError> {
    let text = String::from_utf8_lossy(&body).into_owned();
    if (200..300).contains(&status) {
        return Ok(text);
    }
    let message = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value["message"].as_str().map(str::to_owned))
        .unwrap_or(text);
    Err(AgentError::Refused {
        attempted,
        status,
        message,
    })
}

fn authority_hash(ca_pem: &str) -> Result<String, AgentError> {
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| AgentError::Malformed {
        attempted: "read the CA certificate",
        why: error.to_string(),
    })?;
    Ok(Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect())
}

struct CertificateFacts {
    common_name: String,
    not_before: i64,
    not_after: i64,
}

impl CertificateFacts {
    /// Whether a third of its life or less is left.
    fn is_due(&self, now: i64) -> bool {
        self.not_after - now <= (self.not_after - self.not_before) / 3
    }
}

fn certificate_facts(pem: &str) -> Result<CertificateFacts, AgentError> {
    let malformed = |why: String| AgentError::Malformed {
        attempted: "read the node's certificate",
        why,
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed(error.to_string()))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|error| malformed(error.to_string()))?;
    let common_name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or("")
        .to_owned();
    Ok(CertificateFacts {
        common_name,
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

#[cfg(test)]
mod tests;
