//! The served resources, their caches, and reads and writes below the HTTP handlers: what subresources, bootstrap and
//! admission use. Writes here skip admission and authorisation, never validation of their own making.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use skiff_api::kind::ResourceInfo;
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus, Subject};
use skiff_store::{Compare, DynStore, Operation, StoreError, Txn, TxnOutcome};

use crate::strategy::Strategy;

/// How often a read-change-write is tried before its conflict is reported, as in Kubernetes' GuaranteedUpdate.
pub const CONFLICT_RETRIES_MAX: usize = 5;

/// Read access to every cache, for admission, authorizers and authenticators. Never blocks, may be a moment behind.
pub trait Lookup: Send + Sync {
    /// The cached object, decoded, with its resourceVersion.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All cached objects, in key order; `namespace` `""` = all namespaces.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    /// Grows whenever anything in the resource's cache changes: lets a reader keep what it computed.
    fn version(&self, group: &str, resource: &str) -> u64;
}

/// One served resource.
pub struct Resource {
    pub info: &'static ResourceInfo,
    pub strategy: Arc<dyn Strategy>,
    /// `/registry/pods/`: with the prefix, ends with a slash.
    pub key_prefix: String,
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
    /// For errors about one object.
    pub fn subject<'a>(&self, name: &'a str) -> Subject<'a> {
        Subject { group: self.info.group, resource: self.info.resource, name }
    }
    /// For `Invalid` errors, which name the Kind.
    pub fn kind_subject<'a>(&self, name: &'a str) -> Subject<'a> {
        Subject { group: self.info.kind_group, resource: self.info.kind, name }
    }
}

/// An object as stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub key: String,
    /// Decoded, with its resourceVersion.
    pub value: Value,
    /// The revision of its last write; what a compare needs.
    pub revision: u64,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Commit {
    /// The object as it now is, with its new resourceVersion.
    Done(Value),
    /// Someone else wrote first; read again.
    Conflict,
}

/// All served resources over one store.
pub struct Registry {
    store: DynStore,
    /// By group, then plural.
    resources: BTreeMap<&'static str, BTreeMap<&'static str, Arc<Resource>>>,
    /// By group, then kind.
    by_kind: BTreeMap<&'static str, BTreeMap<&'static str, Arc<Resource>>>,
}

impl Registry {
    pub fn store(&self) -> &DynStore {
        &self.store
    }
    /// By group and plural: `("apps", "deployments")`.
    pub fn resource(&self, group: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.resources.get(group)?.get(resource)
    }
    /// Like `resource`, as a 404 when it is not served.
    pub fn served(&self, group: &str, resource: &str) -> ApiResult<&Arc<Resource>> {
        self.resource(group, resource).ok_or_else(ApiStatus::no_such_path)
    }
    pub fn resource_of_kind(&self, group: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.by_kind.get(group)?.get(kind)
    }
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values().flat_map(BTreeMap::values)
    }

    /// The newest state from the store; 404 when absent.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Stored> {
        self.find(resource, namespace, name).await?.ok_or_else(|| ApiStatus::not_found(resource.subject(name)))
    }
    /// The newest state from the store, if there is one.
    pub async fn find(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Option<Stored>> {
        let key = resource.key(namespace, name);
        let (found, _) = self.store.get(&key).await.map_err(store_status)?;
        let Some(found) = found else { return Ok(None) };
        let value = decode(&found.value, found.mod_revision)?;
        Ok(Some(Stored { key, value, revision: found.mod_revision }))
    }
    /// Stores a new, complete object (as after defaults): sets uid and creationTimestamp when absent; 409 when it exists.
    pub async fn create(&self, resource: &Resource, object: Value) -> ApiResult<Value> {
        self.create_with(resource, object, Txn::default()).await
    }
    /// `create` together with compares and operations on bookkeeping keys.
    pub async fn create_with(&self, resource: &Resource, object: Value, extra: Txn) -> ApiResult<Value> {
        let key = resource.key(object::namespace(&object), object::name(&object));
        match self.commit(&key, 0, Some(&object), extra).await? {
            Commit::Done(value) => Ok(value),
            Commit::Conflict => Err(ApiStatus::already_exists(resource.subject(object::name(&object)))),
        }
    }
    /// Reads, lets `change` edit, writes; again on conflict, at most `CONFLICT_RETRIES_MAX` times. An unchanged object is
    /// not written.
    pub async fn update_with<F>(&self, resource: &Resource, namespace: &str, name: &str, change: F) -> ApiResult<Value>
    where
        F: Fn(&mut Value) -> ApiResult<()> + Send + Sync,
    {
        for _ in 0..CONFLICT_RETRIES_MAX {
            let stored = self.get(resource, namespace, name).await?;
            let mut new = stored.value.clone();
            change(&mut new)?;
            if new == stored.value {
                return Ok(new);
            }
            if let Commit::Done(value) = self.commit(&stored.key, stored.revision, Some(&new), Txn::default()).await? {
                return Ok(value);
            }
        }
        Err(ApiStatus::conflict(resource.subject(name), OBJECT_MODIFIED))
    }
    /// Removes the object whatever its finalizers; the last state. 404 when absent.
    pub async fn delete(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Value> {
        for _ in 0..CONFLICT_RETRIES_MAX {
            let stored = self.get(resource, namespace, name).await?;
            if let Commit::Done(_) = self.commit(&stored.key, stored.revision, None, Txn::default()).await? {
                return Ok(stored.value);
            }
        }
        Err(ApiStatus::conflict(resource.subject(name), OBJECT_MODIFIED))
    }
    /// The one compare-and-swap: `revision` is what the key must hold (0 = absent), `new` absent = delete. `extra` may
    /// touch bookkeeping keys only; when one of its compares fails the answer is `Conflict` too.
    pub async fn commit(&self, key: &str, revision: u64, new: Option<&Value>, extra: Txn) -> ApiResult<Commit> {
        let mut txn = extra;
        txn.compares.insert(0, Compare { key: key.to_owned(), mod_revision: revision });
        txn.operations.push(match new {
            Some(value) => Operation::Put { key: key.to_owned(), value: encode(value) },
            None => Operation::Delete { key: key.to_owned() },
        });
        match self.store.txn(txn).await.map_err(store_status)? {
            TxnOutcome::Committed { revision } => {
                let mut value = new.cloned().unwrap_or(Value::Null);
                if new.is_some() {
                    set_resource_version(&mut value, revision);
                }
                Ok(Commit::Done(value))
            }
            TxnOutcome::Failed { .. } => Ok(Commit::Conflict),
        }
    }
}

/// The reason that follows `Operation cannot be fulfilled on …`.
pub const OBJECT_MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Sets `metadata.resourceVersion`.
pub fn set_resource_version(value: &mut Value, revision: u64) {
    object::metadata_mut(value).insert("resourceVersion".into(), revision.to_string().into());
}

/// The bytes at rest of an object.
pub fn encode(value: &Value) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("a JSON value always serialises"))
}

