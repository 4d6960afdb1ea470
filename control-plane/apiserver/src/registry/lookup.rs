//! Reading the caches by resource and name: what admission, authorizers and authenticators see of the cluster.

use std::sync::Arc;

use serde_json::Value;
use skiff_api::object;
use skiff_store::watch_cache::CachedObject;

use super::Registry;

/// What [`Lookup::any_by_field`] looks among.
pub struct FieldQuery<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    /// `""` = all namespaces.
    pub namespace: &'a str,
    pub field: &'a str,
    pub value: &'a str,
    /// Texts of which an object's bytes have at least one; none = any object.
    pub mentions: &'a [String],
}

/// Read access to every cache, for admission, authorizers and authenticators. Never blocks, may be a moment behind.
pub trait Lookup: Send + Sync {
    /// The cached object, decoded, with its resourceVersion.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All cached objects, in key order; `namespace` `""` = all namespaces.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    /// Whether `accept` takes one of those whose selectable field (`spec.nodeName`) has this value and whose
    /// JSON has one of the `mentions`, if there are any. Nothing else is decoded, and nothing
    /// after the first that is taken.
    fn any_by_field(&self, query: &FieldQuery<'_>, accept: &dyn Fn(&Value) -> bool) -> bool {
        let pointer = format!("/{}", query.field.replace('.', "/"));
        self.list(query.group, query.resource, query.namespace)
            .iter()
            .any(|item| object::str_at(item, &pointer) == query.value && accept(item))
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
    fn any_by_field(&self, query: &FieldQuery<'_>, accept: &dyn Fn(&Value) -> bool) -> bool {
        let Some(resource) = self.resource(query.group, query.resource) else {
            return false;
        };
        let namespace = (!query.namespace.is_empty()).then_some(query.namespace);
        let may = |object: &CachedObject| {
            object.fields.iter().any(|(f, v)| *f == query.field && v == query.value)
                && (query.mentions.is_empty()
                    || std::str::from_utf8(&object.bytes)
                        .is_ok_and(|text| query.mentions.iter().any(|mention| text.contains(mention))))
        };
        let objects = resource.cache.list(namespace);
        objects
            .iter()
            .any(|object| may(object) && value_of(object).is_some_and(|value| accept(&value)))
    }
    fn version(&self, group: &str, resource: &str) -> u64 {
        self.resource(group, resource).map_or(0, |resource| resource.changes())
    }
}
