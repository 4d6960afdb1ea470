//! The one thread that changes the embedded store. It takes everything that is queued, evaluates it in order against
//! memory, makes it durable in one redb transaction (one sync), then shows it to readers and watchers and answers.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::disk::{Disk, DiskWrite};
use super::index::{Index, key_value};
use crate::ring::{Limits, Ring, key_of};
use crate::{Change, KeyValue, Operation, StoreError, Txn, TxnOutcome};

/// Transactions in one commit at most: bounds the latency of the first of them.
const BATCH_TXNS: usize = 512;
/// Bytes in one commit at most, for the same reason.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How often an idle writer looks for history that has become too old.
const IDLE_TICK: Duration = Duration::from_secs(10);
/// Keys trimmed per hold of the index's lock while compacting.
const TRIM_KEYS: usize = 256;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(crate) enum Command {
    Txn {
        txn: Txn,
        deadline: Instant,
        reply: Reply<TxnOutcome>,
        permit: OwnedSemaphorePermit,
    },
    Compact {
        revision: u64,
        reply: Reply<()>,
    },
}

/// What the writer shares with the readers.
pub(crate) struct Shared {
    pub(crate) index: RwLock<Index>,
    pub(crate) ring: Arc<Ring>,
    /// Set once when the disk failed; says why.
    pub(crate) failed: OnceLock<String>,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Disk,
    pub(crate) limits: Limits,
}

/// What a batch has changed so far and nobody has seen yet.
#[derive(Default)]
struct Pending {
    newest: HashMap<String, Option<(u64, Bytes)>>,
    revisions: Vec<(u64, Arc<[Change]>)>,
    answers: Vec<(Reply<TxnOutcome>, TxnOutcome, OwnedSemaphorePermit)>,
}

impl Writer {
    /// Runs until the last sender is gone; what is queued by then is still done.
    pub(crate) fn run(self, commands: Receiver<Command>) {
        loop {
            let first = match commands.recv_timeout(IDLE_TICK) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(first) = first {
                self.batch(first, &commands);
            }
            if let Some(revision) = self.shared.ring.excess(self.limits) {
                self.compact(revision);
            }
        }
        self.shared.ring.close();
    }

    fn batch(&self, first: Command, commands: &Receiver<Command>) {
        let mut pending = Pending::default();
        let mut compactions = Vec::new();
        let (mut txns, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Compact { revision, reply } => compactions.push((revision, reply)),
                Command::Txn {
                    txn,
                    deadline,
                    reply,
                    permit,
                } => {
                    txns += 1;
                    bytes += txn.size();
                    self.admit(&mut pending, txn, deadline, reply, permit);
                }
            }
            let room = txns < BATCH_TXNS && bytes < BATCH_BYTES;
            next = if room { commands.try_recv().ok() } else { None };
        }
        self.commit(pending);
        for (revision, reply) in compactions {
            let current = self
                .shared
                .index
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .revision();
            let answer = if revision > current {
                Err(StoreError::FutureRevision {
                    wanted: revision,
                    current,
                })
            } else {
                self.compact(revision);
                Ok(())
            };
            // A caller that went away needs no answer.
            let _ = reply.send(answer);
        }
    }

    fn admit(
        &self,
        pending: &mut Pending,
        txn: Txn,
        deadline: Instant,
        reply: Reply<TxnOutcome>,
        permit: OwnedSemaphorePermit,
    ) {
        if let Some(why) = self.shared.failed.get() {
            let _ = reply.send(Err(StoreError::Fatal { why: why.clone() }));
            return;
        }
        if Instant::now() > deadline {
            let why = "the write waited too long for the disk".to_owned();
            let _ = reply.send(Err(StoreError::Unavailable { why }));
            return;
        }
        let index = self.shared.index.read().unwrap_or_else(PoisonError::into_inner);
        let outcome = evaluate(&index, pending, txn);
        drop(index);
        // Answered after the commit even if it changed nothing: it may have seen what the batch is about to commit.
        pending.answers.push((reply, outcome, permit));
    }

    fn commit(&self, pending: Pending) {
        if let Some(&(revision, _)) = pending.revisions.last() {
            let writes = pending.newest.iter().map(|(key, value)| DiskWrite {
                key,
                value: value.as_ref().map(|(revision, value)| (*revision, value)),
            });
            if let Err(error) = self.disk.commit(revision, writes) {
                tracing::error!(%error, "the embedded store stops accepting writes");
                let why = match error {
                    StoreError::Fatal { why } => why,
                    other => other.to_string(),
                };
                let why = self.shared.failed.get_or_init(|| why);
                for (reply, _, _) in pending.answers {
                    let _ = reply.send(Err(StoreError::Unknown { why: why.clone() }));
                }
                return;
            }
            let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
            for (revision, changes) in &pending.revisions {
                index.apply(*revision, changes);
            }
            drop(index);
            self.shared.ring.push(pending.revisions);
        }
        for (reply, outcome, permit) in pending.answers {
            drop(permit);
            let _ = reply.send(Ok(outcome));
        }
    }

    /// Forgets history up to and including `revision`, which is not in the future.
    fn compact(&self, revision: u64) {
        self.shared
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .raise_floor(revision);
        let gone = self.shared.ring.trim(revision);
        let keys: Vec<&str> = gone.iter().flat_map(|changes| changes.iter().map(key_of)).collect();
        for some in keys.chunks(TRIM_KEYS) {
            let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
            some.iter().for_each(|key| index.trim(key));
        }
    }
}

fn evaluate(index: &Index, pending: &mut Pending, txn: Txn) -> TxnOutcome {
    let revision = pending
        .revisions
        .last()
        .map_or(index.revision(), |(revision, _)| *revision);
    let current = |newest: &HashMap<String, Option<(u64, Bytes)>>, key: &str| -> Option<KeyValue> {
        match newest.get(key) {
            Some(value) => value.as_ref().map(|(revision, value)| key_value(key, *revision, value)),
            None => index.get(key).map(|(revision, value)| key_value(key, revision, value)),
        }
    };
    let holds = |compare: &crate::Compare| {
        let found = match pending.newest.get(&compare.key) {
            Some(value) => value.as_ref().map(|(revision, _)| *revision),
            None => index.get(&compare.key).map(|(revision, _)| revision),
        };
        found.unwrap_or(0) == compare.mod_revision
    };
    if !txn.compares.iter().all(holds) {
        let current = txn
            .compares
            .iter()
            .map(|compare| current(&pending.newest, &compare.key))
            .collect();
        return TxnOutcome::Failed { current, revision };
    }
    let next = revision + 1;
    let mut changes = Vec::with_capacity(txn.operations.len());
    for operation in txn.operations {
        match operation {
            Operation::Put { key, value } => {
                let previous = current(&pending.newest, &key);
                pending.newest.insert(key.clone(), Some((next, value.clone())));
                changes.push(Change::Put {
                    current: KeyValue {
                        key,
                        value,
                        mod_revision: next,
                    },
                    previous,
                });
            }
            Operation::Delete { key } => {
                let previous = current(&pending.newest, &key);
                if previous.is_some() {
                    pending.newest.insert(key.clone(), None);
                    changes.push(Change::Delete {
                        key,
                        revision: next,
                        previous,
                    });
                }
            }
        }
    }
    if changes.is_empty() {
        return TxnOutcome::Committed { revision };
    }
    pending.revisions.push((next, changes.into()));
    TxnOutcome::Committed { revision: next }
}
