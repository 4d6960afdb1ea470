//! A read copy of one resource: the final bytes of every object, fed by one store watch, fanned out to many watchers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{DynStore, StoreError};

/// What selectors look at, taken from an object once when it enters the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub labels: BTreeMap<String, String>,
    /// Field selector paths with their values, `("spec.nodeName", "a")`.
    pub fields: Vec<(&'static str, String)>,
}

/// Takes the attributes out of an object's stored JSON.
pub type Extract = Arc<dyn Fn(&[u8]) -> Attributes + Send + Sync>;
/// Splices a resourceVersion into stored JSON: `skiff_api::canonical::with_resource_version`.
pub type Decorate = fn(&Bytes, u64) -> Bytes;

/// An object as it is served.
#[derive(Debug)]
pub struct CachedObject {
    /// The whole store key.
    pub key: String,
    /// Empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
    pub revision: u64,
    /// Final JSON, resourceVersion included.
    pub bytes: Bytes,
    pub labels: BTreeMap<String, String>,
    pub fields: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
#[derive(Debug)]
pub struct CacheEvent {
    pub revision: u64,
    pub kind: EventKind,
    /// For `Deleted`: the last state, carrying the deletion's revision as resourceVersion.
    pub object: Arc<CachedObject>,
    pub previous: Option<Arc<CachedObject>>,
}

impl CacheEvent {
    /// The watch line `{"type":"…","object":…}\n`, made on first use and then shared by all watchers.
    pub fn frame(&self) -> Bytes {
        unimplemented!()
    }
}

/// The watch line of any kind around any object.
pub fn frame(_kind: EventKind, _object: &Bytes) -> Bytes {
    unimplemented!()
}

/// The objects at one revision, in key order. Cheap to take and to keep: shares its structure with the cache.
#[derive(Clone)]
pub struct Snapshot {
    pub revision: u64,
}

impl Snapshot {
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CachedObject>> + '_ {
        std::iter::empty()
    }
    /// The objects whose key is strictly greater than `key`.
    pub fn iter_after<'a>(&'a self, _key: &str) -> impl Iterator<Item = &'a Arc<CachedObject>> + 'a {
        std::iter::empty()
    }
}

#[derive(Clone, Debug, Default)]
pub struct CacheOptions {}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The cache did not reach `wanted` in time: answer 504 Timeout (`Too large resource version: wanted, current: current`).
    #[error("Too large resource version: {wanted}, current: {current}")]
    Behind { wanted: u64, current: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The watch's start is gone, or the watcher was too slow: answer 410 Expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version (oldest is {oldest})")]
pub struct Expired {
    pub oldest: u64,
}

/// What a watcher yields.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// In revision order; never empty.
    pub events: Vec<Arc<CacheEvent>>,
    /// Everything up to this revision has been yielded.
    pub revision: u64,
}

/// One reader of the cache's changes.
pub struct Watcher {
    /// For a watch without start: the state that the events follow. Send it as ADDED events first.
    pub initial: Option<Snapshot>,
}

impl Watcher {
    /// The next changes, as soon as there are any. Cancel-safe.
    pub async fn next(&mut self) -> Result<WatchBatch, Expired> {
        unimplemented!()
    }
    /// The revision up to which everything has been yielded: the resourceVersion of a bookmark sent now.
    pub fn progress(&self) -> u64 {
        unimplemented!()
    }
}

/// The cache of one resource.
pub struct Cache {}

impl Cache {
    /// Starts the cache of every key below `prefix` (`/registry/pods/`, with the slash) in a task of the current runtime.
    /// It ends when the last `Arc` is dropped.
    pub fn start(
        _store: DynStore,
        _prefix: &str,
        _extract: Extract,
        _decorate: Decorate,
        _options: CacheOptions,
    ) -> Arc<Self> {
        unimplemented!()
    }
    /// The revision that the cache shows; 0 before its first list.
    pub fn revision(&self) -> u64 {
        unimplemented!()
    }
    /// Waits until the cache shows `revision` or a later one; returns what it shows.
    pub async fn wait_for(&self, _revision: u64, _timeout: Duration) -> Result<u64, CacheError> {
        unimplemented!()
    }
    /// A linearizable read barrier: after it, the cache shows every write that was acknowledged before the call.
    pub async fn fresh(&self) -> Result<u64, CacheError> {
        unimplemented!()
    }
    /// After a write of this resource at `revision`: waits (briefly) until the cache shows it. False = it does not yet.
    pub async fn observe(&self, _revision: u64) -> bool {
        unimplemented!()
    }
    /// The object under a whole store key, as the cache has it now.
    pub fn get(&self, _key: &str) -> Option<Arc<CachedObject>> {
        unimplemented!()
    }
    /// All objects, or those of one namespace, as the cache has them now.
    pub fn list(&self, _namespace: Option<&str>) -> Snapshot {
        unimplemented!()
    }
    /// Exactly the state at `revision` (not 0).
    ///
    /// # Errors
    /// `Store(Compacted)` when it is gone, `Behind` when it lies in the future.
    pub async fn list_at(&self, _revision: u64, _namespace: Option<&str>) -> Result<Snapshot, CacheError> {
        unimplemented!()
    }
    /// Changes after `from`; `None` = the current state (`Watcher::initial`), then what follows. A start in the future
    /// is allowed: changes up to it are skipped.
    pub fn watch(self: &Arc<Self>, _from: Option<u64>) -> Result<Watcher, Expired> {
        unimplemented!()
    }
}
