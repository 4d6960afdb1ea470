//! A read copy of one resource: the final bytes of every object, fed by one store watch, fanned out to many watchers.
//!
//! Readers take snapshots (one reference count each) and never hold up the feed; watchers are cursors into one shared
//! history of events. The feed heals itself: when the store's history is gone it lists anew, and the watchers of the time
//! before end with `Expired`.

mod feed;
mod object;
mod objects;
mod state;
#[cfg(test)]
mod tests;
mod watcher;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::{DynStore, StoreError};
pub use object::{Attributes, CacheEvent, CachedObject, Decorate, EventKind, Extract, Interest};
pub use objects::Snapshot;
pub use watcher::{Expired, WatchBatch, Watcher};

use object::Maker;
use objects::Objects;
use state::{Limits, State, Update};

/// Events kept for watchers that resume or lag. kube-apiserver keeps up to 102,400.
const HISTORY_EVENTS: usize = 32_768;
/// … or this many bytes: three seconds of 2,000 writes of 5 kB a second.
const HISTORY_BYTES: usize = 64 * 1024 * 1024;
/// … or this long, as long as the stores keep theirs.
const HISTORY_AGE: Duration = Duration::from_secs(5 * 60);
/// How long a consistent read waits for the cache, as kube-apiserver's does before it answers 504.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the answer to a write waits for the cache to show it.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(1);
/// While waiting, progress is asked for this often: a request may find the store's watch just being opened.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Bounds of a cache. The defaults are right for a control plane.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    pub history_events: usize,
    pub history_bytes: usize,
    pub history_age: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            history_events: HISTORY_EVENTS,
            history_bytes: HISTORY_BYTES,
            history_age: HISTORY_AGE,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The cache did not reach `wanted` in time: answer 504 Timeout.
    #[error("Too large resource version: {wanted}, current: {current}")]
    Behind { wanted: u64, current: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the cache, its feed and its watchers share.
pub(crate) struct Inner {
    state: RwLock<State>,
    maker: Maker,
    limits: Limits,
    /// The revision that the state shows, for those who wait for one.
    revision: watch::Sender<u64>,
    /// Told after every event.
    changed: Arc<Notify>,
    /// Told after events of narrower interest. Gone with their last watcher.
    interests: Mutex<HashMap<Interest, Weak<Notify>>>,
}

impl Inner {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, revision) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            (change(&mut state), state.revision)
        };
        self.revision
            .send_if_modified(|shown| std::mem::replace(shown, revision) != revision);
        result
    }

    fn interests(&self) -> MutexGuard<'_, HashMap<Interest, Weak<Notify>>> {
        self.interests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a watcher of this interest waits for.
    fn wake_for(&self, interest: &Interest) -> Arc<Notify> {
        if *interest == Interest::All {
            return self.changed.clone();
        }
        let mut interests = self.interests();
        if let Some(wake) = interests.get(interest).and_then(Weak::upgrade) {
            return wake;
        }
        interests.retain(|_, wake| wake.strong_count() > 0);
        let wake = Arc::new(Notify::new());
        interests.insert(interest.clone(), Arc::downgrade(&wake));
        wake
    }

    fn wake_all(&self) {
        self.changed.notify_waiters();
        self.interests()
            .values()
            .filter_map(Weak::upgrade)
            .for_each(|wake| wake.notify_waiters());
    }

    fn reset(&self, revision: u64, objects: Objects) {
        self.change(|state| state.reset(revision, objects));
        self.wake_all();
    }

    fn apply(&self, updates: Vec<Update>) {
        let events = self.change(|state| state.apply(updates, &self.maker, self.limits, Instant::now()));
        if events.is_empty() {
            return;
        }
        self.changed.notify_waiters();
        let interests = self.interests();
        if interests.is_empty() {
            return;
        }
        for interest in events.iter().flat_map(|event| Interest::in_event(event)) {
            if let Some(wake) = interests.get(&interest).and_then(Weak::upgrade) {
                wake.notify_waiters();
            }
        }
    }
}

/// The cache of one resource.
pub struct Cache {
    inner: Arc<Inner>,
    store: DynStore,
    feed: tokio::task::AbortHandle,
}

impl Cache {
    /// Starts the cache of every key below `prefix` (`/registry/pods/`, with the slash) in a task of the current runtime.
    /// It ends when the last `Arc` is dropped.
    pub fn start(
        store: DynStore,
        prefix: &str,
        extract: Extract,
        decorate: Decorate,
        options: CacheOptions,
    ) -> Arc<Self> {
        let inner = Arc::new(Inner {
            state: RwLock::default(),
            maker: Maker {
                prefix: prefix.to_owned(),
                extract,
                decorate,
            },
            limits: Limits {
                events: options.history_events,
                bytes: options.history_bytes,
                age: options.history_age,
            },
            revision: watch::Sender::new(0),
            changed: Arc::default(),
            interests: Mutex::default(),
        });
        let feed = tokio::spawn(feed::run(store.clone(), inner.clone())).abort_handle();
        Arc::new(Self { inner, store, feed })
    }

