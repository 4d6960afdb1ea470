//! The embedded store: one process, one file, durable.

use std::path::Path;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{KeyValue, ListRequest, ListResult, Store, StoreError, Txn, TxnOutcome, WatchItem};

/// How an embedded store behaves. The defaults are right for a control plane.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedOptions {}

/// A store in one file.
pub struct EmbeddedStore {}

impl EmbeddedStore {
    /// Opens the file at `path`, making it when it is missing. Reads the whole state into memory: call it off the async
    /// runtime's hot path (it blocks).
    pub fn open(_path: impl AsRef<Path>, _options: EmbeddedOptions) -> Result<Self, StoreError> {
        unimplemented!()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn txn(&self, _txn: Txn) -> Result<TxnOutcome, StoreError> {
        unimplemented!()
    }
    async fn get(&self, _key: &str) -> Result<(Option<KeyValue>, u64), StoreError> {
        unimplemented!()
    }
    async fn list(&self, _request: ListRequest) -> Result<ListResult, StoreError> {
        unimplemented!()
    }
    async fn watch(&self, _prefix: &str, _after: u64) -> Result<BoxStream<'static, WatchItem>, StoreError> {
        unimplemented!()
    }
    async fn revision(&self) -> Result<u64, StoreError> {
        unimplemented!()
    }
    fn request_progress(&self) {}
    async fn compact(&self, _revision: u64) -> Result<(), StoreError> {
        unimplemented!()
    }
}
