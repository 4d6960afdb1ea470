//! The recent changes of a store, kept once for all its watches.
//!
//! A store pushes every committed revision in order. A watch is a cursor into the ring: a watcher costs no copy of the
//! changes and never slows the writer; one that is so slow that the ring forgets a change before it was read ends with
//! `Compacted`. A watcher is woken only by changes below its prefix or by a request for progress.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use tokio::sync::Notify;

use crate::{Change, WatchItem};

/// Revisions that one look into the ring visits at most, so that the lock is held for microseconds.
const PULL_REVISIONS: usize = 1024;
/// An idle watch learns the store's revision at least this often (bookmarks must not grow stale).
const IDLE_PROGRESS: Duration = Duration::from_secs(1);
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
    /// When `head` gets here, all watchers are told of their progress.
    progress_at: Option<u64>,
    watchers: Vec<Weak<Slot>>,
}

/// What the ring knows of a watcher. `cursor` and `lost` are read and written under the ring's lock only; they are atomic
/// so that they can be shared without another lock.
struct Slot {
    prefix: String,
    wake: Notify,
    progress_wanted: AtomicBool,
    /// Everything up to this revision has been taken, or did not concern the watcher.
    cursor: AtomicU64,
    /// A change that concerns the watcher was forgotten before it was taken.
    lost: AtomicBool,
}

impl Slot {
    fn concerned(&self, changes: &[Change]) -> bool {
        changes.iter().any(|change| key_of(change).starts_with(&self.prefix))
    }

    fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

impl Inner {
    /// The watchers that still exist.
    fn watchers(&mut self) -> Vec<Arc<Slot>> {
        let mut alive = Vec::with_capacity(self.watchers.len());
        self.watchers
            .retain(|watcher| watcher.upgrade().map(|slot| alive.push(slot)).is_some());
        alive
    }
}

pub(crate) struct Ring {
    inner: Mutex<Inner>,
}

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
    /// A ring that knows nothing up to `revision`.
    pub(crate) fn new(revision: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                entries: VecDeque::new(),
                floor: revision,
                head: revision,
                bytes: 0,
                closed: false,
                progress_at: None,
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
        let mut woken = inner.watchers();
        let newest = batch.last().map_or(inner.head, |(revision, _)| *revision);
        if inner.progress_at.is_some_and(|at| at <= newest) {
            inner.progress_at = None;
            woken
                .iter()
                .for_each(|slot| slot.progress_wanted.store(true, Ordering::Release));
        } else {
            woken.retain(|slot| batch.iter().any(|(_, changes)| slot.concerned(changes)));
        }
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
        drop(inner);
        woken.iter().for_each(|slot| slot.wake.notify_one());
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

    /// Forgets the changes up to and including `revision`; returns them. Watchers that had yet to take one of them end.
    pub(crate) fn trim(&self, revision: u64) -> Vec<Arc<[Change]>> {
        let mut inner = self.lock();
        let watchers = inner.watchers();
        let mut gone = Vec::new();
        while inner.entries.front().is_some_and(|entry| entry.revision <= revision) {
            let Some(entry) = inner.entries.pop_front() else { break };
            inner.bytes -= entry.bytes;
            for slot in watchers.iter().filter(|slot| slot.cursor() < entry.revision) {
                if slot.concerned(&entry.changes) {
                    slot.lose();
                }
                slot.cursor.store(entry.revision, Ordering::Relaxed);
            }
            gone.push(entry.changes);
        }
        inner.floor = inner.floor.max(revision);
        gone
    }

    /// Changes were missed: nothing up to `revision` is known any more. Every watcher below it ends.
    pub(crate) fn reset(&self, revision: u64) {
        let mut inner = self.lock();
        inner.entries.clear();
        inner.bytes = 0;
        inner.head = inner.head.max(revision);
        inner.floor = inner.floor.max(revision);
        inner
            .watchers()
            .iter()
            .filter(|slot| slot.cursor() < revision)
            .for_each(|slot| slot.lose());
    }

    /// Ends all watches: the store is gone.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.watchers().iter().for_each(|slot| slot.wake.notify_one());
    }

