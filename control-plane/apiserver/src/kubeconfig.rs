//! The text of a kubeconfig, as kubectl and every client library read it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::pki::{ADMIN_USER, Pki, PkiError, write_atomically};

/// Cluster and context name in the files that we write.
pub const CONTEXT_NAME: &str = "skiff";

/// A kubeconfig for the administrator with everything embedded, as YAML. `server` is a URL: `https://127.0.0.1:6443`.
pub fn admin_kubeconfig(pki: &Pki, server: &str) -> String {
    let (certificate, key) = pki.admin();
    client_kubeconfig(pki, server, ADMIN_USER, certificate, key)
}

/// A kubeconfig for any client certificate; all PEM.
pub fn client_kubeconfig(pki: &Pki, server: &str, user: &str, certificate_pem: &str, key_pem: &str) -> String {
    let embedded = |pem: &str| STANDARD.encode(pem);
    let user = format!("{CONTEXT_NAME}-{user}");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": CONTEXT_NAME,
            "cluster": {"server": server, "certificate-authority-data": embedded(pki.ca_pem())},
        }],
        "contexts": [{"name": CONTEXT_NAME, "context": {"cluster": CONTEXT_NAME, "user": user}}],
        "current-context": CONTEXT_NAME,
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": embedded(certificate_pem),
                "client-key-data": embedded(key_pem),
            },
        }],
    });
    serde_saphyr::to_string(&config).expect("plain maps, lists and strings can always be written as YAML")
}

/// Writes a kubeconfig whole or not at all, readable by its owner alone.
pub fn write_kubeconfig(path: &Path, text: &str) -> Result<(), PkiError> {
    write_atomically(path, text.as_bytes(), 0o600)
}
