//! Keys and certificates on disk, and real TLS handshakes with them.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::*;

fn names(extra: &[&str]) -> Vec<String> {
    let extra: Vec<String> = extra.iter().map(|s| (*s).to_owned()).collect();
    serving_names("127.0.0.1".parse().unwrap(), Some("10.43.0.1".parse().unwrap()), &extra)
}

fn client_of(pki: &Pki, identity: Option<(&str, &str)>, name: &'static str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap()
}

/// Shakes hands in memory; the server's view of the client's certificates.
fn handshake(server: &Arc<Pki>, mut client: ClientConnection) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let mut server = ServerConnection::new(Arc::new(server_tls_config(server, None).unwrap())).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
        if !server.is_handshaking() && !client.is_handshaking() {
            return Ok(server
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|c| c.clone().into_owned())
                .collect());
        }
    }
    panic!("the handshake did not end");
}

#[test]
fn everything_is_made_once_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(directory.path(), names(&[])).unwrap();
    let second = Pki::load_or_create(directory.path(), names(&[])).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.admin(), second.admin());
    assert_eq!(first.service_account_key(), second.service_account_key());
    assert_eq!(first.serving.load().cert, second.serving.load().cert);
    assert_eq!(first.ca_hash().len(), 64);
}

#[test]
fn private_keys_are_readable_by_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    Pki::load_or_create(directory.path(), names(&[])).unwrap();
    let mut keys = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let holds_key = std::fs::read_to_string(&path).unwrap().contains("PRIVATE KEY");
        if holds_key {
            keys += 1;
            assert_eq!(
                path.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
    }
    assert_eq!(keys, 4);
}

#[test]
fn another_name_gives_another_serving_certificate_but_the_same_ca() {
    let directory = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(directory.path(), names(&[])).unwrap();
    let second = Pki::load_or_create(directory.path(), names(&["edge.example", "192.0.2.7"])).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_ne!(first.serving.load().cert, second.serving.load().cert);
    let carried = certificate_names(&second.serving.load().cert[0]);
    for name in [
        "edge.example",
        "192.0.2.7",
        "10.43.0.1",
        "kubernetes.default.svc",
        "localhost",
        "127.0.0.1",
        "::1",
    ] {
        assert!(carried.iter().any(|n| n == name), "{name} is missing in {carried:?}");
    }
}

#[test]
fn a_leaf_of_another_ca_is_replaced() {
    let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Pki::load_or_create(ours.path(), names(&[])).unwrap();
    let other_pki = Pki::load_or_create(other.path(), names(&[])).unwrap();
    for file in ["admin.crt", "admin.key"] {
        std::fs::copy(other.path().join(file), ours.path().join(file)).unwrap();
    }
    let pki = Pki::load_or_create(ours.path(), names(&[])).unwrap();
    assert_ne!(pki.admin(), other_pki.admin());
    handshake(&pki, client_of(&pki, Some(pki.admin()), "localhost")).unwrap();
}

#[test]
fn a_lost_ca_key_is_an_error_and_never_a_new_ca() {
    let directory = tempfile::tempdir().unwrap();
    Pki::load_or_create(directory.path(), names(&[])).unwrap();
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    let error = Pki::load_or_create(directory.path(), names(&[])).err().unwrap();
    assert!(
        error.to_string().contains("ca.crt exists, but ca.key does not"),
        "{error}"
    );
}

#[test]
fn clients_with_without_and_with_a_foreign_certificate() {
    let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pki = Pki::load_or_create(ours.path(), names(&[])).unwrap();
    let foreign = Pki::load_or_create(other.path(), names(&[])).unwrap();

    let seen = handshake(&pki, client_of(&pki, Some(pki.admin()), "kubernetes.default.svc")).unwrap();
    assert_eq!(
        subject_of(&seen[0]),
        Some((ADMIN_USER.to_owned(), vec!["system:masters".to_owned()]))
    );
    assert!(handshake(&pki, client_of(&pki, None, "localhost")).unwrap().is_empty());
    let strange = foreign.admin();
    // A client that knows the acceptable issuers may hold a foreign certificate back; showing it must fail.
    match handshake(&pki, client_of(&pki, Some(strange), "localhost")) {
        Ok(shown) => assert!(shown.is_empty()),
        Err(error) => assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}"),
    }
    assert!(handshake(&pki, client_of(&pki, None, "elsewhere.example")).is_err());
}

#[test]
fn a_signing_request_decides_only_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(directory.path(), names(&[])).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec!["kubernetes".to_owned()]).unwrap();
    wish.distinguished_name
        .push(rcgen::DnType::CommonName, "kubernetes-admin");
    wish.distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:masters");
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = wish.serialize_request(&key).unwrap().pem().unwrap();
    let signed = pki.sign_client(&request, "system:node:n1", "system:nodes").unwrap();
    let der = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
    assert_eq!(
        subject_of(&der),
        Some(("system:node:n1".to_owned(), vec!["system:nodes".to_owned()]))
    );
    assert!(certificate_names(&der).is_empty());
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!parsed.is_ca());
    handshake(
        &pki,
        client_of(&pki, Some((&signed, &key.serialize_pem())), "localhost"),
    )
    .unwrap();

    let tampered = {
        use base64::Engine;
        let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap();
        let mut bytes = der.to_vec();
        let position = bytes.windows(10).position(|w| w == b"kubernetes").unwrap();
        bytes[position] = b'K';
        let body = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    assert!(matches!(
        pki.sign_client(&tampered, "n", "o"),
        Err(PkiError::BadRequest { .. })
    ));
    assert!(matches!(
        pki.sign_client("nonsense", "n", "o"),
        Err(PkiError::BadRequest { .. })
    ));
}

#[test]
fn renewal_leaves_a_good_certificate_alone_and_reaches_new_connections() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(directory.path(), names(&[])).unwrap();
    let before = pki.serving.load().cert.clone();
    pki.renew_serving_certificate().unwrap();
    assert_eq!(before, pki.serving.load().cert);
    std::fs::remove_file(directory.path().join("apiserver.crt")).unwrap();
    pki.renew_serving_certificate().unwrap();
    assert_ne!(before, pki.serving.load().cert);
    handshake(&pki, client_of(&pki, None, "localhost")).unwrap();
}

#[test]
fn kubeconfig_is_private_and_complete() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(&directory.path().join("pki"), names(&[])).unwrap();
    let text = crate::kubeconfig::admin_kubeconfig(&pki, "https://127.0.0.1:6443");
    let config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(config["current-context"], "skiff");
    assert_eq!(config["contexts"][0]["context"]["user"], config["users"][0]["name"]);
    for pointer in [
        "/clusters/0/cluster/certificate-authority-data",
        "/users/0/user/client-key-data",
    ] {
        assert!(!skiff_api::object::str_at(&config, pointer).is_empty(), "{pointer}");
    }
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, "old").unwrap();
    crate::kubeconfig::write_kubeconfig(&path, &text).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}