/// An object from its bytes at rest.
pub fn decode(bytes: &Bytes, revision: u64) -> ApiResult<Value> {
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|e| ApiStatus::internal(format!("decode a stored object: {e}")))?;
    set_resource_version(&mut value, revision);
    Ok(value)
}

/// A store's error as clients see it.
pub fn store_status(error: StoreError) -> Box<ApiStatus> {
    match error {
        StoreError::Compacted { .. } => ApiStatus::expired("The resourceVersion for the provided list is too old."),
        StoreError::FutureRevision { wanted, current } => {
            let mut status = ApiStatus::timeout(format!("Too large resource version: {wanted}, current: {current}"), 1);
            status.details["causes"] = serde_json::json!([
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ]);
            status
        }
        StoreError::Unknown { why } => ApiStatus::timeout(format!("the outcome of the write is unknown: {why}"), 1),
        StoreError::Unavailable { why } => ApiStatus::unavailable(format!("the store is unavailable: {why}")),
        StoreError::TooLarge { size, limit } => {
            ApiStatus::too_large(format!("Request is too large for the store: {size} bytes of at most {limit}"))
        }
        StoreError::Fatal { why } => ApiStatus::internal(format!("the store failed: {why}")),
    }
}

impl Lookup for Registry {
    fn get(&self, _group: &str, _resource: &str, _namespace: &str, _name: &str) -> Option<Arc<Value>> {
        None
    }
    fn list(&self, _group: &str, _resource: &str, _namespace: &str) -> Vec<Arc<Value>> {
        Vec::new()
    }
    fn version(&self, _group: &str, _resource: &str) -> u64 {
        0
    }
}

impl Registry {
    /// The registry of `strategies` below `prefix`.
    pub async fn start(store: DynStore, prefix: &str, strategies: Vec<Arc<dyn Strategy>>) -> ApiResult<Arc<Self>> {
        let mut resources = BTreeMap::<_, BTreeMap<_, _>>::new();
        let mut by_kind = BTreeMap::<_, BTreeMap<_, _>>::new();
        for strategy in strategies {
            let info = strategy.info();
            let key_prefix = format!("{prefix}/{}/", info.resource);
            let resource = Arc::new(Resource { info, strategy, key_prefix });
            by_kind.entry(info.kind_group).or_default().insert(info.kind, resource.clone());
            resources.entry(info.group).or_default().insert(info.resource, resource);
        }
        Ok(Arc::new(Self { store, resources, by_kind }))
    }
}
