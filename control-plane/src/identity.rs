//! What several control planes on one etcd must agree on: the CA that every node and kubeconfig trusts, and the key that
//! signs ServiceAccount tokens. The first one to start puts them into the store, the others take them from there.
//!
//! The store holds every Secret of the cluster as well: whoever can read it could already act as anybody.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use skiff_apiserver::pki::{Pki, write_atomically};
use skiff_store::{Compare, DynStore, Operation, Txn, TxnOutcome, bookkeeping_key};

/// Files of the certificate directory that all share; leaf certificates are each server's own.
const SHARED_FILES: [&str; 3] = ["ca.crt", "ca.key", "sa.key"];

/// Loads the certificates of `directory`, the same CA and signing key as the other control planes on `store`.
pub(crate) async fn shared(store: &DynStore, prefix: &str, directory: &Path, names: Vec<String>) -> Result<Arc<Pki>> {
    let key = bookkeeping_key("pki", prefix);
    let had_authority = directory.join("ca.crt").exists();
    if let (Some(found), _) = store.get(&key).await.context("read the cluster's CA from the store")? {
        adopt(&found.value, directory)?;
        return load(directory, names);
    }
    let pki = load(directory, names.clone())?;
    let txn = Txn {
        compares: vec![Compare {
            key: key.clone(),
            mod_revision: 0,
        }],
        operations: vec![Operation::Put {
            key,
            value: read(directory)?.into(),
        }],
    };
    match store.txn(txn).await.context("put the cluster's CA into the store")? {
        TxnOutcome::Committed { .. } => Ok(pki),
        // Another control plane was faster.
        TxnOutcome::Failed { current, .. } => {
            let theirs = current
                .into_iter()
                .flatten()
                .next()
                .context("the store named no other CA")?;
            if !had_authority {
                // Made a moment ago, and nobody has seen it.
                std::fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
            }
            adopt(&theirs.value, directory)?;
            load(directory, names)
        }
    }
}

/// The certificates of a control plane that shares its store with nobody.
pub(crate) fn load(directory: &Path, names: Vec<String>) -> Result<Arc<Pki>> {
    Pki::load_or_create(directory, names).context("prepare the certificates")
}

fn read(directory: &Path) -> Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in SHARED_FILES {
        let path = directory.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        files.insert(name, text);
    }
    serde_json::to_vec(&files).context("write the cluster's CA as JSON")
}

/// Writes what the store holds; a file that is there already must be the same.
fn adopt(value: &[u8], directory: &Path) -> Result<()> {
    let files: BTreeMap<String, String> =
        serde_json::from_slice(value).context("the store's copy of the cluster's CA is damaged")?;
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    for name in SHARED_FILES {
        let Some(theirs) = files.get(name) else {
            bail!("the store's copy of the cluster's CA lacks {name}")
        };
        let path = directory.join(name);
        match std::fs::read_to_string(&path) {
            Ok(ours) if ours == *theirs => {}
            Ok(_) => bail!(
                "{} is not the one that this etcd's cluster uses: start with an empty --data-dir to join that cluster, or \
                 with another --etcd-prefix for a cluster of its own",
                path.display()
            ),
            Err(_) => write_atomically(&path, theirs.as_bytes(), 0o600).context("write the cluster's CA")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use skiff_store::embedded::{EmbeddedOptions, EmbeddedStore};

    use super::*;

    fn store(directory: &Path) -> DynStore {
        Arc::new(EmbeddedStore::open(directory.join("store"), EmbeddedOptions::default()).unwrap())
    }

    #[tokio::test]
    async fn the_second_takes_the_firsts_authority_and_a_stranger_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let names = || vec!["localhost".to_owned()];
        let at = |name: &str| directory.path().join(name);
        let first = shared(&store, "registry", &at("a"), names()).await.unwrap();
        let second = shared(&store, "registry", &at("b"), names()).await.unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.service_account_key(), second.service_account_key());
        let again = shared(&store, "registry", &at("a"), names()).await.unwrap();
        assert_eq!(again.ca_pem(), first.ca_pem());

        load(&at("stranger"), names()).unwrap();
        let Err(error) = shared(&store, "registry", &at("stranger"), names()).await else {
            panic!("accepted")
        };
        assert!(format!("{error:#}").contains("another --etcd-prefix"), "{error:#}");
        assert!(shared(&store, "other", &at("stranger"), names()).await.is_ok());
    }
}
