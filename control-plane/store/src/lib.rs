//! Where objects rest: a small ordered key-value store with revisions, compare-and-swap and watch, as etcd has it.
//!
//! Two implementations pass one contract suite: `embedded` (redb; one process, durable) and `etcd`.
//!
//! # Contract
//! - There is one revision counter per store. Every committed transaction that changes anything takes the next revision;
//!   all its keys carry it. Revisions never repeat and never go back, restarts included.
//! - A committed transaction is durable before `txn` answers. A transaction whose answer was lost may have happened:
//!   `StoreError::Unknown`.
//! - `list` at revision 0 reads the newest state; at a revision N exactly the state at N, or `Compacted`.
//! - `watch` after revision N yields every later change of the prefix exactly once, in revision order; changes of one
//!   transaction arrive in one batch. When a change after N is already compacted the first item is `Compacted`. A watcher
//!   so slow that history overtakes it is ended with `Compacted` too; it never slows a writer. N may lie in the future.
//! - API objects live below the prefix (`/registry`), one per transaction. Bookkeeping keys (node ledgers, …) live
//!   outside it (`bookkeeping_key`) and may join an object's transaction.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub mod embedded;
pub mod error;
pub mod etcd;
mod ring;
pub mod watch_cache;

pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use error::StoreError;
pub use etcd::{EtcdOptions, EtcdStore, EtcdTls};
pub use watch_cache::{Attributes, Cache, CacheError, CacheEvent, CacheOptions, CachedObject, EventKind, Expired};
pub use watch_cache::{Interest, Snapshot, WatchBatch, Watcher};

/// The largest transaction, counted as the sum of its keys and values. etcd's own default limit (1.5 MiB) minus room for
/// its message framing, so that both stores refuse the same writes.
pub const MAX_TXN_BYTES: usize = 1536 * 1024 - 16 * 1024;

/// A key with its value and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Bytes,
    /// Revision of the transaction that wrote this value. Never 0.
    pub mod_revision: u64,
}

/// A precondition: the key's last revision must be this; 0 means that the key must be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: String,
    pub mod_revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        key: String,
        value: Bytes,
    },
    /// Deleting an absent key changes nothing.
    Delete {
        key: String,
    },
}

/// All compares hold → all operations happen, atomically, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    /// A key may appear in one of them only.
    pub operations: Vec<Operation>,
}

impl Txn {
    /// Bytes that count against `MAX_TXN_BYTES`.
    pub fn size(&self) -> usize {
        let compares = self.compares.iter().map(|compare| compare.key.len());
        let operations = self.operations.iter().map(|operation| match operation {
            Operation::Put { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
        });
        compares.chain(operations).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    Committed {
        revision: u64,
    },
    /// A compare failed; nothing happened. What each compared key holds now, in the order of `compares`.
    Failed {
        current: Vec<Option<KeyValue>>,
        revision: u64,
    },
}

#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Every key that starts with this.
    pub prefix: String,
    /// Only keys strictly greater than this.
    pub start_after: Option<String>,
    /// 0 = no limit.
    pub limit: usize,
    /// 0 = newest.
    pub revision: u64,
}

#[derive(Clone, Debug)]
pub struct ListResult {
    /// In key order.
    pub items: Vec<KeyValue>,
    /// The revision that the answer shows.
    pub revision: u64,
    /// Whether `limit` cut the answer, and how many keys follow it.
    pub remaining: u64,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        current: KeyValue,
        previous: Option<KeyValue>,
    },
    /// `revision` is that of the deletion.
    Delete {
        key: String,
        revision: u64,
        previous: Option<KeyValue>,
    },
}

/// What a watch yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// The changes of one revision within the prefix.
    Changes { revision: u64, changes: Vec<Change> },
    /// Everything up to this revision has been yielded.
    Progress { revision: u64 },
    /// The start revision is gone, or this watcher was too slow. The stream ends; list again.
    Compacted { oldest: u64 },
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;
    /// The newest value of a key and the store's revision.
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, u64), StoreError>;
    async fn list(&self, request: ListRequest) -> Result<ListResult, StoreError>;
    /// Changes after `after_revision`.
    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BoxStream<'static, WatchItem>, StoreError>;
    /// The newest committed revision (a linearizable read on etcd).
    async fn revision(&self) -> Result<u64, StoreError>;
    /// Asks for a `Progress` item soon on every open watch that has caught up. Without it an idle watch may go a second or
    /// more without one.
    fn request_progress(&self);
    /// Forgets history up to and including `revision`; lists and watches below it answer `Compacted`.
    async fn compact(&self, revision: u64) -> Result<(), StoreError>;
}

/// Where bookkeeping of one sort lies that belongs to the objects below `prefix`: `/skiff/ledgers/registry`. Clusters of
/// different prefixes on one store share none of it; a prefix of several parts is one part here, so that no cluster's
/// bookkeeping lies below another's.
pub fn bookkeeping_key(sort: &str, prefix: &str) -> String {
    format!("/skiff/{sort}/{}", prefix.trim_matches('/').replace('/', "%2F"))
}

pub type DynStore = Arc<dyn Store>;
