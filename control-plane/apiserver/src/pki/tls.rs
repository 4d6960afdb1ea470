//! The TLS side of the server: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, client certificates welcome but not asked of all.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::certificates::Issued;
use super::{Pki, PkiError};

fn failed(why: impl std::fmt::Display) -> PkiError {
    PkiError::Tls { why: why.to_string() }
}

pub(super) fn certified_key(leaf: &Issued) -> Result<CertifiedKey, PkiError> {
    let chain = CertificateDer::pem_slice_iter(leaf.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(failed)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(failed)
}

/// Hands out the serving certificate of the moment.
struct CurrentCertificate(Arc<Pki>);

impl std::fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentCertificate")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.serving.load_full())
    }
}

/// Certificates of a PEM bundle (`--client-ca-file`); an empty bundle is an error.
pub fn client_ca_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if certificates.is_empty() {
        return Err(failed("the client CA file holds no certificate"));
    }
    Ok(certificates)
}

/// The server's TLS configuration. Clients may show a certificate of the cluster's CA or of `extra_client_ca` (PEM); one
/// that does not verify ends the handshake, none at all is fine (tokens).
pub fn server_tls_config(pki: &Arc<Pki>, extra_client_ca: Option<&[u8]>) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).map_err(failed)?;
    if let Some(pem) = extra_client_ca {
        for certificate in client_ca_certificates(pem)? {
            roots.add(certificate).map_err(failed)?;
        }
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(CurrentCertificate(Arc::clone(pki))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