    /// The revision that the cache shows; 0 before its first list.
    pub fn revision(&self) -> u64 {
        self.inner.state().revision
    }

    /// Waits for the first list. Every other read of a cache just started would find it empty.
    ///
    /// # Errors
    /// `Behind` after three seconds.
    pub async fn ready(&self) -> Result<(), CacheError> {
        self.wait_for(1, FRESH_TIMEOUT).await.map(|_| ())
    }

    /// Waits until the cache shows `revision` or a later one; returns what it shows.
    ///
    /// # Errors
    /// `Behind` after `timeout`.
    pub async fn wait_for(&self, revision: u64, timeout: Duration) -> Result<u64, CacheError> {
        let shown = self.revision();
        if shown >= revision {
            return Ok(shown);
        }
        let mut updates = self.inner.revision.subscribe();
        let wait = async {
            loop {
                self.store.request_progress();
                let reached = updates.wait_for(|shown| *shown >= revision);
                if let Ok(Ok(shown)) = tokio::time::timeout(PROGRESS_INTERVAL, reached).await {
                    return *shown;
                }
            }
        };
        tokio::time::timeout(timeout, wait)
            .await
            .map_err(|_| CacheError::Behind {
                wanted: revision,
                current: self.revision(),
            })
    }

    /// A linearizable read barrier: after it, the cache shows every write that was acknowledged before the call. Returns
    /// the revision that the cache shows.
    ///
    /// # Errors
    /// `Behind` when the cache does not catch up within three seconds; `Store` when the store cannot be asked.
    pub async fn fresh(&self) -> Result<u64, CacheError> {
        let revision = self.store.revision().await?;
        self.wait_for(revision, FRESH_TIMEOUT).await
    }

    /// After a write of this resource at `revision`: waits (a second at most) until the cache shows it, so that every later
    /// read of this server does. False = it does not yet, which is no error.
    pub async fn observe(&self, revision: u64) -> bool {
        self.wait_for(revision, OBSERVE_TIMEOUT).await.is_ok()
    }

    /// The object under a whole store key, as the cache has it now.
    pub fn get(&self, key: &str) -> Option<Arc<CachedObject>> {
        self.inner.state().objects.get(key).cloned()
    }

    /// All objects, or those of one namespace, as the cache has them now.
    pub fn list(&self, namespace: Option<&str>) -> Snapshot {
        self.inner.state().snapshot(self.below(namespace).as_deref())
    }

    /// The keys of a namespace.
    fn below(&self, namespace: Option<&str>) -> Option<String> {
        namespace.map(|namespace| format!("{}{namespace}/", self.inner.maker.prefix))
    }

    /// Exactly the state at `revision` (not 0): from the cache's own history when it reaches back that far, else from the
    /// store.
    ///
    /// # Errors
    /// `Store(Compacted)` when it is gone, `Behind` when it lies in the future.
    pub async fn list_at(&self, revision: u64, namespace: Option<&str>) -> Result<Snapshot, CacheError> {
        self.wait_for(revision, FRESH_TIMEOUT).await?;
        let below = self.below(namespace);
        let rewound = self.inner.state().rewind(revision);
        if let Some((mut objects, events)) = rewound {
            state::undo(&mut objects, &events);
            return Ok(Snapshot::new(revision, objects, below.as_deref()));
        }
        let prefix = below.as_deref().unwrap_or(&self.inner.maker.prefix);
        let (revision, objects) = feed::list_all(&*self.store, &self.inner.maker, prefix, revision).await?;
        Ok(Snapshot::new(revision, Objects::from_sorted(objects), None))
    }

    /// Changes after `from`; `None` = the current state (`Watcher::initial`), then what follows. A start in the future
    /// is allowed: changes up to it are skipped. Wait for `ready` first, and for `fresh` when the state must be the newest.
    ///
    /// # Errors
    /// `Expired` when changes after `from` are no longer known.
    pub fn watch(&self, from: Option<u64>) -> Result<Watcher, Expired> {
        self.watch_for(Interest::All, from)
    }

    /// The same for a part of the events. (`Watcher::initial` holds all objects.)
    ///
    /// # Errors
    /// As `watch`.
    pub fn watch_for(&self, interest: Interest, from: Option<u64>) -> Result<Watcher, Expired> {
        let wake = self.inner.wake_for(&interest);
        let state = self.inner.state();
        let revision = from.unwrap_or(state.revision);
        let next = state.seek(revision).map_err(|oldest| Expired { oldest })?;
        let initial = from.is_none().then(|| state.snapshot(None));
        drop(state);
        Ok(Watcher {
            initial,
            inner: self.inner.clone(),
            interest,
            wake,
            next,
            start: revision,
            revision,
        })
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.feed.abort();
        // Watchers that outlive the cache would wait for ever; with their history gone they end.
        self.inner.reset(self.revision(), Objects::default());
    }
}
