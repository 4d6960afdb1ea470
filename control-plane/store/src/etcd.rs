//! The etcd store: keys and values as they are, one etcd transaction per transaction, the etcd revision as revision.

mod compactor;
mod convert;
mod feed;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, KvClient, TlsOptions};
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::ring::Ring;
use crate::{KeyValue, ListRequest, ListResult, MAX_TXN_BYTES, Store, StoreError, Txn, TxnOutcome, WatchItem};
use convert::{Refusal, from_etcd, to_etcd};

/// After this a request counts as failed; for a transaction that means: unknown. Longer than an etcd leader election
/// (one second by default), shorter than the patience of any client.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long one attempt to connect may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// HTTP/2 pings on connections in use: a dead etcd host is found after their sum. etcd refuses more than one in 5 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer: a page of 500 objects at etcd's limit of 1.5 MB each would be more, but no such page exists in
/// practice; the usual one has 2.5 MB.
const MESSAGE_BYTES: usize = 512 * 1024 * 1024;
/// Any key does for a read that only wants the revision.
const REVISION_KEY: &str = "/";

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

/// The last answer of a read of the revision that several callers share.
#[derive(Default)]
struct SharedRead {
    /// Reads begun so far.
    number: u64,
    answer: Option<Result<u64, String>>,
}

/// A store in an etcd cluster. Keys are stored as they are given.
pub struct EtcdStore {
    client: Client,
    ring: Arc<Ring>,
    /// The newest revision that any answer has shown.
    seen: AtomicU64,
    revision_read: Mutex<SharedRead>,
    /// `SharedRead::number`, readable without the lock.
    revision_reads: AtomicU64,
    tasks: Vec<AbortHandle>,
}

impl EtcdStore {
    /// Connects and reads the current revision, so that a wrong address is an error here and not later. Starts the tasks
    /// that follow etcd's changes and compact it.
    ///
    /// # Errors
    /// `Unavailable`, naming the endpoints.
    pub async fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        let endpoints = options.endpoints.join(",");
        let named = |why: String| StoreError::Unavailable {
            why: format!("etcd at {endpoints}: {why}"),
        };
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(CONNECT_DEADLINE)
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_require_leader(true);
        if let Some(tls) = options.tls {
            let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(tls.ca));
            if let (Some(certificate), Some(key)) = (tls.certificate, tls.key) {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            connect = connect.with_tls(config);
        }
        let client = Client::connect(options.endpoints, Some(connect))
            .await
            .map_err(|error| named(error.to_string()))?;
        let first = read_revision(&client)
            .await
            .map_err(|refusal| match refusal.of_read() {
                StoreError::Unavailable { why } => named(why),
                other => named(other.to_string()),
            })?;
        let ring = Ring::new(first);
        let tasks = vec![
            tokio::spawn(feed::run(client.clone(), ring.clone())).abort_handle(),
            tokio::spawn(compactor::run(client.clone(), compactor::INTERVAL)).abort_handle(),
        ];
        Ok(Self {
            client,
            ring,
            seen: AtomicU64::new(first),
            revision_read: Mutex::default(),
            revision_reads: AtomicU64::new(0),
            tasks,
        })
    }

    fn saw(&self, revision: u64) -> u64 {
        self.seen.fetch_max(revision, Ordering::AcqRel);
        revision
    }

    /// A read's error with the numbers that etcd leaves out.
    async fn explain(&self, refusal: Refusal, wanted: u64) -> StoreError {
        match refusal {
            Refusal::Compacted => {
                let oldest = feed::oldest(&self.client).await.unwrap_or(wanted + 1);
                StoreError::Compacted { oldest }
            }
            Refusal::FutureRevision => {
                let current = self.revision().await.unwrap_or(0);
                StoreError::FutureRevision { wanted, current }
            }
            other => other.of_read(),
        }
    }
}

async fn within<T>(request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Refusal> {
    let answer = tokio::time::timeout(REQUEST_DEADLINE, request)
        .await
        .map_err(|_| Refusal::deadline())?;
    answer.map_err(Refusal::from)
}

fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(MESSAGE_BYTES)
}

