//! etcd itself is killed under a store that stays open: the store finds it again, and its watches go on without a gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use skiff_store::{Change, EtcdOptions, EtcdStore, Operation, Store, StoreError, Txn, TxnOutcome, WatchItem};
use tokio::sync::mpsc;

use super::Moments;
use crate::support::etcd::Etcd;
use crate::support::in_time;

const ROUNDS: usize = 4;
const WRITERS: usize = 8;
const MOST_WRITES: u64 = 150;
/// Between two attempts while etcd is down: only so as not to spin.
const PAUSE: Duration = Duration::from_millis(5);

/// Counts one key up and tells of what was acknowledged, until told to stop. Numbers are never written twice.
async fn write(
    store: Arc<EtcdStore>,
    writer: usize,
    stop: Arc<AtomicBool>,
    told: mpsc::UnboundedSender<(usize, u64, u64)>,
) {
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let operation = Operation::Put {
            key: format!("/r/{writer}"),
            value: Bytes::from(number.to_string()),
        };
        match store
            .txn(Txn {
                compares: vec![],
                operations: vec![operation],
            })
            .await
        {
            Ok(TxnOutcome::Committed { revision }) => told.send((writer, number, revision)).expect("the test listens"),
            Ok(failed) => panic!("without compares nothing fails: {failed:?}"),
            Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. }) => tokio::time::sleep(PAUSE).await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_and_no_watch_has_a_gap() {
    in_time(run()).await;
}

async fn run() {
    let mut etcd = Etcd::start();
    let options = EtcdOptions {
        endpoints: vec![etcd.endpoint()],
        tls: None,
    };
    let store = Arc::new(EtcdStore::connect(options).await.expect("connects"));
    let start = store.revision().await.expect("answers");
    let mut watch = store.watch("/r/", start).await.expect("watches");
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, mut told) = mpsc::unbounded_channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), writer, stop.clone(), sender.clone())))
        .collect();
    drop(sender);
    let mut acknowledged: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    let mut moments = Moments(0x5eed);
    for _ in 0..ROUNDS {
        for _ in 0..moments.next(MOST_WRITES) {
            let (writer, number, revision) = told.recv().await.expect("writers go on");
            assert_eq!(
                acknowledged.insert(revision, (writer, number)),
                None,
                "a revision is given once"
            );
        }
        etcd.kill();
        let newest = acknowledged.keys().next_back().copied().unwrap_or(0);
        etcd.run();
        let revision = loop {
            match store.revision().await {
                Ok(revision) => break revision,
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(
            revision >= newest,
            "revision {revision} after {newest} was acknowledged"
        );
    }
    stop.store(true, Ordering::Release);
    for writer in writers {
        writer.await.expect("no writer panics");
    }
    while let Some((writer, number, revision)) = told.recv().await {
        assert_eq!(
            acknowledged.insert(revision, (writer, number)),
            None,
            "a revision is given once"
        );
    }
    // Everything acknowledged was on the watch, in order, once; nothing went back.
    let end = acknowledged.keys().next_back().copied().expect("something was written");
    let (mut at, mut counted) = (start, BTreeMap::new());
    while at < end {
        match watch.next().await.expect("the watch goes on") {
            WatchItem::Changes { revision, changes } => {
                assert!(revision > at, "revision {revision} after {at}");
                at = revision;
                let [Change::Put { current, .. }] = &changes[..] else {
                    panic!("one put a revision: {changes:?}")
                };
                let number: u64 = std::str::from_utf8(&current.value)
                    .expect("text")
                    .parse()
                    .expect("a number");
                if let Some(last) = counted.insert(current.key.clone(), number) {
                    assert!(last < number, "{}: {number} after {last}", current.key);
                }
                if let Some((writer, told)) = acknowledged.remove(&revision) {
                    assert_eq!((format!("/r/{writer}"), told), (current.key.clone(), number));
                }
            }
            WatchItem::Progress { revision } => at = at.max(revision),
            WatchItem::Compacted { oldest } => panic!("compacted up to {oldest}"),
        }
    }
    assert!(acknowledged.is_empty(), "acknowledged but never seen: {acknowledged:?}");
}
