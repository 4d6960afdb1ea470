//! Whether the cluster's certificate authority signed something: compiled modules.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::transport;

/// Whether the key of one of these CA certificates (PEM) made `signature` over `text`.
pub(crate) fn is_by(ca_pem: &str, text: &[u8], signature: &[u8]) -> bool {
    CertificateDer::pem_slice_iter(ca_pem.as_bytes())
        .flatten()
        .any(|ca| is_by_one(&ca, text, signature))
}

fn is_by_one(ca: &CertificateDer<'_>, text: &[u8], signature: &[u8]) -> bool {
    let Ok((_, ca)) = x509_parser::parse_x509_certificate(ca) else {
        return false;
    };
    let key = &ca.public_key().subject_public_key.data;
    // The algorithm follows from the key: those of other kinds do not take it.
    let algorithms = transport::provider().signature_verification_algorithms;
    let mut algorithms = algorithms.all.iter();
    algorithms.any(|algorithm| algorithm.verify_signature(key, text, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SigningKey};

    use super::*;

    fn authority() -> (String, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let certificate = CertificateParams::new(Vec::new()).expect("params").self_signed(&key);
        (certificate.expect("certificate").pem(), key)
    }

    #[test]
    fn only_the_authoritys_signature_of_this_very_text_counts() {
        let ((ours, key), (theirs, other_key)) = (authority(), authority());
        let text = b"skiff compiled module v1\n";
        let signature = key.sign(text).expect("signature");
        assert!(is_by(&ours, text, &signature));
        assert!(is_by(&format!("{theirs}{ours}"), text, &signature), "one of several");
        assert!(!is_by(&theirs, text, &signature), "another cluster's");
        assert!(!is_by(&ours, text, &other_key.sign(text).expect("signature")));
        assert!(!is_by(&ours, b"skiff compiled module v2\n", &signature));
        assert!(!is_by(&ours, text, b"") && !is_by("", text, &signature));
        for at in 0..signature.len() {
            let mut flipped = signature.clone();
            flipped[at] ^= 1;
            assert!(!is_by(&ours, text, &flipped), "byte {at}");
        }
    }
}
