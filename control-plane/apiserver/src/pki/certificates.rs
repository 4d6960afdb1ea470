//! Making, loading and judging certificates.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{read_optional, write_atomically};
use super::{ADMIN_USER, PkiError};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A CA outlives the machines that trust it.
const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// As kubeadm's leaf certificates.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// A leaf with less than this left is issued anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Certificates start in the past, so that a node whose clock lags accepts them.
const BACKDATED: Duration = DAY;

/// What a leaf certificate is to say.
pub(super) struct Leaf {
    /// Base name of its files; empty for one that is not kept.
    file: &'static str,
    common_name: String,
    organization: String,
    names: Vec<String>,
}

/// A certificate and its key, PEM.
pub(super) struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Leaf {
    pub(super) fn serving(names: &[String]) -> Self {
        Self {
            file: "apiserver",
            common_name: "kube-apiserver".into(),
            organization: String::new(),
            names: names.to_vec(),
        }
    }
    pub(super) fn admin() -> Self {
        Self {
            file: "admin",
            ..Self::client(ADMIN_USER, "system:masters")
        }
    }
    pub(super) fn client(common_name: &str, organization: &str) -> Self {
        Self {
            file: "",
            common_name: common_name.into(),
            organization: organization.into(),
            names: Vec::new(),
        }
    }
}

fn make<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> PkiError {
    move |e| PkiError::Make {
        what,
        why: e.to_string(),
    }
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make("a key"))
}

/// Loads a private key of ours, or makes it.
pub(super) fn load_or_create_key(directory: &Path, file: &str) -> Result<KeyPair, PkiError> {
    let path = directory.join(file);
    match read_optional(&path)? {
        Some(pem) => KeyPair::from_pem(&pem).map_err(|e| PkiError::Unusable {
            path,
            what: "key",
            why: e.to_string(),
        }),
        None => {
            let key = new_key()?;
            write_atomically(&path, key.serialize_pem().as_bytes(), 0o600)?;
            Ok(key)
        }
    }
}

