//! The one watch that feeds all others.
//!
//! It watches every key of the etcd cluster. That costs no more than one watch per resource would (each change is sent
//! once) and makes progress exact: every etcd revision changes some key, so once the feed has seen revision N, every watch
//! has seen all up to N. Progress requests would say the same only on etcd 3.4.31 / 3.5.13 and later; before, they may
//! overtake events. Skiff is meant to be the only user of its etcd cluster; another one's keys would be received too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, WatchClient, WatchOptions, WatchResponse, WatchStream};
use futures::stream::BoxStream;

use super::convert::{self, Refusal, from_etcd, to_etcd};
use super::{MESSAGE_BYTES, REQUEST_DEADLINE};
use crate::ring::{Limits, Ring, RingWatch, key_of};
use crate::{Change, WatchItem};

/// History kept here, so that most watches need none of etcd's own. As the embedded store's.
const HISTORY: Limits = Limits {
    revisions: 100_000,
    bytes: 64 * 1024 * 1024,
    age: Duration::from_secs(5 * 60),
};
/// Wait after a first failure, doubled up to the second number.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// The changes of one revision.
type Revision = (u64, Vec<Change>);

pub(crate) enum FeedError {
    /// History up to and including this is gone.
    Compacted(u64),
    Other(Refusal),
}

impl From<etcd_client::Error> for FeedError {
    fn from(error: etcd_client::Error) -> Self {
        Self::Other(error.into())
    }
}

/// A watch of all keys, after a revision.
struct Events {
    stream: WatchStream,
    after: u64,
}

impl Events {
    async fn open(client: &Client, after: u64) -> Result<Self, FeedError> {
        let mut watch: WatchClient = client.watch_client().max_decoding_message_size(MESSAGE_BYTES);
        // Starts one revision early and skips it: some etcd versions lose a deletion when a watch starts exactly at the
        // revision of a compaction, and say "compacted" one revision earlier. Revision 0 would mean "now".
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(to_etcd(after.max(1)))
            .with_prev_key()
            .with_progress_notify();
        let opened = tokio::time::timeout(REQUEST_DEADLINE, watch.watch("", Some(options))).await;
        let stream = opened.map_err(|_| FeedError::Other(Refusal::deadline()))??;
        Ok(Self { stream, after })
    }

    /// The next revisions, in order.
    async fn next(&mut self) -> Result<Vec<Revision>, FeedError> {
        loop {
            let Some(response) = self.stream.message().await? else {
                let why = "etcd ended the watch".to_owned();
                return Err(FeedError::Other(Refusal::NotDone(why)));
            };
            if response.compact_revision() > 0 {
                return Err(FeedError::Compacted(from_etcd(response.compact_revision())));
            }
            if response.canceled() {
                return Err(FeedError::Other(Refusal::NotDone(response.cancel_reason().to_owned())));
            }
            let revisions = self.group(&response);
            if !revisions.is_empty() {
                return Ok(revisions);
            }
        }
    }

    /// Puts the events of a revision together. etcd sends them in one answer. Whatever is not after the last revision has
    /// been sent before (old versions repeat events).
    fn group(&mut self, response: &WatchResponse) -> Vec<Revision> {
        let mut revisions: Vec<Revision> = Vec::new();
        for event in response.events() {
            let revision = event.kv().map_or(0, |kv| from_etcd(kv.mod_revision()));
            let new = revisions.last().is_none_or(|(last, _)| *last < revision);
            if revision <= self.after || revisions.last().is_some_and(|(last, _)| *last > revision) {
                continue;
            }
            if new {
                revisions.push((revision, Vec::new()));
            }
            // A key that is no text is not ours, but its revision counts.
            if let (Some((_, change)), Some((_, changes))) = (convert::change(event), revisions.last_mut()) {
                changes.push(change);
            }
        }
        if let Some((last, _)) = revisions.last() {
            self.after = *last;
        }
        revisions
    }
}

/// Keeps the ring up to date until the task is aborted.
pub(crate) async fn run(client: Client, ring: Arc<Ring>) {
    let mut wait = RETRY_FIRST;
    loop {
        let error = match Events::open(&client, ring.head()).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Ok(revisions) => {
                        wait = RETRY_FIRST;
                        ring.push(
                            revisions
                                .into_iter()
                                .map(|(revision, changes)| (revision, changes.into()))
                                .collect(),
                        );
                        if let Some(revision) = ring.excess(HISTORY) {
                            ring.trim(revision);
                        }
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        match error {
            FeedError::Compacted(revision) => {
                tracing::warn!(
                    revision,
                    "etcd compacted changes that were not yet seen; watches start over"
                );
                ring.reset(revision);
            }
            FeedError::Other(refusal) => {
                tracing::warn!(error = %refusal.of_read(), "the watch on etcd ended; resuming");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MOST);
            }
        }
    }
}

/// A watch: first what the ring no longer has, from etcd itself, then the ring.
pub(crate) struct EtcdWatch {
    client: Client,
    ring: Arc<Ring>,
    prefix: String,
    after: u64,
    phase: Phase,
}

enum Phase {
    CatchUp {
        events: Option<Box<Events>>,
        ready: VecDeque<WatchItem>,
        wait: Duration,
    },
    Ring(RingWatch),
    Ended,
}

impl EtcdWatch {
    pub(crate) fn new(client: Client, ring: Arc<Ring>, prefix: &str, after: u64) -> Self {
        let phase = Phase::CatchUp {
            events: None,
            ready: VecDeque::new(),
            wait: RETRY_FIRST,
        };
        Self {
            client,
            ring,
            prefix: prefix.to_owned(),
            after,
            phase,
        }
    }

    async fn next(&mut self) -> Option<WatchItem> {
        loop {
            let (events, ready, wait) = match &mut self.phase {
                Phase::Ring(watch) => return watch.next().await,
                Phase::Ended => return None,
                Phase::CatchUp { events, ready, wait } => (events, ready, wait),
            };
            if let Some(item) = ready.pop_front() {
                return Some(item);
            }
            if self.after >= self.ring.floor() {
                self.phase = Phase::Ring(self.ring.watch(&self.prefix, self.after));
                continue;
            }
            let result = match events {
                Some(events) => events.next().await,
                None => Events::open(&self.client, self.after).await.map(|opened| {
                    *events = Some(Box::new(opened));
                    Vec::new()
                }),
            };
            match result {
                Ok(revisions) => {
                    for (revision, mut changes) in revisions {
                        self.after = revision;
                        changes.retain(|change| key_of(change).starts_with(&self.prefix));
                        if !changes.is_empty() {
                            ready.push_back(WatchItem::Changes { revision, changes });
                        }
                    }
                }
                Err(FeedError::Compacted(oldest)) => {
                    self.phase = Phase::Ended;
                    return Some(WatchItem::Compacted { oldest });
                }
                Err(FeedError::Other(refusal)) => {
                    tracing::warn!(error = %refusal.of_read(), "a watch on etcd's history ended; resuming");
                    *events = None;
                    tokio::time::sleep(*wait).await;
                    *wait = (*wait * 2).min(RETRY_MOST);
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

/// The oldest revision that can still be read: what etcd answers to a watch of the beginning. `None` when nothing has been
/// compacted or etcd does not say.
pub(crate) async fn oldest(client: &Client) -> Option<u64> {
    let mut events = Events::open(client, 0).await.ok()?;
    let answer = tokio::time::timeout(REQUEST_DEADLINE, events.next()).await.ok()?;
    match answer {
        Err(FeedError::Compacted(revision)) => Some(revision),
        _ => None,
    }
}
