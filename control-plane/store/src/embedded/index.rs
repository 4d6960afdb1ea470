//! The state of the embedded store in memory: every key with its recent versions. All reads are answered here.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Change, KeyValue, StoreError};

/// A value, or its absence, from a revision on.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) revision: u64,
    /// `None`: deleted.
    pub(crate) value: Option<Bytes>,
}

/// Most keys have one version, so the others are apart: an empty `Vec` costs no allocation.
#[derive(Debug)]
struct History {
    newest: Version,
    /// Oldest first; all older than `newest`.
    older: Vec<Version>,
}

impl History {
    fn at(&self, revision: u64) -> Option<&Version> {
        if self.newest.revision <= revision {
            return Some(&self.newest);
        }
        self.older.iter().rev().find(|version| version.revision <= revision)
    }
}

pub(crate) struct Index {
    keys: BTreeMap<Arc<str>, History>,
    revision: u64,
    /// Reads below this revision are impossible.
    floor: u64,
}

/// Where a listing goes on: it is done in steps, so that no step holds the lock for long.
pub(crate) struct Scan<'a> {
    pub(crate) prefix: &'a str,
    /// Keys up to this one are done.
    pub(crate) after: Option<Arc<str>>,
    pub(crate) revision: u64,
}

impl Index {
    pub(crate) fn new(revision: u64) -> Self {
        Self {
            keys: BTreeMap::new(),
            revision,
            floor: revision,
        }
    }

    /// Puts a key read from disk in place.
    pub(crate) fn load(&mut self, key: &str, revision: u64, value: Bytes) {
        let newest = Version {
            revision,
            value: Some(value),
        };
        self.keys.insert(
            key.into(),
            History {
                newest,
                older: Vec::new(),
            },
        );
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The newest value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<(u64, &Bytes)> {
        let newest = &self.keys.get(key)?.newest;
        newest.value.as_ref().map(|value| (newest.revision, value))
    }

    /// Applies one committed revision.
    pub(crate) fn apply(&mut self, revision: u64, changes: &[Change]) {
        debug_assert!(revision > self.revision, "revisions only grow");
        for change in changes {
            let (key, value) = match change {
                Change::Put { current, .. } => (&current.key, Some(current.value.clone())),
                Change::Delete { key, .. } => (key, None),
            };
            let version = Version { revision, value };
            match self.keys.get_mut(key.as_str()) {
                Some(history) => {
                    let previous = std::mem::replace(&mut history.newest, version);
                    history.older.push(previous);
                }
                None => {
                    self.keys.insert(
                        key.as_str().into(),
                        History {
                            newest: version,
                            older: Vec::new(),
                        },
                    );
                }
            }
        }
        self.revision = revision;
    }

    /// Whether the state at `revision` can be read.
    pub(crate) fn check(&self, revision: u64) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision {
                wanted: revision,
                current: self.revision,
            });
        }
        if revision < self.floor {
            return Err(StoreError::Compacted { oldest: self.floor });
        }
        Ok(())
    }

    /// Visits up to `steps` keys of a scan in key order and moves it on. False when none are left.
    pub(crate) fn scan(
        &self,
        scan: &mut Scan<'_>,
        steps: usize,
        mut visit: impl FnMut(&Arc<str>, u64, &Bytes),
    ) -> bool {
        let start = match &scan.after {
            Some(key) if &**key >= scan.prefix => Bound::Excluded(&**key),
            _ => Bound::Included(scan.prefix),
        };
        let mut last = None;
        let mut more = false;
        for (count, (key, history)) in self.keys.range::<str, _>((start, Bound::Unbounded)).enumerate() {
            if !key.starts_with(scan.prefix) {
                break;
            }
            if count == steps {
                more = true;
                break;
            }
            if let Some(Version {
                revision,
                value: Some(value),
            }) = history.at(scan.revision)
            {
                visit(key, *revision, value);
            }
            last = Some(key);
        }
        if let Some(key) = last {
            scan.after = Some(key.clone());
        }
        more
    }

    /// Raises the floor. The versions that only older reads could see go with `trim`, in steps.
    pub(crate) fn raise_floor(&mut self, revision: u64) {
        self.floor = self.floor.max(revision);
    }

    /// Drops the versions of a key that no read at or above the floor can see.
    pub(crate) fn trim(&mut self, key: &str) {
        let floor = self.floor;
        let Some(history) = self.keys.get_mut(key) else { return };
        if history.newest.revision <= floor {
            history.older = Vec::new();
            if history.newest.value.is_none() {
                self.keys.remove(key);
            }
            return;
        }
        // The newest version at or below the floor is still seen by reads at the floor, unless it is a deletion.
        let seen = history.older.iter().rposition(|version| version.revision <= floor);
        if let Some(seen) = seen {
            let first = if history.older[seen].value.is_some() {
                seen
            } else {
                seen + 1
            };
            history.older.drain(..first);
            history.older.shrink_to_fit();
        }
    }

    /// Versions held, of all keys.
    #[cfg(test)]
    pub(crate) fn versions(&self) -> usize {
        self.keys.values().map(|history| 1 + history.older.len()).sum()
    }
}

pub(crate) fn key_value(key: &str, revision: u64, value: &Bytes) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: value.clone(),
        mod_revision: revision,
    }
}
