//! The etcd store.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{KeyValue, ListRequest, ListResult, Store, StoreError, Txn, TxnOutcome, WatchItem};

/// TLS towards etcd; all PEM.
#[derive(Clone, Debug, Default)]
pub struct EtcdTls {
    pub ca: Vec<u8>,
    /// Client certificate and key, both or neither.
    pub certificate: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
}

/// How to reach etcd.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `http://host:2379`, `https://…`.
    pub endpoints: Vec<String>,
    pub tls: Option<EtcdTls>,
}

/// A store in an etcd cluster. Keys are stored as they are given.
pub struct EtcdStore {}

impl EtcdStore {
    /// Connects and reads the current revision, so that a wrong address is an error here and not later.
    pub async fn connect(_options: EtcdOptions) -> Result<Self, StoreError> {
        unimplemented!()
    }
}

#[async_trait]
impl Store for EtcdStore {
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
