//! ConfigMaps, Secrets and RuntimeClasses that pods of this node refer to: read one by one, by name, and kept for a short
//! while, so that many pods starting together ask once.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::tokens::Token;

/// How old a copy may be that a starting container is given.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// RuntimeClass handlers cannot be changed; only deletion would be seen late.
const RUNTIME_CLASS_FRESH_FOR: Duration = Duration::from_secs(60);
/// Entries kept at most; beyond it stale ones go.
const ENTRIES_MAX: usize = 1024;
/// The ConfigMap in every namespace that holds the cluster's CA: we know its content without asking.
const ROOT_CA_NAME: &str = "kube-root-ca.crt";

type Entry = Arc<OnceCell<Arc<dyn Any + Send + Sync>>>;

pub(crate) struct Objects {
    client: kube::Client,
    ca_pem: String,
    entries: Mutex<HashMap<String, (Instant, Entry)>>,
    tokens: Mutex<HashMap<String, Arc<Token>>>,
}

impl Objects {
    pub(crate) fn new(client: kube::Client, ca_pem: String) -> Self {
        Self {
            client,
            ca_pem,
            entries: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub(crate) fn token(&self, key: &str) -> Option<Arc<Token>> {
        self.tokens
            .lock()
            .expect("no code panics while holding this lock")
            .get(key)
            .cloned()
    }

    /// Keeps a token until it expires.
    pub(crate) fn keep_token(&self, key: String, token: Token) {
        let now = Timestamp::now();
        let mut tokens = self.tokens.lock().expect("no code panics while holding this lock");
        tokens.retain(|_, token| token.expires_at > now);
        tokens.insert(key, Arc::new(token));
    }

    /// None when there is no such ConfigMap.
    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, kube::Error> {
        if name == ROOT_CA_NAME {
            let data = [("ca.crt".to_owned(), self.ca_pem.clone())].into();
            return Ok(Some(Arc::new(ConfigMap {
                data: Some(data),
                ..ConfigMap::default()
            })));
        }
        self.namespaced("configmap", namespace, name).await
    }

    /// None when there is no such Secret.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, kube::Error> {
        self.namespaced("secret", namespace, name).await
    }

    pub(crate) async fn runtime_class(&self, name: &str) -> Result<Option<Arc<RuntimeClass>>, kube::Error> {
        let api: Api<RuntimeClass> = Api::all(self.client.clone());
        self.cached(format!("runtimeclass//{name}"), RUNTIME_CLASS_FRESH_FOR, || {
            api.get_opt(name)
        })
        .await
    }

    async fn namespaced<K>(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Arc<K>>, kube::Error>
    where
        K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.cached(format!("{kind}/{namespace}/{name}"), FRESH_FOR, || api.get_opt(name))
            .await
    }

    async fn cached<K, F>(
        &self,
        key: String,
        fresh_for: Duration,
        fetch: impl FnOnce() -> F,
    ) -> Result<Option<Arc<K>>, kube::Error>
    where
        K: Send + Sync + 'static,
        F: Future<Output = Result<Option<K>, kube::Error>>,
    {
        let entry = self.entry(key, fresh_for);
        let value = entry
            .get_or_try_init(|| async {
                let found: Option<Arc<K>> = fetch().await?.map(Arc::new);
                Ok::<_, kube::Error>(Arc::new(found) as Arc<dyn Any + Send + Sync>)
            })
            .await?;
        let found = value.downcast_ref::<Option<Arc<K>>>();
        Ok(found.expect("a key names the kind that is kept under it").clone())
    }

    fn entry(&self, key: String, fresh_for: Duration) -> Entry {
        let now = Instant::now();
        let mut entries = self.entries.lock().expect("no code panics while holding this lock");
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, (until, _)| *until > now);
        }
        match entries.get(&key) {
            Some((until, entry)) if *until > now => entry.clone(),
            _ => {
                let entry = Entry::default();
                entries.insert(key, (now + fresh_for, entry.clone()));
                entry
            }
        }
    }
}
