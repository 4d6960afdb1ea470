//! The cluster's keys and certificates: one CA in `<data_dir>/pki`, and everything that it signs.
//!
//! Made on first start, kept ever after. Leaf certificates are issued anew when they come near their end, when the
//! names that the server must answer to change, or when they are not from this CA. Private keys never leave their
//! files but for the admin kubeconfig.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

mod certificates;
mod files;
mod names;
mod tls;

#[cfg(test)]
mod tests;

pub use certificates::{certificate_names, subject_of};
pub use files::write_atomically;
pub use names::serving_names;
pub use tls::{client_ca_certificates, server_tls_config};

use certificates::Leaf;

/// User name of the administrator's certificate; its group is `system:masters`.
pub const ADMIN_USER: &str = "kubernetes-admin";

/// What can go wrong with keys and certificates. No variant carries key material.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{action} {path}", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file of ours does not hold what it should. Deleting a leaf certificate makes the server issue a new one;
    /// the CA is never replaced on its own, because every node and kubeconfig trusts it.
    #[error("{path} holds no usable {what}: {why}", path = path.display())]
    Unusable {
        path: PathBuf,
        what: &'static str,
        why: String,
    },
    #[error("make {what}: {why}")]
    Make { what: &'static str, why: String },
    /// The certificate signing request of a client is wrong: its fault.
    #[error("the certificate signing request is not usable: {why}")]
    BadRequest { why: String },
    #[error("set up TLS: {why}")]
    Tls { why: String },
}

/// The CA, the serving certificate (swapped in place when renewed), the admin's and the service-account signing key.
pub struct Pki {
    directory: PathBuf,
    names: Vec<String>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    serving: ArcSwap<CertifiedKey>,
    admin_certificate_pem: String,
    admin_key_pem: String,
    service_account_key: KeyPair,
}

impl Pki {
    /// Loads what is in `directory` and makes what is missing or due. `names` are the DNS names and IP addresses of the
    /// serving certificate, see [`serving_names`].
    pub fn load_or_create(directory: &Path, names: Vec<String>) -> Result<Arc<Self>, PkiError> {
        files::create_private_directory(directory)?;
        let (ca_pem, ca_key) = certificates::load_or_create_ca(directory)?;
        let ca_der = certificates::single_certificate(&ca_pem).map_err(|why| PkiError::Unusable {
            path: directory.join("ca.crt"),
            what: "certificate",
            why,
        })?;
        let issuer = Issuer::from_ca_cert_der(&ca_der, ca_key).map_err(|e| PkiError::Make {
            what: "the issuer",
            why: e.to_string(),
        })?;
        let service_account_key = certificates::load_or_create_key(directory, "sa.key")?;
        files::write_atomically(
            &directory.join("sa.pub"),
            service_account_key.public_key_pem().as_bytes(),
            0o644,
        )?;
        let serving = certificates::ensure_leaf(directory, &ca_der, &issuer, &Leaf::serving(&names))?;
        let admin = certificates::ensure_leaf(directory, &ca_der, &issuer, &Leaf::admin())?;
        Ok(Arc::new(Self {
            serving: ArcSwap::from_pointee(tls::certified_key(&serving)?),
            directory: directory.to_owned(),
            names,
            ca_pem,
            ca_der,
            issuer,
            admin_certificate_pem: admin.certificate_pem,
            admin_key_pem: admin.key_pem,
            service_account_key,
        }))
    }

    /// Issues the serving certificate anew if it is due, and uses it for new connections.
    pub fn renew_serving_certificate(&self) -> Result<(), PkiError> {
        let leaf = certificates::ensure_leaf(&self.directory, &self.ca_der, &self.issuer, &Leaf::serving(&self.names))?;
        self.serving.store(Arc::new(tls::certified_key(&leaf)?));
        Ok(())
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// Lower-case hex of the SHA-256 of the CA certificate (DER): the pin inside a join token.
    pub fn ca_hash(&self) -> String {
        hex(&Sha256::digest(&self.ca_der))
    }

    /// Certificate and private key of the administrator, PEM.
    pub fn admin(&self) -> (&str, &str) {
        (&self.admin_certificate_pem, &self.admin_key_pem)
    }

    /// The ES256 key that signs service-account tokens, PKCS#8 PEM, and its public half (SPKI PEM).
    pub fn service_account_key(&self) -> (String, String) {
        (
            self.service_account_key.serialize_pem(),
            self.service_account_key.public_key_pem(),
        )
    }

    /// Signs a client certificate for the public key of a PEM signing request. Only the key is taken from the request;
    /// the subject is what the caller has decided. The answer is PEM.
    pub fn sign_client(&self, request_pem: &str, common_name: &str, organization: &str) -> Result<String, PkiError> {
        let key = certificates::requested_key(request_pem)?;
        let params: CertificateParams = certificates::client_params(common_name, organization)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|e| PkiError::Make {
            what: "a client certificate",
            why: e.to_string(),
        })?;
        Ok(certificate.pem())
    }

    /// Signs `text` with the CA's key. Nodes verify it with the CA certificate that they got when they joined. Whoever calls
    /// this makes sure that no text can be taken for a certificate: those begin with the byte 0x30.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, PkiError> {
        use rcgen::SigningKey;
        self.issuer.key().sign(text).map_err(|e| PkiError::Make {
            what: "a signature",
            why: e.to_string(),
        })
    }

    /// A client certificate with a key of our own making, both PEM: for components that this process starts.
    pub fn issue_client(&self, common_name: &str, organization: &str) -> Result<(String, String), PkiError> {
        let leaf = certificates::issue(&self.issuer, &Leaf::client(common_name, organization))?;
        Ok((leaf.certificate_pem, leaf.key_pem))
    }
}

/// How often the serving certificate's age is looked at.
const RENEWAL_CHECK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(12 * 3600);

/// Renews the serving certificate when it is due, until `shutdown`.
pub async fn renew_regularly(pki: Arc<Pki>, shutdown: tokio_util::sync::CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RENEWAL_CHECK_INTERVAL) => {}
        }
        if let Err(error) = pki.renew_serving_certificate() {
            tracing::error!(%error, "the serving certificate was not renewed");
        }
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
