//! One served resource: its kind's row and strategy, where its objects rest, and its cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use serde_json::Value;
use skiff_api::canonical;
use skiff_api::kind::{self, ResourceInfo};
use skiff_api::schema::{Message, Schema};
use skiff_api::status::{ApiResult, Subject};
use skiff_store::DynStore;
use skiff_store::watch_cache::{Cache, CacheOptions};

use super::extract::Extractor;
use super::{parse, set_resource_version};
use crate::strategy::Strategy;

/// One served resource.
pub struct Resource {
    pub info: &'static ResourceInfo,
    pub strategy: Arc<dyn Strategy>,
    /// `/registry/pods/`: with the prefix, ends with a slash.
    pub key_prefix: String,
    pub cache: Arc<Cache>,
    /// The kind in the field table; absent for kinds that it does not know.
    pub message: Option<&'static Message>,
    /// The row of the `status` subresource, if there is one.
    pub status: Option<&'static ResourceInfo>,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    pub(super) changes: OnceLock<Arc<AtomicU64>>,
}

impl Resource {
    /// The storage key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.info.namespaced {
            format!("{}{namespace}/{name}", self.key_prefix)
        } else {
            format!("{}{name}", self.key_prefix)
        }
    }
    /// How many bytes `{"kind":"Pod","apiVersion":"v1",` takes at the start of an object's bytes: items of a list lack it.
    pub fn type_prefix_len(&self) -> usize {
        r#"{"kind":"","apiVersion":"","#.len() + self.info.kind.len() + self.api_version.len()
    }
    /// For errors about one object.
    pub fn subject<'a>(&self, name: &'a str) -> Subject<'a> {
        Subject {
            group: self.info.group,
            resource: self.info.resource,
            name,
        }
    }
    /// For `Invalid` errors, which name the Kind.
    pub fn kind_subject<'a>(&self, name: &'a str) -> Subject<'a> {
        Subject {
            // Events of both groups are one kind inside Kubernetes, and its errors name that one.
            group: if self.info.kind_group == "events.k8s.io" {
                ""
            } else {
                self.info.kind_group
            },
            resource: self.info.kind,
            name,
        }
    }
}

impl Resource {
    /// The bytes at rest of an object.
    pub fn encode(&self, value: &Value) -> Bytes {
        if self.strategy.converts() {
            canonical::to_bytes(&self.strategy.to_storage(value.clone()))
        } else {
            canonical::to_bytes(value)
        }
    }
    /// An object from its bytes at rest.
    pub fn decode(&self, bytes: &[u8], revision: u64) -> ApiResult<Value> {
        let value = parse(bytes)?;
        let mut value = if self.strategy.converts() {
            self.strategy.out_of_storage(value)
        } else {
            value
        };
        set_resource_version(&mut value, revision);
        Ok(value)
    }
    /// Whether a write waits until the cache shows it, so that admission and authorisation of the next request see it.
    /// Hot kinds that neither reads do not.
    pub(super) fn follows_writes(&self) -> bool {
        !matches!(self.info.resource, "events" | "leases" | "pods")
    }
    /// Counts the changes of the cache, from the first call on.
    pub(super) fn changes(&self) -> u64 {
        let counter = self.changes.get_or_init(|| {
            let counter = Arc::new(AtomicU64::new(1));
            tokio::spawn(count_changes(Arc::downgrade(&self.cache), Arc::downgrade(&counter)));
            counter
        });
        counter.load(Ordering::Acquire)
    }
}

/// Follows a cache and bumps the counter at each change, until either is gone.
async fn count_changes(cache: Weak<Cache>, counter: Weak<AtomicU64>) {
    loop {
        let Some(watcher) = cache.upgrade().map(|cache| cache.watch(None)) else {
            return;
        };
        let Ok(mut watcher) = watcher else {
            tokio::task::yield_now().await;
            continue;
        };
        loop {
            let batch = watcher.next().await;
            match counter.upgrade() {
                Some(counter) => counter.fetch_add(1, Ordering::AcqRel),
                None => return,
            };
            if batch.is_err() {
                break;
            }
        }
    }
}

impl Resource {
    pub(super) fn start(store: &DynStore, prefix: &str, strategy: Arc<dyn Strategy>) -> Self {
        let info = strategy.info();
        let key_prefix = format!("{prefix}/{}/", strategy.storage_resource());
        let extractor = Extractor::new(strategy.clone());
        let extract = Arc::new(move |bytes: &[u8]| extractor.attributes(bytes));
        let cache = Cache::start(
            store.clone(),
            &key_prefix,
            extract,
            strategy.decorate(),
            CacheOptions::default(),
        );
        Self {
            info,
            strategy,
            key_prefix,
            cache,
            message: Schema::get().message_for(info.kind_group, info.kind_version, info.kind),
            status: kind::find(info.group, info.version, info.resource, "status"),
            api_version: kind::api_version(info.kind_group, info.kind_version),
            changes: OnceLock::new(),
        }
    }
}
