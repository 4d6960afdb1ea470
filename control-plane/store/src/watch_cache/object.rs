//! What the cache holds: objects as they are served, and their changes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

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
#[derive(Debug, PartialEq, Eq)]
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

/// Which events a watcher is woken for and handed. With a thousand agents that each watch their own pods, a change of one
/// pod wakes one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interest {
    #[default]
    All,
    /// Objects of one namespace.
    Namespace(String),
    /// Objects that have, or had before the change, this value of a field of `Attributes::fields`.
    Field(&'static str, String),
}

impl Interest {
    pub(crate) fn wants(&self, event: &CacheEvent) -> bool {
        let has = |object: &CachedObject, path: &str, value: &str| {
            object
                .fields
                .iter()
                .any(|(field, found)| *field == path && found == value)
        };
        match self {
            Self::All => true,
            Self::Namespace(namespace) => event.object.namespace == *namespace,
            Self::Field(path, value) => {
                let before = event
                    .previous
                    .as_ref()
                    .is_some_and(|previous| has(previous, path, value));
                before || has(&event.object, path, value)
            }
        }
    }

    /// Every narrower interest than `All` that wants the event.
    pub(crate) fn in_event(event: &CacheEvent) -> impl Iterator<Item = Self> + '_ {
        let objects = std::iter::once(&event.object).chain(&event.previous);
        let fields = objects.flat_map(|object| {
            object
                .fields
                .iter()
                .map(|(path, value)| Self::Field(path, value.clone()))
        });
        std::iter::once(Self::Namespace(event.object.namespace.clone())).chain(fields)
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
    frame: OnceLock<Bytes>,
}

impl CacheEvent {
    pub(crate) fn new(kind: EventKind, object: Arc<CachedObject>, previous: Option<Arc<CachedObject>>) -> Self {
        Self {
            revision: object.revision,
            kind,
            object,
            previous,
            frame: OnceLock::new(),
        }
    }

    /// The watch line `{"type":"…","object":…}\n`, made on first use and then shared by all watchers.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| frame(self.kind, &self.object.bytes)).clone()
    }
}

/// The watch line of any kind around any object.
pub fn frame(kind: EventKind, object: &Bytes) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// Makes cached objects out of stored values.
#[derive(Clone)]
pub(crate) struct Maker {
    /// The cache's key prefix, with the slash at its end.
    pub(crate) prefix: String,
    pub(crate) extract: Extract,
    pub(crate) decorate: Decorate,
}

impl Maker {
    pub(crate) fn make(&self, key: String, value: &Bytes, revision: u64) -> Arc<CachedObject> {
        let rest = key.strip_prefix(&self.prefix).unwrap_or(&key);
        let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let Attributes { labels, fields } = (self.extract)(value);
        let bytes = (self.decorate)(value, revision);
        Arc::new(CachedObject {
            key,
            namespace,
            name,
            revision,
            bytes,
            labels,
            fields,
        })
    }

    /// The last state of a deleted object, at the revision of its deletion. `stored` is its last value, when the store still
    /// knew it.
    pub(crate) fn deleted(&self, last: &CachedObject, stored: Option<&Bytes>, revision: u64) -> Arc<CachedObject> {
        let bytes = match stored {
            Some(value) => (self.decorate)(value, revision),
            None => replace_revision(&last.bytes, last.revision, revision),
        };
        Arc::new(CachedObject {
            key: last.key.clone(),
            namespace: last.namespace.clone(),
            name: last.name.clone(),
            revision,
            bytes,
            labels: last.labels.clone(),
            fields: last.fields.clone(),
        })
    }
}

/// Served bytes carry their own resourceVersion as the first field of that name; this puts another in its place.
fn replace_revision(bytes: &Bytes, old: u64, new: u64) -> Bytes {
    let old = format!("\"resourceVersion\":\"{old}\"");
    let Some(at) = bytes.windows(old.len()).position(|window| window == old.as_bytes()) else {
        return bytes.clone();
    };
    [
        &bytes[..at],
        format!("\"resourceVersion\":\"{new}\"").as_bytes(),
        &bytes[at + old.len()..],
    ]
    .concat()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line_of_json() {
        let line = frame(EventKind::Modified, &Bytes::from_static(b"{\"a\":1}"));
        assert_eq!(line, "{\"type\":\"MODIFIED\",\"object\":{\"a\":1}}\n");
    }

    #[test]
    fn a_deletion_carries_its_own_revision_even_when_the_store_forgot_the_value() {
        use skiff_api::canonical::{to_bytes, with_resource_version};
        let metadata = serde_json::json!({"name": "a", "annotations": {"b": "\"resourceVersion\":\"7\""}});
        let stored = to_bytes(&serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}));
        let served = with_resource_version(&stored, 7);
        assert_eq!(replace_revision(&served, 7, 1234), with_resource_version(&stored, 1234));
    }
}
