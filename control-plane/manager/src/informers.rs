//! Watches that fill the caches and tell subscribers what changed. A subscriber wakes keys, nothing more.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use serde::de::DeserializeOwned;
use skiff_controllers::{Cache, Caches, Indexed, ObjectKey, trim_metadata};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// First and longest pause after a watch that failed; the server is usually in the same process.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What a subscriber is told: the object before and after; never both absent.
pub(crate) type OnChange<K> = Arc<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// One kind's watch.
pub(crate) struct Informer<K> {
    pub(crate) api: Api<K>,
    pub(crate) config: Config,
    pub(crate) caches: Arc<Caches>,
    pub(crate) cache: fn(&Caches) -> &Cache<K>,
    /// Drops what nobody reads, before the object is kept.
    pub(crate) trim: fn(&mut K),
    pub(crate) on_change: OnChange<K>,
}

impl<K> Informer<K>
where
    K: Indexed + kube::Resource + Metadata<Ty = ObjectMeta> + Clone + Debug + DeserializeOwned,
{
    /// Starts the watch; the receiver turns true when the first complete list is in.
    pub(crate) fn start(self, tasks: &TaskTracker, stop: &CancellationToken) -> watch::Receiver<bool> {
        let (synced, receiver) = watch::channel(false);
        let stop = stop.clone();
        tasks.spawn(async move {
            let work = self.run(&synced);
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
        receiver
    }

    async fn run(self, synced: &watch::Sender<bool>) {
        let stream = watcher::watcher(self.api.clone(), self.config.clone()).backoff(Backoff::default());
        let mut stream = std::pin::pin!(stream);
        let mut listed: Option<BTreeSet<ObjectKey>> = None;
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => listed = Some(BTreeSet::new()),
                Ok(Event::InitApply(object)) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(ObjectKey::of(object.metadata()));
                    }
                    self.apply(object);
                }
                Ok(Event::InitDone) => {
                    if let Some(listed) = listed.take() {
                        self.drop_unlisted(&listed);
                    }
                    (self.cache)(&self.caches).write().mark_synced();
                    synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.apply(object),
                Ok(Event::Delete(object)) => {
                    let key = ObjectKey::of(object.metadata());
                    let old = (self.cache)(&self.caches).write().remove(&key, Some(object.metadata()));
                    if let Some(old) = old {
                        (self.on_change)(Some(&old), None);
                    }
                }
                Err(error) => tracing::debug!(kind = K::KIND, error = %error, "watch was interrupted"),
            }
        }
    }

    fn apply(&self, mut object: K) {
        trim_metadata(object.metadata_mut());
        (self.trim)(&mut object);
        let object = Arc::new(object);
        let old = (self.cache)(&self.caches).write().insert(object.clone());
        let version = |object: &Arc<K>| object.metadata().resource_version.clone();
        if old.as_ref().map(version) != Some(version(&object)) {
            (self.on_change)(old.as_ref(), Some(&object));
        }
    }

    /// After a new list: what it does not show was deleted while nobody watched.
    fn drop_unlisted(&self, listed: &BTreeSet<ObjectKey>) {
        let cache = (self.cache)(&self.caches);
        let gone: Vec<ObjectKey> = cache
            .read()
            .keys()
            .into_iter()
            .filter(|key| !listed.contains(key))
            .collect();
        for key in gone {
            let old = cache.write().remove(&key, None);
            if let Some(old) = old {
                (self.on_change)(Some(&old), None);
            }
        }
    }
}

/// Doubling pauses, reset by the first event that comes through.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Iterator for Backoff {
    type Item = Duration;
    fn next(&mut self) -> Option<Duration> {
        let pause = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures += 1;
        Some(pause)
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Waits until all are synced; false if stopped before.
pub(crate) async fn all_synced(receivers: &mut [watch::Receiver<bool>], stop: &CancellationToken) -> bool {
    for receiver in receivers {
        tokio::select! {
            () = stop.cancelled() => return false,
            result = receiver.wait_for(|synced| *synced) => {
                if result.is_err() {
                    return false;
                }
            }
        }
    }
    true
}
