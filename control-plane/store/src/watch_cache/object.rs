//! What the cache holds: objects as they are served, and their changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// What selectors look at, taken from an object once when it enters the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub labels: BTreeMap<String, String>,
    /// Field selector paths with their values, `("spec.nodeName", "a")`.
    pub fields: Vec<(&'static str, String)>,
}

/// Takes the attributes out of an object's JSON, as `Decorate` makes it.
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
    line: Bytes,
}

impl CacheEvent {
    pub(crate) fn new(kind: EventKind, made: Made, previous: Option<Arc<CachedObject>>) -> Self {
        let Made { object, line } = made;
        let line = match line {
            Some((foreseen, line)) if foreseen == kind => line,
            _ => frame(kind, &object.bytes),
        };
        Self {
            revision: object.revision,
            kind,
            object,
            previous,
            line,
        }
    }

    /// The watch line `{"type":"…","object":…}\n`, made once and shared by all watchers.
    pub fn frame(&self) -> Bytes {
        self.line.clone()
    }
}

const LINE_TYPE: &[u8] = b"{\"type\":\"";
const LINE_OBJECT: &[u8] = b"\",\"object\":";
const LINE_END: &[u8] = b"}\n";

/// The watch line of any kind around any object.
fn frame(kind: EventKind, object: &Bytes) -> Bytes {
    [LINE_TYPE, kind.as_str().as_bytes(), LINE_OBJECT, object, LINE_END]
        .concat()
        .into()
}

/// A line around the object, and the object as a part of it, so that both rest in memory once.
fn framed(kind: EventKind, object: &Bytes) -> (Bytes, Bytes) {
    let line = frame(kind, object);
    let end = line.len() - LINE_END.len();
    let object = line.slice(end - object.len()..end);
    (line, object)
}

/// An object fresh out of the store, with the line of the event that it will be, if one was foreseen.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) object: Arc<CachedObject>,
    line: Option<(EventKind, Bytes)>,
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
    /// An object that a list found.
    pub(crate) fn listed(&self, key: String, value: &Bytes, revision: u64) -> Arc<CachedObject> {
        let bytes = (self.decorate)(value, revision);
        self.make(key, revision, bytes)
    }

    /// An object that a watch brought, as the event of this kind.
    pub(crate) fn changed(&self, kind: EventKind, key: String, value: &Bytes, revision: u64) -> Made {
        let (line, bytes) = framed(kind, &(self.decorate)(value, revision));
        Made {
            object: self.make(key, revision, bytes),
            line: Some((kind, line)),
        }
    }

    fn make(&self, key: String, revision: u64, bytes: Bytes) -> Arc<CachedObject> {
        let rest = key.strip_prefix(&self.prefix).unwrap_or(&key);
        let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let Attributes { labels, fields } = (self.extract)(&bytes);
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
    pub(crate) fn deleted(&self, last: &CachedObject, stored: Option<&Bytes>, revision: u64) -> Made {
        let bytes = match stored {
            Some(value) => (self.decorate)(value, revision),
            None => replace_revision(&last.bytes, last.revision, revision),
        };
        let (line, bytes) = framed(EventKind::Deleted, &bytes);
        let object = Arc::new(CachedObject {
            key: last.key.clone(),
            namespace: last.namespace.clone(),
            name: last.name.clone(),
            revision,
            bytes,
            labels: last.labels.clone(),
            fields: last.fields.clone(),
        });
        Made {
            object,
            line: Some((EventKind::Deleted, line)),
        }
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
        let (line, object) = framed(EventKind::Modified, &Bytes::from_static(b"{\"a\":1}"));
        assert_eq!(line, "{\"type\":\"MODIFIED\",\"object\":{\"a\":1}}\n");
        assert_eq!(object, "{\"a\":1}");
        assert!(line.as_ptr_range().contains(&object.as_ptr()), "no second copy");
    }

    #[test]
    fn an_event_of_another_kind_than_foreseen_is_framed_as_what_it_is() {
        let maker = Maker {
            prefix: "/r/".into(),
            extract: Arc::new(|_| Attributes::default()),
            decorate: |value, _| value.clone(),
        };
        let made = maker.changed(EventKind::Added, "/r/a".into(), &Bytes::from_static(b"{}"), 5);
        let event = CacheEvent::new(EventKind::Modified, made, None);
        assert_eq!(event.frame(), "{\"type\":\"MODIFIED\",\"object\":{}}\n");
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
