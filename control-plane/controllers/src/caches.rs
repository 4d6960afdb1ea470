//! What controllers may look at: indexed copies of objects, fed by watches. The manager fills them; tests fill them too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::garbage_collector::Graph;
use crate::plan::ObjectKey;

/// The owner reference with `controller: true`.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// What an object of this kind is found by besides its key.
pub trait Indexed: Metadata<Ty = ObjectMeta> + Send + Sync + 'static {
    /// A second key, such as a pod's node.
    fn place(&self) -> Option<&str> {
        None
    }
}
impl Indexed for Pod {
    fn place(&self) -> Option<&str> {
        self.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
    }
}
impl Indexed for ReplicaSet {}
impl Indexed for Deployment {}
impl Indexed for Job {}
impl Indexed for CronJob {}
impl Indexed for Node {}
impl Indexed for Lease {}
impl Indexed for Namespace {}
impl Indexed for ServiceAccount {}
impl Indexed for ConfigMap {}

/// Objects of one kind by key, by controller, by place.
#[derive(Debug)]
pub struct ObjectMap<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    owned: HashMap<String, BTreeSet<ObjectKey>>,
    placed: HashMap<String, BTreeSet<ObjectKey>>,
    orphans: BTreeSet<ObjectKey>,
    /// The highest resourceVersion that came in.
    seen: u64,
    /// The first complete list has arrived.
    synced: bool,
}

impl<K> Default for ObjectMap<K> {
    fn default() -> Self {
        ObjectMap {
            objects: BTreeMap::new(),
            owned: HashMap::new(),
            placed: HashMap::new(),
            orphans: BTreeSet::new(),
            seen: 0,
            synced: false,
        }
    }
}

fn version_number(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

impl<K: Indexed> ObjectMap<K> {
    /// Adds or replaces; returns what was there.
    pub fn insert(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(object.metadata());
        self.seen = self.seen.max(version_number(object.metadata()));
        let old = self.objects.get(&key).cloned();
        if let Some(old) = &old {
            self.unindex(&key, old);
        }
        match controller_of(object.metadata()) {
            Some(owner) => {
                self.owned.entry(owner.uid.clone()).or_default().insert(key.clone());
            }
            None => {
                self.orphans.insert(key.clone());
            }
        }
        if let Some(place) = object.place() {
            self.placed.entry(place.to_owned()).or_default().insert(key.clone());
        }
        self.objects.insert(key, object);
        old
    }

    /// Removes; returns what was there. `version` is that of the deletion, for [`ObjectMap::seen`].
    pub fn remove(&mut self, key: &ObjectKey, version: Option<&ObjectMeta>) -> Option<Arc<K>> {
        if let Some(meta) = version {
            self.seen = self.seen.max(version_number(meta));
        }
        let old = self.objects.remove(key)?;
        self.unindex(key, &old);
        Some(old)
    }

    fn unindex(&mut self, key: &ObjectKey, object: &K) {
        fn drop_from(map: &mut HashMap<String, BTreeSet<ObjectKey>>, at: &str, key: &ObjectKey) {
            if let Some(keys) = map.get_mut(at) {
                keys.remove(key);
                if keys.is_empty() {
                    map.remove(at);
                }
            }
        }
        match controller_of(object.metadata()) {
            Some(owner) => drop_from(&mut self.owned, &owner.uid, key),
            None => {
                self.orphans.remove(key);
            }
        }
        if let Some(place) = object.place() {
            drop_from(&mut self.placed, place, key);
        }
    }

    pub fn mark_synced(&mut self) {
        self.synced = true;
    }
    pub fn is_synced(&self) -> bool {
        self.synced
    }
    pub fn seen(&self) -> u64 {
        self.seen
    }
    pub fn len(&self) -> usize {
        self.objects.len()
    }
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.objects.keys().cloned().collect()
    }
    pub fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }
    /// Those whose controller has this uid, in order of their keys.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.at(self.owned.get(uid))
    }
    /// Those at this place, in order of their keys.
    pub fn placed_at(&self, place: &str) -> Vec<Arc<K>> {
        self.at(self.placed.get(place))
    }
    /// Those of a namespace that no controller owns.
    pub fn orphans_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.orphans
            .range(ObjectKey::new(namespace, "")..)
            .take_while(|key| key.namespace == namespace)
            .filter_map(|key| self.get(key))
            .collect()
    }
    /// All of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects
            .range(ObjectKey::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn at(&self, keys: Option<&BTreeSet<ObjectKey>>) -> Vec<Arc<K>> {
        keys.into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }
}

/// One kind's copy, shared between the watch that fills it and those who read it.
#[derive(Debug)]
pub struct Cache<K>(RwLock<ObjectMap<K>>);

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache(RwLock::new(ObjectMap::default()))
    }
}

impl<K> Cache<K> {
    pub fn read(&self) -> RwLockReadGuard<'_, ObjectMap<K>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn write(&self) -> RwLockWriteGuard<'_, ObjectMap<K>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a node was last heard of, by this process's clock: what counts is that the heartbeat changed, not the time that
/// the node wrote into it, because clocks of edge nodes are often wrong.
#[derive(Debug, Default)]
pub struct Heartbeats(RwLock<HashMap<String, (Vec<String>, Timestamp)>>);

impl Heartbeats {
    /// Notes what one source (the lease, the Ready condition) of a node's heartbeat says now.
    pub fn note(&self, node: &str, source: usize, value: String, now: Timestamp) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(node.to_owned()).or_insert_with(|| (Vec::new(), now));
        if entry.0.len() <= source {
            entry.0.resize(source + 1, String::new());
        }
        if entry.0[source] != value {
            entry.0[source] = value;
            entry.1 = now;
        }
    }
    pub fn forget(&self, node: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
    pub fn last(&self, node: &str) -> Option<Timestamp> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)
            .map(|(_, at)| *at)
    }
}

/// All caches.
#[derive(Debug, Default)]
pub struct Caches {
    pub pods: Cache<Pod>,
    pub replica_sets: Cache<ReplicaSet>,
    pub deployments: Cache<Deployment>,
    pub jobs: Cache<Job>,
    pub cron_jobs: Cache<CronJob>,
    pub nodes: Cache<Node>,
    /// Those of `kube-node-lease` only.
    pub leases: Cache<Lease>,
    pub namespaces: Cache<Namespace>,
    /// Those named `default` only.
    pub service_accounts: Cache<ServiceAccount>,
    /// Those named `kube-root-ca.crt` only.
    pub root_ca_maps: Cache<ConfigMap>,
    pub heartbeats: Heartbeats,
    /// When the NoExecute taints of each node last changed.
    pub taint_changes: Heartbeats,
    graph: RwLock<Graph>,
}

impl Caches {
    /// Who owns whom.
    pub fn graph(&self) -> RwLockReadGuard<'_, Graph> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn graph_mut(&self) -> RwLockWriteGuard<'_, Graph> {
        self.graph.write().unwrap_or_else(PoisonError::into_inner)
    }
}