    /// Has every watcher yield its progress, as soon as the ring is at `revision`.
    pub(crate) fn request_progress(&self, revision: u64) {
        let mut inner = self.lock();
        if inner.head < revision {
            inner.progress_at = Some(inner.progress_at.unwrap_or(0).max(revision));
            return;
        }
        for slot in inner.watchers() {
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
        let mut inner = self.lock();
        let slot = Arc::new(Slot {
            prefix: prefix.to_owned(),
            wake: Notify::new(),
            progress_wanted: AtomicBool::new(false),
            cursor: AtomicU64::new(cursor),
            lost: AtomicBool::new(cursor < inner.floor),
        });
        inner.watchers.push(Arc::downgrade(&slot));
        drop(inner);
        RingWatch {
            ring: self.clone(),
            slot,
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
    /// The last revision that the reader has been told.
    told: u64,
    ready: VecDeque<WatchItem>,
    ended: bool,
}

impl RingWatch {
    fn pull(&self) -> Pulled {
        let inner = self.ring.lock();
        if self.slot.lost.load(Ordering::Relaxed) {
            return Pulled::Gone { floor: inner.floor };
        }
        let mut cursor = self.slot.cursor();
        let first = inner.entries.partition_point(|entry| entry.revision <= cursor);
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
            cursor = entry.revision;
            if self.slot.concerned(&entry.changes) {
                found.push((entry.revision, entry.changes.clone()));
            }
        }
        self.slot.cursor.store(cursor, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyValue;

    fn push(ring: &Ring, key: &str, revision: u64) {
        let current = KeyValue {
            key: key.to_owned(),
            value: bytes::Bytes::new(),
            mod_revision: revision,
        };
        ring.push(vec![(
            revision,
            [Change::Put {
                current,
                previous: None,
            }]
            .into(),
        )]);
    }

    #[tokio::test]
    async fn only_a_watcher_that_lost_a_change_of_its_own_ends() {
        let ring = Ring::new(10);
        let mut slow = ring.watch("/a/", 10);
        let mut other = ring.watch("/b/", 10);
        let mut quick = ring.watch("/a/", 10);
        push(&ring, "/a/x", 11);
        push(&ring, "/a/y", 12);
        assert!(matches!(
            quick.next().await,
            Some(WatchItem::Changes { revision: 11, .. })
        ));
        ring.trim(12);
        push(&ring, "/a/x", 13);
        push(&ring, "/b/x", 14);
        assert_eq!(slow.next().await, Some(WatchItem::Compacted { oldest: 12 }));
        assert_eq!(slow.next().await, None);
        assert!(
            matches!(other.next().await, Some(WatchItem::Changes { revision: 14, .. })),
            "it lost nothing"
        );
        for wanted in [12, 13] {
            let next = quick.next().await;
            assert!(
                matches!(next, Some(WatchItem::Changes { revision, .. }) if revision == wanted),
                "{next:?}"
            );
        }
    }

    #[tokio::test]
    async fn progress_waits_for_the_revision_that_was_asked_for() {
        let ring = Ring::new(10);
        let mut watch = ring.watch("/a/", 10);
        ring.request_progress(12);
        push(&ring, "/b/x", 11);
        assert!(futures::poll!(std::pin::pin!(watch.next())).is_pending());
        push(&ring, "/b/x", 12);
        assert_eq!(watch.next().await, Some(WatchItem::Progress { revision: 12 }));
    }

    #[tokio::test]
    async fn a_gap_ends_every_watcher_below_it() {
        let ring = Ring::new(10);
        let mut watch = ring.watch("/a/", 10);
        ring.reset(20);
        assert_eq!(watch.next().await, Some(WatchItem::Compacted { oldest: 20 }));
        let mut again = ring.watch("/a/", 20);
        push(&ring, "/a/x", 21);
        assert!(matches!(
            again.next().await,
            Some(WatchItem::Changes { revision: 21, .. })
        ));
        ring.close();
        assert_eq!(again.next().await, None);
    }
}
