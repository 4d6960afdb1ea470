//! The cache's contents at one revision with its recent events. Pure: no task, no clock of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::object::{CacheEvent, EventKind, Made, Maker};
use super::objects::{Objects, Snapshot};

/// What an event costs besides its bytes, roughly.
const EVENT_OVERHEAD: usize = 400;

/// What the history of events keeps at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// A change as the feed hands it over, made ready outside the lock.
pub(crate) enum Update {
    Put(Made),
    /// `stored` is the last value, when the store still knew it.
    Delete {
        key: String,
        stored: Option<Bytes>,
        revision: u64,
    },
    Progress(u64),
}

struct Kept {
    event: Arc<CacheEvent>,
    at: Instant,
}

#[derive(Default)]
pub(crate) struct State {
    /// 0 before the first list.
    pub(crate) revision: u64,
    pub(crate) objects: Objects,
    /// Every event after `floor` is in here.
    events: VecDeque<Kept>,
    bytes: usize,
    pub(crate) floor: u64,
    /// The number of the first event in `events`. Numbers only grow; after a gap in the history they skip one, so that
    /// a watcher that had everything before the gap is found out too.
    first: u64,
}

/// What a watcher finds.
pub(crate) enum Found {
    Events {
        events: Vec<Arc<CacheEvent>>,
        next: u64,
    },
    /// Nothing new: everything up to `revision` has been seen.
    Nothing {
        revision: u64,
    },
    Expired {
        oldest: u64,
    },
}

fn weight(event: &CacheEvent) -> usize {
    event.frame().len() + EVENT_OVERHEAD
}

impl State {
    /// Starts over from a list. Watchers of the time before end.
    pub(crate) fn reset(&mut self, revision: u64, objects: Objects) {
        self.first += self.events.len() as u64 + 1;
        self.events.clear();
        self.bytes = 0;
        self.floor = revision;
        self.revision = revision;
        self.objects = objects;
    }

    /// Applies updates in order. Returns the events that came of it.
    pub(crate) fn apply(
        &mut self,
        updates: Vec<Update>,
        maker: &Maker,
        limits: Limits,
        now: Instant,
    ) -> Vec<Arc<CacheEvent>> {
        let mut new = Vec::new();
        for update in updates {
            let (revision, event) = match update {
                Update::Put(made) => (made.object.revision, self.put(made)),
                Update::Delete { key, stored, revision } => {
                    (revision, self.delete(&key, stored.as_ref(), revision, maker))
                }
                Update::Progress(revision) => (revision, None),
            };
            self.revision = self.revision.max(revision);
            if let Some(event) = event {
                let event = Arc::new(event);
                self.bytes += weight(&event);
                self.events.push_back(Kept {
                    event: event.clone(),
                    at: now,
                });
                new.push(event);
            }
        }
        self.trim(limits, now);
        new
    }

    fn put(&mut self, made: Made) -> Option<CacheEvent> {
        let known = self.objects.get(&made.object.key).map(|known| known.revision);
        if known.is_some_and(|known| known >= made.object.revision) {
            return None;
        }
        let previous = self.objects.insert(made.object.clone());
        let kind = if previous.is_some() {
            EventKind::Modified
        } else {
            EventKind::Added
        };
        Some(CacheEvent::new(kind, made, previous))
    }

    fn delete(&mut self, key: &str, stored: Option<&Bytes>, revision: u64, maker: &Maker) -> Option<CacheEvent> {
        let previous = self.objects.remove(key)?;
        let made = maker.deleted(&previous, stored, revision);
        Some(CacheEvent::new(EventKind::Deleted, made, Some(previous)))
    }

    fn trim(&mut self, limits: Limits, now: Instant) {
        while let Some(oldest) = self.events.front() {
            let old = now.saturating_duration_since(oldest.at) > limits.age;
            if !old && self.events.len() <= limits.events && self.bytes <= limits.bytes {
                break;
            }
            self.bytes -= weight(&oldest.event);
            self.floor = self.floor.max(oldest.event.revision);
            self.first += 1;
            self.events.pop_front();
        }
    }

    /// The number of the first event after `revision`; an error when events after it are gone.
    pub(crate) fn seek(&self, revision: u64) -> Result<u64, u64> {
        if self.revision == 0 || revision < self.floor {
            return Err(self.floor);
        }
        Ok(self.first + self.events.partition_point(|kept| kept.event.revision <= revision) as u64)
    }

    /// The events that are wanted of up to `limit` from number `next` on.
    pub(crate) fn read(&self, next: u64, limit: usize, wanted: impl Fn(&CacheEvent) -> bool) -> Found {
        let Some(skip) = next.checked_sub(self.first) else {
            return Found::Expired { oldest: self.floor };
        };
        let mut events = Vec::new();
        let mut next = next;
        for kept in self.events.range((skip as usize).min(self.events.len())..).take(limit) {
            next += 1;
            if wanted(&kept.event) {
                events.push(kept.event.clone());
            }
        }
        if events.is_empty() && next - self.first == self.events.len() as u64 {
            return Found::Nothing {
                revision: self.revision,
            };
        }
        Found::Events { events, next }
    }

    pub(crate) fn snapshot(&self, prefix: Option<&str>) -> Snapshot {
        Snapshot::new(self.revision, self.objects.clone(), prefix)
    }

    /// What it takes to see the state at an earlier revision: the present one, and the events since, newest first.
    /// `None` when they are not all known.
    pub(crate) fn rewind(&self, revision: u64) -> Option<(Objects, Vec<Arc<CacheEvent>>)> {
        if revision < self.floor || self.revision == 0 {
            return None;
        }
        let since = self
            .events
            .iter()
            .rev()
            .take_while(|kept| kept.event.revision > revision);
        Some((self.objects.clone(), since.map(|kept| kept.event.clone()).collect()))
    }

    /// Events and bytes held, for the test of their bounds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.events.len(), self.bytes)
    }
}

/// Takes events back, newest first.
pub(crate) fn undo(objects: &mut Objects, events: &[Arc<CacheEvent>]) {
    for event in events {
        match &event.previous {
            Some(previous) => objects.insert(previous.clone()),
            None => objects.remove(&event.object.key),
        };
    }
}
