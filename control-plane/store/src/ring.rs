//! The recent changes of a store, kept once for all its watches.
//!
//! A store pushes every committed revision in order. A watch is a cursor into the ring: a watcher costs no copy of the
//! changes and never slows the writer; one that is too slow finds its cursor below the ring's floor and ends with
//! `Compacted`. A watcher is woken only by changes below its prefix, by a request for progress, or when it lags far.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use tokio::sync::Notify;

use crate::{Change, WatchItem};

/// Revisions that one look into the ring visits at most, so that the lock is held for microseconds.
const PULL_REVISIONS: usize = 1024;
/// An idle watch learns the store's revision at least this often (bookmarks must not grow stale).
const IDLE_PROGRESS: Duration = Duration::from_secs(1);
/// After this many revisions every watcher is woken, wanted or not, so that a quiet one does not fall off the ring.
const WAKE_ALL_REVISIONS: u64 = 4096;
/// What an entry costs besides its values, roughly: keys, revisions, the containers.
const ENTRY_OVERHEAD: usize = 200;

/// What the ring keeps at most. The oldest goes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) revisions: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

struct Entry {
    revision: u64,
    at: Instant,
    bytes: usize,
    changes: Arc<[Change]>,
}

struct Inner {
    entries: VecDeque<Entry>,
    /// Every change after this revision, up to `head`, is in `entries`.
    floor: u64,
    head: u64,
    bytes: usize,
    closed: bool,
    last_wake_all: u64,
    watchers: Vec<Weak<Slot>>,
}

/// What the publisher knows of a watcher.
struct Slot {
    prefix: String,
    wake: Notify,
    progress_wanted: AtomicBool,
}

pub(crate) struct Ring {
    inner: Mutex<Inner>,
}

/// The first key of a change batch's entry is all that matters to a watcher's filter.
pub(crate) fn key_of(change: &Change) -> &str {
    match change {
        Change::Put { current, .. } => &current.key,
        Change::Delete { key, .. } => key,
    }
}

fn size_of(change: &Change) -> usize {
    match change {
        Change::Put { current, .. } => current.value.len() + current.key.len(),
        Change::Delete { key, previous, .. } => key.len() + previous.as_ref().map_or(0, |p| p.value.len()),
    }
}

impl Ring {
    pub(crate) fn new(revision: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                entries: VecDeque::new(),
                floor: revision,
                head: revision,
                bytes: 0,
                closed: false,
                last_wake_all: revision,
                watchers: Vec::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock and leaves the ring half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds committed revisions, oldest first, and wakes the watchers that they concern.
    pub(crate) fn push(&self, batch: Vec<(u64, Arc<[Change]>)>) {
        let now = Instant::now();
        let mut inner = self.lock();
        let mut woken = Vec::new();
        inner.watchers.retain(|watcher| match watcher.upgrade() {
            Some(slot) => {
                let concerned = || batch.iter().flat_map(|(_, changes)| changes.iter());
                if concerned().any(|change| key_of(change).starts_with(&slot.prefix)) {
                    woken.push(slot);
                }
                true
            }
            None => false,
        });
        for (revision, changes) in batch {
            debug_assert!(revision > inner.head, "revisions only grow");
            let bytes = changes.iter().map(size_of).sum::<usize>() + ENTRY_OVERHEAD;
            inner.bytes += bytes;
            inner.head = revision;
            inner.entries.push_back(Entry {
                revision,
                at: now,
                bytes,
                changes,
            });
        }
        if inner.head - inner.last_wake_all >= WAKE_ALL_REVISIONS {
            inner.last_wake_all = inner.head;
            woken = inner.watchers.iter().filter_map(Weak::upgrade).collect();
        }
        drop(inner);
        for slot in woken {
            slot.wake.notify_one();
        }
    }

    /// The store is known to be at `revision`, and nothing changed since the last push.
    pub(crate) fn advance(&self, revision: u64) {
        let mut inner = self.lock();
        inner.head = inner.head.max(revision);
    }

    /// The revision up to which the ring must be trimmed to keep within its limits, if it must.
    pub(crate) fn excess(&self, limits: Limits) -> Option<u64> {
        let inner = self.lock();
        let (mut count, mut bytes, mut upto) = (inner.entries.len(), inner.bytes, None);
        for entry in &inner.entries {
            if count <= limits.revisions && bytes <= limits.bytes && entry.at.elapsed() <= limits.age {
                break;
            }
            count -= 1;
            bytes -= entry.bytes;
            upto = Some(entry.revision);
        }
        upto
    }

    /// Forgets the changes up to and including `revision`; returns them.
    pub(crate) fn trim(&self, revision: u64) -> Vec<Arc<[Change]>> {
        let mut inner = self.lock();
        let mut gone = Vec::new();
        while inner.entries.front().is_some_and(|entry| entry.revision <= revision) {
            if let Some(entry) = inner.entries.pop_front() {
                inner.bytes -= entry.bytes;
                gone.push(entry.changes);
            }
        }
        inner.floor = inner.floor.max(revision);
        gone
    }

    /// Changes were missed: nothing up to `revision` is known any more. Every watcher below it ends.
    pub(crate) fn reset(&self, revision: u64) {
        self.trim(revision);
        let mut inner = self.lock();
        inner.head = inner.head.max(revision);
        inner.floor = inner.floor.max(revision);
        let woken: Vec<_> = inner.watchers.iter().filter_map(Weak::upgrade).collect();
        drop(inner);
        woken.iter().for_each(|slot| slot.wake.notify_one());
    }

    /// Ends all watches: the store is gone.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let woken: Vec<_> = inner.watchers.iter().filter_map(Weak::upgrade).collect();
        drop(inner);
        woken.iter().for_each(|slot| slot.wake.notify_one());
    }

