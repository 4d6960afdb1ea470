//! "Did my last write arrive?": a key is held back until the caches have seen what its own last plan wrote.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_controllers::{Cache, Caches, Indexed, ObjectKey, Resource};
use tokio::time::Instant;

/// A cache that has not seen a write after so long does not hold its key back any more: every action is safe when stale.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One write that caches have to show.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// The cache of this resource has come as far as this version.
    Version { resource: Resource, version: u64 },
    /// The object with this uid is gone from the cache, or on its way out there.
    Ending {
        resource: Resource,
        key: ObjectKey,
        uid: String,
    },
}

/// The unconfirmed writes of each key of one controller.
#[derive(Debug, Default)]
pub(crate) struct WrittenGate {
    pending: Mutex<HashMap<ObjectKey, (Instant, Vec<Expected>)>>,
}

impl WrittenGate {
    pub(crate) fn expect(&self, key: &ObjectKey, expected: Vec<Expected>, now: Instant) {
        if !expected.is_empty() {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = pending.entry(key.clone()).or_insert_with(|| (now, Vec::new()));
            entry.0 = now;
            entry.1.extend(expected);
        }
    }

    /// Whether the caches show everything that this key has written.
    pub(crate) fn is_open(&self, key: &ObjectKey, caches: &Caches, now: Instant) -> bool {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, expected)) = pending.get_mut(key) else {
            return true;
        };
        expected.retain(|one| !is_visible(one, caches));
        let open = expected.is_empty() || now.saturating_duration_since(*since) > WAIT_MAX;
        if open {
            pending.remove(key);
        }
        open
    }
}

fn is_visible(expected: &Expected, caches: &Caches) -> bool {
    match expected {
        Expected::Version { resource, version } => seen(resource, caches).is_none_or(|seen| seen >= *version),
        Expected::Ending { resource, key, uid } => match resource.plural.as_ref() {
            "pods" => is_ending(&caches.pods, key, uid),
            "replicasets" => is_ending(&caches.replica_sets, key, uid),
            "deployments" => is_ending(&caches.deployments, key, uid),
            "jobs" => is_ending(&caches.jobs, key, uid),
            "cronjobs" => is_ending(&caches.cron_jobs, key, uid),
            "nodes" => is_ending(&caches.nodes, key, uid),
            _ => true,
        },
    }
}

fn is_ending<K: Indexed + Metadata<Ty = ObjectMeta>>(cache: &Cache<K>, key: &ObjectKey, uid: &str) -> bool {
    cache.read().get(key).is_none_or(|object| {
        let meta = object.metadata();
        meta.uid.as_deref() != Some(uid) || meta.deletion_timestamp.is_some()
    })
}

/// How far the cache of a resource has come; `None` if there is none.
fn seen(resource: &Resource, caches: &Caches) -> Option<u64> {
    Some(match resource.plural.as_ref() {
        "pods" => caches.pods.read().seen(),
        "replicasets" => caches.replica_sets.read().seen(),
        "deployments" => caches.deployments.read().seen(),
        "jobs" => caches.jobs.read().seen(),
        "cronjobs" => caches.cron_jobs.read().seen(),
        "nodes" => caches.nodes.read().seen(),
        "namespaces" => caches.namespaces.read().seen(),
        "serviceaccounts" => caches.service_accounts.read().seen(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use std::sync::Arc;

    fn pod(name: &str, uid: &str, version: &str) -> Arc<Pod> {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("d".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        Arc::new(Pod {
            metadata,
            ..Pod::default()
        })
    }

    #[test]
    fn a_key_waits_for_its_own_writes_but_not_for_ever() {
        let (gate, caches, key) = (WrittenGate::default(), Caches::default(), ObjectKey::new("d", "web"));
        let now = Instant::now();
        let version = |version| {
            vec![Expected::Version {
                resource: Resource::POD,
                version,
            }]
        };
        assert!(gate.is_open(&key, &caches, now));
        gate.expect(&key, version(7), now);
        assert!(!gate.is_open(&key, &caches, now));
        caches.pods.write().insert(pod("a", "1", "6"));
        assert!(!gate.is_open(&key, &caches, now));
        caches.pods.write().insert(pod("b", "2", "7"));
        assert!(gate.is_open(&key, &caches, now));
        gate.expect(&key, version(99), now);
        assert!(!gate.is_open(&key, &caches, now));
        assert!(gate.is_open(&key, &caches, now + WAIT_MAX + Duration::from_secs(1)));
    }

    #[test]
    fn a_deletion_has_arrived_when_that_very_object_is_gone() {
        let caches = Caches::default();
        caches.pods.write().insert(pod("a", "old", "5"));
        let expected = Expected::Ending {
            resource: Resource::POD,
            key: ObjectKey::new("d", "a"),
            uid: "old".into(),
        };
        assert!(!is_visible(&expected, &caches));
        caches.pods.write().insert(pod("a", "new", "9"));
        assert!(is_visible(&expected, &caches));
    }
}
