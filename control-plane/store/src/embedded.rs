//! The embedded store: one process, one file, durable. Writes go through one thread with group commit (`writer`), land in
//! redb (`disk`), and are read from memory (`index`).

mod disk;
mod index;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, oneshot};

use crate::ring::{Limits, Ring};
use crate::{KeyValue, ListRequest, ListResult, MAX_TXN_BYTES, Store, StoreError, Txn, TxnOutcome, WatchItem};
use disk::Disk;
use index::{Index, Scan, key_value};
use writer::{Command, Shared, Writer};

/// History kept for lists at a revision and for watches that resume: five minutes, as kube-apiserver keeps it in etcd.
const HISTORY_AGE: Duration = Duration::from_secs(5 * 60);
/// … or this many revisions, whichever is less: about 20 MB of bookkeeping.
const HISTORY_REVISIONS: usize = 100_000;
/// … or this many bytes of values.
const HISTORY_BYTES: usize = 64 * 1024 * 1024;
/// Writes that may wait for the disk at once. With 5 kB objects about 10 MB.
const QUEUE_TXNS: usize = 2048;
/// A write that is not started within this is refused: nothing happened, the client may try again.
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);
/// Keys visited per hold of the read lock while listing.
const LIST_STEP: usize = 512;
/// A list of the newest state starts anew this often when compaction overtakes it.
const LIST_ATTEMPTS: usize = 5;

/// How an embedded store behaves. The defaults are right for a control plane.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// History older than this is compacted.
    pub history_age: Duration,
    /// Revisions of history kept at most.
    pub history_revisions: usize,
    /// Bytes of history kept at most.
    pub history_bytes: usize,
    /// Writes that may be queued; the next ones wait, then are refused as `Unavailable`.
    pub queue_txns: usize,
    /// How long a write may wait in the queue.
    pub queue_deadline: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            history_age: HISTORY_AGE,
            history_revisions: HISTORY_REVISIONS,
            history_bytes: HISTORY_BYTES,
            queue_txns: QUEUE_TXNS,
            queue_deadline: QUEUE_DEADLINE,
        }
    }
}

/// A store in one file. Dropping it finishes the queued writes and closes the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    commands: Option<Sender<Command>>,
    queue: Arc<Semaphore>,
    queue_deadline: Duration,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the file at `path`, making it (not its directory) when it is missing. Reads and checks the whole file, so it
    /// blocks for about a second per gigabyte.
    ///
    /// # Errors
    /// `Fatal`, naming the file and what to do: in use by another process, damaged, unreadable.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, StoreError> {
        Self::start(Disk::open(path.as_ref())?, &options)
    }

    fn start((disk, index): (Disk, Index), options: &EmbeddedOptions) -> Result<Self, StoreError> {
        let ring = Ring::new(index.revision());
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            ring,
            failed: OnceLock::new(),
        });
        let limits = Limits {
            revisions: options.history_revisions,
            bytes: options.history_bytes,
            age: options.history_age,
        };
        let (commands, receiver) = std::sync::mpsc::channel();
        let writer = Writer {
            shared: shared.clone(),
            disk,
            limits,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|error| StoreError::Fatal {
                why: format!("cannot start the store's writer thread: {error}"),
            })?;
        Ok(Self {
            shared,
            commands: Some(commands),
            queue: Arc::new(Semaphore::new(options.queue_txns)),
            queue_deadline: options.queue_deadline,
            writer: Some(writer),
        })
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, command: Command) -> Result<(), StoreError> {
        let stopped = || StoreError::Unavailable {
            why: "the store is closed".to_owned(),
        };
        self.commands
            .as_ref()
            .ok_or_else(stopped)?
            .send(command)
            .map_err(|_| stopped())
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        self.shared
            .failed
            .get()
            .map_or(Ok(()), |why| Err(StoreError::Fatal { why: why.clone() }))
    }

    /// One attempt at a list; `None` when compaction overtook it.
    async fn try_list(&self, request: &ListRequest) -> Result<Option<ListResult>, StoreError> {
        let after = request.start_after.as_deref().map(Arc::from);
        let mut scan = Scan {
            prefix: &request.prefix,
            after,
            revision: request.revision,
        };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let (mut items, mut remaining) = (Vec::new(), 0);
        loop {
            let more = {
                let index = self.index();
                if scan.revision == 0 {
                    scan.revision = index.revision();
                }
                match index.check(scan.revision) {
                    Err(StoreError::Compacted { .. }) if request.revision == 0 => return Ok(None),
                    checked => checked?,
                }
                index.scan(&mut scan, LIST_STEP, |key, revision, value| {
                    if items.len() < limit {
                        items.push(key_value(key, revision, value));
                    } else {
                        remaining += 1;
                    }
                })
            };
            if !more {
                return Ok(Some(ListResult {
                    items,
                    revision: scan.revision,
                    remaining,
                }));
            }
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.check_alive()?;
        let size = txn.size();
        if size > MAX_TXN_BYTES {
            return Err(StoreError::TooLarge {
                size,
                limit: MAX_TXN_BYTES,
            });
        }
        let deadline = Instant::now() + self.queue_deadline;
        let permit = tokio::time::timeout(self.queue_deadline, self.queue.clone().acquire_owned())
            .await
            .map_err(|_| StoreError::Unavailable {
                why: "too many writes are waiting for the disk".to_owned(),
            })?
            .map_err(|_| StoreError::Unavailable {
                why: "the store is closed".to_owned(),
            })?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Txn {
            txn,
            deadline,
            reply,
            permit,
        })?;
        answer.await.map_err(|_| StoreError::Unknown {
            why: "the store's writer stopped".to_owned(),
        })?
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, u64), StoreError> {
        let index = self.index();
        let found = index.get(key).map(|(revision, value)| key_value(key, revision, value));
        Ok((found, index.revision()))
    }

    async fn list(&self, request: ListRequest) -> Result<ListResult, StoreError> {
        for _ in 0..LIST_ATTEMPTS {
            if let Some(result) = self.try_list(&request).await? {
                return Ok(result);
            }
        }
        Err(StoreError::Unavailable {
            why: "the list was overtaken by compaction".to_owned(),
        })
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BoxStream<'static, WatchItem>, StoreError> {
        Ok(self.shared.ring.watch(prefix, after_revision).into_stream())
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        Ok(self.index().revision())
    }

    fn request_progress(&self) {
        self.shared.ring.request_progress(0);
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Compact { revision, reply })?;
        answer.await.map_err(|_| StoreError::Unavailable {
            why: "the store is closed".to_owned(),
        })?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the embedded store's writer thread panicked");
        }
    }
}
