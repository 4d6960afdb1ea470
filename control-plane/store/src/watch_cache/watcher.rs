//! One reader of a cache's events: a cursor, no queue of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Inner;
use super::object::{CacheEvent, Interest};
use super::objects::Snapshot;
use super::state::Found;

/// Events handed over at once at most.
const BATCH_EVENTS: usize = 256;
/// A watcher that is woken only for some events passes over the others this often, so that history does not overtake it.
const PASS_OVER: Duration = Duration::from_secs(1);

/// The watch's start is gone, or the watcher was too slow: answer 410 Expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version (oldest is {oldest})")]
pub struct Expired {
    pub oldest: u64,
}

/// What a watcher yields.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// In revision order; never empty.
    pub events: Vec<Arc<CacheEvent>>,
    /// Everything up to this revision has been yielded, this batch included.
    pub revision: u64,
}

/// One reader of the cache's changes. It holds no events, so a slow one costs nothing and ends with `Expired`.
pub struct Watcher {
    /// For a watch without start: the state that the events follow. Send it as ADDED events first.
    pub initial: Option<Snapshot>,
    pub(crate) inner: Arc<Inner>,
    pub(crate) interest: Interest,
    /// Told after every event of interest.
    pub(crate) wake: Arc<Notify>,
    /// The number of the next event.
    pub(crate) next: u64,
    /// Changes up to this revision were not asked for.
    pub(crate) start: u64,
    /// Everything up to this revision has been yielded, or was not asked for.
    pub(crate) revision: u64,
}

impl Watcher {
    /// The next changes, as soon as there are any. Cancel-safe. After an error the watcher is done.
    pub async fn next(&mut self) -> Result<WatchBatch, Expired> {
        let wake = self.wake.clone();
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            // Registered before looking, so that no change between looking and waiting is missed.
            woken.as_mut().enable();
            if let Some(batch) = self.try_next()? {
                return Ok(batch);
            }
            if self.interest == Interest::All {
                woken.await;
            } else {
                // Whether it was woken or is to pass over the others: it looks again.
                let _ = tokio::time::timeout(PASS_OVER, woken).await;
            }
        }
    }

    fn read(&self, limit: usize) -> Found {
        let wanted = |event: &CacheEvent| event.revision > self.start && self.interest.wants(event);
        self.inner.state().read(self.next, limit, wanted)
    }

    /// The next changes, if there are any now.
    pub fn try_next(&mut self) -> Result<Option<WatchBatch>, Expired> {
        loop {
            match self.read(BATCH_EVENTS) {
                Found::Expired { oldest } => return Err(Expired { oldest }),
                Found::Nothing { .. } => return Ok(None),
                Found::Events { events, next } => {
                    self.next = next;
                    if let Some(last) = events.last() {
                        self.revision = last.revision;
                        return Ok(Some(WatchBatch {
                            revision: last.revision,
                            events,
                        }));
                    }
                }
            }
        }
    }

    /// The revision up to which everything has been yielded: the resourceVersion of a bookmark sent now.
    pub fn progress(&mut self) -> u64 {
        if let Found::Nothing { revision } = self.read(BATCH_EVENTS) {
            self.revision = self.revision.max(revision);
        }
        self.revision
    }
}