    pub(crate) fn request_progress(&self) {
        let woken: Vec<_> = self.lock().watchers.iter().filter_map(Weak::upgrade).collect();
        for slot in woken {
            slot.progress_wanted.store(true, Ordering::Release);
            slot.wake.notify_one();
        }
    }

    pub(crate) fn floor(&self) -> u64 {
        self.lock().floor
    }

    pub(crate) fn head(&self) -> u64 {
        self.lock().head
    }

    /// A watch of the changes after `cursor` below `prefix`.
    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, cursor: u64) -> RingWatch {
        let slot = Arc::new(Slot {
            prefix: prefix.to_owned(),
            wake: Notify::new(),
            progress_wanted: AtomicBool::new(false),
        });
        self.lock().watchers.push(Arc::downgrade(&slot));
        RingWatch {
            ring: self.clone(),
            slot,
            cursor,
            told: cursor,
            ready: VecDeque::new(),
            ended: false,
        }
    }
}

enum Pulled {
    /// The matching revisions; the cursor has moved past everything visited.
    Some(Vec<(u64, Arc<[Change]>)>),
    Nothing {
        head: u64,
    },
    Gone {
        floor: u64,
    },
    Closed,
}

/// One watch on a ring.
pub(crate) struct RingWatch {
    ring: Arc<Ring>,
    slot: Arc<Slot>,
    /// Everything up to this revision has been taken out of the ring.
    cursor: u64,
    /// The last revision that the reader has been told.
    told: u64,
    ready: VecDeque<WatchItem>,
    ended: bool,
}

impl RingWatch {
    fn pull(&mut self) -> Pulled {
        let inner = self.ring.lock();
        if self.cursor < inner.floor {
            return Pulled::Gone { floor: inner.floor };
        }
        let first = inner.entries.partition_point(|entry| entry.revision <= self.cursor);
        if first == inner.entries.len() {
            let head = inner.head;
            return if inner.closed {
                Pulled::Closed
            } else {
                Pulled::Nothing { head }
            };
        }
        let mut found = Vec::new();
        for entry in inner.entries.range(first..).take(PULL_REVISIONS) {
            self.cursor = entry.revision;
            if entry
                .changes
                .iter()
                .any(|change| key_of(change).starts_with(&self.slot.prefix))
            {
                found.push((entry.revision, entry.changes.clone()));
            }
        }
        Pulled::Some(found)
    }

    /// The next item; `None` after the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<WatchItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.ended {
                return None;
            }
            match self.pull() {
                Pulled::Some(found) => {
                    for (revision, changes) in found {
                        let wanted = |change: &&Change| key_of(change).starts_with(&self.slot.prefix);
                        let changes = changes.iter().filter(wanted).cloned().collect();
                        self.ready.push_back(WatchItem::Changes { revision, changes });
                        self.told = revision;
                    }
                }
                Pulled::Gone { floor } => {
                    self.ended = true;
                    return Some(WatchItem::Compacted { oldest: floor });
                }
                Pulled::Closed => self.ended = true,
                Pulled::Nothing { head } => {
                    if self.slot.progress_wanted.swap(false, Ordering::AcqRel) && head > self.told {
                        self.cursor = self.cursor.max(head);
                        self.told = head;
                        return Some(WatchItem::Progress { revision: head });
                    }
                    if tokio::time::timeout(IDLE_PROGRESS, self.slot.wake.notified())
                        .await
                        .is_err()
                    {
                        self.slot.progress_wanted.store(true, Ordering::Release);
                    }
                }
            }
        }
    }

    pub(crate) fn into_stream(self) -> BoxStream<'static, WatchItem> {
        Box::pin(futures::stream::unfold(self, async |mut watch| {
            watch.next().await.map(|item| (item, watch))
        }))
    }
}
