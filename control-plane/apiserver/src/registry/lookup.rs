//! Reading the caches by resource and name: what admission, authorizers and authenticators see of the cluster.

use std::sync::Arc;

use serde_json::Value;
use skiff_api::object;
use skiff_store::watch_cache::CachedObject;

use super::Registry;

/// Read access to every cache, for admission, authorizers and authenticators. Never blocks, may be a moment behind.
pub trait Lookup: Send + Sync {
    /// The cached object, decoded, with its resourceVersion.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All cached objects, in key order; `namespace` `""` = all namespaces.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    /// Those whose selectable field (`spec.nodeName`) has this value; nothing else is decoded.
    fn list_by_field(&self, group: &str, resource: &str, namespace: &str, field: &str, value: &str) -> Vec<Arc<Value>> {
        let pointer = format!("/{}", field.replace('.', "/"));
        let mut found = self.list(group, resource, namespace);
        found.retain(|item| object::str_at(item, &pointer) == value);
        found
    }
    /// Grows whenever anything in the resource's cache changes: lets a reader keep what it computed.
    fn version(&self, group: &str, resource: &str) -> u64;
}

/// A cached object, decoded.
pub fn value_of(object: &CachedObject) -> Option<Arc<Value>> {
    serde_json::from_slice(&object.bytes).ok().map(Arc::new)
}

impl Lookup for Registry {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let resource = self.resource(group, resource)?;
        value_of(&*resource.cache.get(&resource.key(namespace, name))?)
    }
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let Some(resource) = self.resource(group, resource) else {
            return Vec::new();
        };
        let namespace = (!namespace.is_empty()).then_some(namespace);
        resource
            .cache
            .list(namespace)
            .iter()
            .filter_map(|object| value_of(object))
            .collect()
    }
    fn list_by_field(&self, group: &str, resource: &str, namespace: &str, field: &str, value: &str) -> Vec<Arc<Value>> {
        let Some(resource) = self.resource(group, resource) else {
            return Vec::new();
        };
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let matches = |object: &CachedObject| object.fields.iter().any(|(f, v)| *f == field && v == value);
        let objects = resource.cache.list(namespace);
        objects
            .iter()
            .filter(|object| matches(object))
            .filter_map(|object| value_of(object))
            .collect()
    }
    fn version(&self, group: &str, resource: &str) -> u64 {
        self.resource(group, resource).map_or(0, |resource| resource.changes())
    }
}