async fn read_revision(client: &Client) -> Result<u64, Refusal> {
    let answer = within(kv(client).get(REVISION_KEY, Some(GetOptions::new().with_count_only()))).await?;
    Ok(revision_of(&answer))
}

fn revision_of(answer: &GetResponse) -> u64 {
    answer.header().map_or(0, |header| from_etcd(header.revision()))
}

#[async_trait]
impl Store for EtcdStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let size = txn.size();
        if size > MAX_TXN_BYTES {
            return Err(StoreError::TooLarge {
                size,
                limit: MAX_TXN_BYTES,
            });
        }
        let mut client = kv(&self.client);
        let answer = within(client.txn(convert::txn(txn))).await.map_err(Refusal::of_write)?;
        let revision = answer.header().map_or(0, |header| from_etcd(header.revision()));
        Ok(convert::outcome(
            answer.succeeded(),
            self.saw(revision),
            answer.op_responses(),
        ))
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, u64), StoreError> {
        let answer = within(kv(&self.client).get(key, None))
            .await
            .map_err(Refusal::of_read)?;
        Ok((
            answer.kvs().first().and_then(convert::key_value),
            self.saw(revision_of(&answer)),
        ))
    }

    async fn list(&self, request: ListRequest) -> Result<ListResult, StoreError> {
        let start = match &request.start_after {
            // The next possible key.
            Some(after) if after.as_str() >= request.prefix.as_str() => format!("{after}\0"),
            _ if request.prefix.is_empty() => "\0".to_owned(),
            _ => request.prefix.clone(),
        };
        let options = GetOptions::new()
            .with_range(convert::prefix_end(&request.prefix))
            .with_limit(i64::try_from(request.limit).unwrap_or(i64::MAX))
            .with_revision(to_etcd(request.revision));
        let answer = match within(kv(&self.client).get(start, Some(options))).await {
            Ok(answer) => answer,
            Err(refusal) => return Err(self.explain(refusal, request.revision).await),
        };
        let revision = self.saw(revision_of(&answer));
        let remaining = from_etcd(answer.count()).saturating_sub(answer.kvs().len() as u64);
        let items = answer.kvs().iter().filter_map(convert::key_value).collect();
        let shown = if request.revision == 0 {
            revision
        } else {
            request.revision
        };
        Ok(ListResult {
            items,
            revision: shown,
            remaining,
        })
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BoxStream<'static, WatchItem>, StoreError> {
        let watch = feed::EtcdWatch::new(self.client.clone(), self.ring.clone(), prefix, after_revision);
        Ok(watch.into_stream())
    }

    /// Callers that come while a read is under way share the next one.
    async fn revision(&self) -> Result<u64, StoreError> {
        // A read that began before this call may have missed a write acknowledged before it.
        let begun = self.revision_reads.load(Ordering::Acquire);
        let mut shared = self.revision_read.lock().await;
        if shared.number <= begun || shared.answer.is_none() {
            shared.number += 1;
            self.revision_reads.store(shared.number, Ordering::Release);
            shared.answer = None;
            let answer = read_revision(&self.client).await;
            shared.answer = Some(answer.map_err(|refusal| refusal.of_read().to_string()));
        }
        match &shared.answer {
            Some(Ok(revision)) => Ok(self.saw(*revision)),
            Some(Err(why)) => Err(StoreError::Unavailable { why: why.clone() }),
            None => Err(StoreError::Unavailable {
                why: "reading etcd's revision was interrupted".to_owned(),
            }),
        }
    }

    fn request_progress(&self) {
        self.ring.request_progress(self.seen.load(Ordering::Acquire));
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        match within(self.client.kv_client().compact(to_etcd(revision), None)).await {
            // Compacted already.
            Ok(_) | Err(Refusal::Compacted) => {
                self.ring.trim(revision);
                Ok(())
            }
            Err(refusal) => Err(self.explain(refusal, revision).await),
        }
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.ring.close();
    }
}