/// The CA's certificate (PEM) and key. A certificate near its end is replaced by one with the same name and key, so that
/// everything signed before stays good.
pub(super) fn load_or_create_ca(directory: &Path) -> Result<(String, KeyPair), PkiError> {
    let path = directory.join("ca.crt");
    let present = read_optional(&path)?;
    if present.is_some() && !directory.join("ca.key").exists() {
        let why = "ca.crt exists, but ca.key does not".to_owned();
        return Err(PkiError::Unusable {
            path: directory.join("ca.key"),
            what: "key",
            why,
        });
    }
    let key = load_or_create_key(directory, "ca.key")?;
    if let Some(pem) = present {
        let der = single_certificate(&pem).map_err(|why| PkiError::Unusable {
            path: path.clone(),
            what: "certificate",
            why,
        })?;
        if !is_of_key(&der, &key) {
            let why = "its public key is not that of ca.key".to_owned();
            return Err(PkiError::Unusable {
                path,
                what: "certificate",
                why,
            });
        }
        if !ends_soon(&der) {
            return Ok((pem, key));
        }
    }
    let mut params = base_params("skiff-ca", "", CA_LIFETIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    let pem = params.self_signed(&key).map_err(make("the CA certificate"))?.pem();
    write_atomically(&path, pem.as_bytes(), 0o644)?;
    Ok((pem, key))
}

/// The leaf on disk if it is still right, else a new one with a new key.
pub(super) fn ensure_leaf(
    directory: &Path,
    ca: &CertificateDer<'_>,
    issuer: &Issuer<'_, KeyPair>,
    leaf: &Leaf,
) -> Result<Issued, PkiError> {
    let (certificate_path, key_path) = (
        directory.join(format!("{}.crt", leaf.file)),
        directory.join(format!("{}.key", leaf.file)),
    );
    if let (Some(certificate_pem), Some(key_pem)) = (read_optional(&certificate_path)?, read_optional(&key_path)?)
        && is_still_right(&certificate_pem, &key_pem, ca, leaf)
    {
        return Ok(Issued {
            certificate_pem,
            key_pem,
        });
    }
    let issued = issue(issuer, leaf)?;
    // Key first: a crash in between leaves a pair that does not match, which the next start replaces.
    write_atomically(&key_path, issued.key_pem.as_bytes(), 0o600)?;
    write_atomically(&certificate_path, issued.certificate_pem.as_bytes(), 0o644)?;
    Ok(issued)
}

pub(super) fn issue(issuer: &Issuer<'_, KeyPair>, leaf: &Leaf) -> Result<Issued, PkiError> {
    let key = new_key()?;
    let params = if leaf.names.is_empty() {
        client_params(&leaf.common_name, &leaf.organization)?
    } else {
        let mut params = base_params(&leaf.common_name, &leaf.organization, LEAF_LIFETIME)?;
        let named = CertificateParams::new(leaf.names.clone()).map_err(make("the serving certificate's names"))?;
        params.subject_alt_names = named.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    };
    let certificate_pem = params.signed_by(&key, issuer).map_err(make("a certificate"))?.pem();
    Ok(Issued {
        certificate_pem,
        key_pem: key.serialize_pem(),
    })
}

pub(super) fn client_params(common_name: &str, organization: &str) -> Result<CertificateParams, PkiError> {
    let mut params = base_params(common_name, organization, LEAF_LIFETIME)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn base_params(common_name: &str, organization: &str, lifetime: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if !organization.is_empty() {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let now = SystemTime::now();
    params.not_before = now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH).into();
    params.not_after = now
        .checked_add(lifetime)
        .ok_or_else(|| PkiError::Make {
            what: "a validity period",
            why: "the clock is too far in the future".to_owned(),
        })?
        .into();
    params.use_authority_key_identifier_extension = true;
    // Random: by default it would follow from the key, and a renewal must not repeat it. Positive: top bit clear.
    let mut serial = *uuid::Uuid::new_v4().as_bytes();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// The public key of a signing request whose own signature holds.
pub(super) fn requested_key(request_pem: &str) -> Result<rcgen::PublicKey, PkiError> {
    CertificateSigningRequestParams::from_pem(request_pem)
        .map(|request| request.public_key)
        .map_err(|e| PkiError::BadRequest { why: e.to_string() })
}

/// The first certificate of a PEM text.
pub(super) fn single_certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
    X509Certificate::from_der(&der).map_err(|e| e.to_string())?;
    Ok(der)
}

fn is_of_key(der: &CertificateDer<'_>, key: &KeyPair) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, c)| c.public_key().subject_public_key.data == key.der_bytes())
}

fn ends_soon(der: &CertificateDer<'_>) -> bool {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let limit = i64::try_from((now + RENEW_BEFORE).as_secs()).unwrap_or(i64::MAX);
    X509Certificate::from_der(der).map_or(true, |(_, c)| c.validity().not_after.timestamp() < limit)
}

fn is_still_right(certificate_pem: &str, key_pem: &str, ca: &CertificateDer<'_>, leaf: &Leaf) -> bool {
    let (Ok(der), Ok(key)) = (single_certificate(certificate_pem), KeyPair::from_pem(key_pem)) else {
        return false;
    };
    if ends_soon(&der) || !is_of_key(&der, &key) || !is_issued_by(&der, ca) {
        return false;
    }
    let mut wanted: Vec<String> = leaf.names.iter().map(|n| normal_name(n)).collect();
    wanted.sort();
    let mut present = certificate_names(&der);
    present.sort();
    let organizations = if leaf.organization.is_empty() {
        vec![]
    } else {
        vec![leaf.organization.clone()]
    };
    wanted == present && subject_of(&der) == Some((leaf.common_name.clone(), organizations))
}

fn normal_name(name: &str) -> String {
    name.parse::<IpAddr>()
        .map_or_else(|_| name.to_owned(), |address| address.to_string())
}

/// Whether the authority key id of a certificate is the subject key id of the CA.
fn is_issued_by(der: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(der), X509Certificate::from_der(ca)) else {
        return false;
    };
    let authority = leaf.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
        _ => None,
    });
    let subject = ca.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    authority.is_some() && authority == subject && leaf.issuer().as_raw() == ca.subject().as_raw()
}

/// DNS names and IP addresses of a certificate.
pub fn certificate_names(der: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
                16 => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// Common name and organizations of a certificate's subject; `None` for what cannot be read.
pub fn subject_of(der: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let common_name = subject
        .iter_common_name()
        .last()
        .and_then(|n| n.as_str().ok())
        .unwrap_or("")
        .to_owned();
    let organizations = subject
        .iter_organization()
        .filter_map(|o| Some(o.as_str().ok()?.to_owned()))
        .collect();
    Some((common_name, organizations))
}
