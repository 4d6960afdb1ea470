//! The entries of `metadata.managedFields`: one per manager, operation, apiVersion and subresource.

use std::fmt;

use serde_json::{Value, json};

use super::WriteContext;
use super::set::Set;
use crate::object::str_at;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Whose entry it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// apiVersion; an Apply entry keeps the newest one, so it does not tell Apply entries apart.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Identity {
    pub(super) fn update(ctx: &WriteContext<'_>) -> Self {
        Self::of(ctx, Operation::Update)
    }
    pub(super) fn apply(ctx: &WriteContext<'_>) -> Self {
        Self::of(ctx, Operation::Apply)
    }
    fn of(ctx: &WriteContext<'_>, operation: Operation) -> Self {
        Self {
            manager: ctx.manager.to_owned(),
            operation,
            api_version: ctx.api_version.to_owned(),
            subresource: ctx.subresource.to_owned(),
        }
    }
    fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// As conflicts name a manager: `"m1" with subresource "status" using v1`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Entry {
    identity: Identity,
    /// RFC 3339, or empty in records that have none.
    time: String,
    set: Set,
}

/// All entries of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers {
    entries: Vec<Entry>,
}

/// The manager into which the oldest updates are folded.
const ANCIENT_CHANGES: &str = "ancient-changes";

impl Managers {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads `metadata.managedFields`; `None` when any entry is malformed.
    pub(super) fn decode(list: &[Value]) -> Option<Self> {
        let mut managers = Self::default();
        for entry in list {
            let operation = match str_at(entry, "/operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let text = |key: &str| str_at(entry, key).to_owned();
            let set = match entry.get("fieldsV1") {
                Some(fields) => Set::decode(fields)?,
                None => Set::default(),
            };
            managers.entries.push(Entry {
                identity: Identity {
                    manager: text("/manager"),
                    operation,
                    api_version: text("/apiVersion"),
                    subresource: text("/subresource"),
                },
                time: text("/time"),
                set,
            });
        }
        Some(managers)
    }

    /// Apply entries first, then by time and name, as Kubernetes sorts them.
    pub(super) fn encode(&self) -> Vec<Value> {
        let mut entries: Vec<&Entry> = self.entries.iter().filter(|entry| !entry.set.is_empty()).collect();
        entries.sort_by(|a, b| {
            let key = |e: &Entry| (e.identity.operation, e.time.clone(), e.identity.manager.clone());
            key(a).cmp(&key(b))
        });
        entries
            .into_iter()
            .map(|entry| {
                let mut value = json!({
                    "apiVersion": entry.identity.api_version,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": entry.set.encode(),
                    "manager": entry.identity.manager,
                    "operation": match entry.identity.operation {
                        Operation::Apply => "Apply",
                        Operation::Update => "Update",
                    },
                });
                if !entry.time.is_empty() {
                    value["time"] = entry.time.clone().into();
                }
                if !entry.identity.subresource.is_empty() {
                    value["subresource"] = entry.identity.subresource.clone().into();
                }
                value
            })
            .collect()
    }

    /// What a manager owns; nothing if it has no entry.
    pub(super) fn set_of(&self, identity: &Identity) -> Set {
        self.entries
            .iter()
            .find(|e| e.identity.is_same(identity))
            .map(|e| e.set.clone())
            .unwrap_or_default()
    }

    /// The apiVersion that a manager's entry was written in.
    pub(super) fn api_version_of(&self, identity: &Identity) -> Option<&str> {
        self.entries
            .iter()
            .find(|e| e.identity.is_same(identity))
            .map(|e| e.identity.api_version.as_str())
    }

    /// When a manager's entry changed last; empty if it has no entry or the entry no time.
    pub(super) fn time_of(&self, identity: &Identity) -> String {
        self.entries
            .iter()
            .find(|e| e.identity.is_same(identity))
            .map(|e| e.time.clone())
            .unwrap_or_default()
    }

    pub(super) fn put(&mut self, identity: Identity, set: Set, time: &str) {
        self.entries.retain(|e| !e.identity.is_same(&identity));
        if !set.is_empty() {
            self.entries.push(Entry {
                identity,
                time: time.to_owned(),
                set,
            });
        }
    }

    /// Takes changed and removed fields from all managers but one.
    pub(super) fn take_away(&mut self, but: &Identity, changed: &Set, removed: &Set) {
        for entry in self.entries.iter_mut().filter(|e| !e.identity.is_same(but)) {
            entry.set = entry.set.difference(changed).difference(removed);
        }
        self.entries.retain(|e| e.identity.is_same(but) || !e.set.is_empty());
    }

    /// Per other manager, what it owns of `changed`.
    pub(super) fn conflicts(&self, me: &Identity, changed: &Set) -> Vec<(&Identity, Set)> {
        self.entries
            .iter()
            .filter(|e| !e.identity.is_same(me))
            .map(|e| (&e.identity, e.set.intersection(changed)))
            .filter(|(_, set)| !set.is_empty())
            .collect()
    }

    /// All that anybody owns.
    pub(super) fn union(&self) -> Set {
        self.entries
            .iter()
            .fold(Set::default(), |all, entry| all.union(entry.set.clone()))
    }

    /// Folds the oldest Update entries into one until at most `max` are left.
    pub(super) fn cap(&mut self, max: usize) {
        let is_update = |e: &Entry| e.identity.operation == Operation::Update && e.identity.subresource.is_empty();
        while self.entries.iter().filter(|e| is_update(e)).count() > max {
            let mut oldest: Vec<usize> = (0..self.entries.len())
                .filter(|i| is_update(&self.entries[*i]))
                .collect();
            oldest.sort_by_key(|i| self.entries[*i].time.clone());
            let (first, second) = (oldest[0], oldest[1]);
            let mut folded = self.entries[second].clone();
            folded.set = folded.set.union(self.entries[first].set.clone());
            folded.identity.manager = ANCIENT_CHANGES.to_owned();
            self.entries[second] = folded;
            self.entries.remove(first);
        }
    }
}
