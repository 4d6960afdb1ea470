//! What only the embedded store promises: its file, its lock, its failure, its bounds.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::{Compare, Operation};

fn put(key: &str, value: &str) -> Txn {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Txn {
        compares: vec![],
        operations: vec![Operation::Put {
            key: key.to_owned(),
            value,
        }],
    }
}

fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(path, EmbeddedOptions::default())
}

fn why(error: StoreError) -> String {
    match error {
        StoreError::Fatal { why } => why,
        other => panic!("expected a fatal error, got {other:?}"),
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = open(&path).unwrap();
    let refused = why(open(&path).err().unwrap());
    assert_eq!(
        refused,
        format!(
            "{} is in use by another process; stop it, or choose another --data-dir",
            path.display()
        )
    );
    drop(store);
    open(&path).unwrap();
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none").join("store.redb");
    let refused = why(open(&path).err().unwrap());
    assert!(
        refused.starts_with(&format!("cannot open {}: ", path.display())),
        "{refused}"
    );
}

#[tokio::test]
async fn another_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    std::fs::write(&path, b"these are my holiday notes").unwrap();
    let refused = why(open(&path).err().unwrap());
    assert!(
        refused.starts_with(&format!("{} is damaged: ", path.display())),
        "{refused}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"these are my holiday notes");
}

/// A changed byte is either found or was in no use: no wrong state is ever served.
#[tokio::test]
async fn a_flipped_byte_never_changes_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = open(&path).unwrap();
    for number in 0..60 {
        store
            .txn(put(&format!("/r/{number}"), &"x".repeat(number * 20)))
            .await
            .unwrap();
    }
    let wanted = store.list(ListRequest::default()).await.unwrap();
    drop(store);
    let sound = std::fs::read(&path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut found, mut harmless) = (0, 0);
    // Every byte would take minutes; a prime step reaches all offsets within pages and structures.
    for at in (0..used).step_by(971).chain(0..128) {
        std::fs::write(&path, &sound).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[sound[at] ^ 0x55], at as u64).unwrap();
        drop(file);
        match open(&path) {
            Err(error) => {
                let why = why(error);
                assert!(why.contains(&path.display().to_string()), "byte {at}: {why}");
                found += 1;
            }
            Ok(store) => {
                let list = store.list(ListRequest::default()).await.unwrap();
                assert_eq!(
                    (list.items, list.revision),
                    (wanted.items.clone(), wanted.revision),
                    "byte {at}"
                );
                harmless += 1;
            }
        }
    }
    assert!(found > 0 && harmless > 0, "{found} found, {harmless} harmless");
}

/// A disk whose syncs start to fail.
#[derive(Debug)]
struct FailingDisk {
    memory: InMemoryBackend,
    failing: Arc<AtomicBool>,
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        if self.failing.load(Ordering::Acquire) {
            return Err(std::io::Error::from_raw_os_error(libc_eio()));
        }
        self.memory.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.memory.write(offset, data)
    }
}

/// `EIO` on Linux.
fn libc_eio() -> i32 {
    5
}

#[tokio::test]
async fn a_failed_sync_stops_all_writes() {
    let failing = Arc::new(AtomicBool::new(false));
    let disk = FailingDisk {
        memory: InMemoryBackend::new(),
        failing: failing.clone(),
    };
    let store = EmbeddedStore::start(Disk::open_backend(disk).unwrap(), &EmbeddedOptions::default()).unwrap();
    store.txn(put("/r/a", "1")).await.unwrap();
    let before = store.revision().await.unwrap();
    failing.store(true, Ordering::Release);
    let first = store.txn(put("/r/a", "2")).await;
    assert!(
        matches!(first, Err(StoreError::Unknown { .. })),
        "it may be on the disk: {first:?}"
    );
    failing.store(false, Ordering::Release);
    let second = why(store.txn(put("/r/b", "1")).await.unwrap_err());
    assert!(second.contains("check the disk"), "{second}");
    assert_eq!(store.revision().await.unwrap(), before);
    assert_eq!(
        &store.get("/r/a").await.unwrap().0.unwrap().value[..],
        b"1",
        "nothing unsure is shown"
    );
}

#[tokio::test]
async fn a_full_queue_refuses_writes_and_forgets_them() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        queue_txns: 1,
        queue_deadline: Duration::from_millis(20),
        ..Default::default()
    };
    let store = EmbeddedStore::open(directory.path().join("store.redb"), options).unwrap();
    let permit = store.queue.clone().acquire_owned().await.unwrap();
    let refused = store.txn(put("/r/a", "1")).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    drop(permit);
    store.txn(put("/r/b", "1")).await.unwrap();
    assert_eq!(store.get("/r/a").await.unwrap().0, None);
}

#[tokio::test]
async fn a_write_that_waited_too_long_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        queue_deadline: Duration::ZERO,
        ..Default::default()
    };
    let store = EmbeddedStore::open(directory.path().join("store.redb"), options).unwrap();
    let refused = store.txn(put("/r/a", "1")).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert_eq!(store.get("/r/a").await.unwrap().0, None);
}

#[tokio::test]
async fn history_is_bounded_and_the_newest_state_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        history_revisions: 10,
        ..Default::default()
    };
    let store = EmbeddedStore::open(directory.path().join("store.redb"), options).unwrap();
    store.txn(put("/r/quiet", "1")).await.unwrap();
    let mut watch = store.watch("/r/", 0).await.unwrap();
    for number in 0..200 {
        store
            .txn(put(&format!("/r/{}", number % 3), &number.to_string()))
            .await
            .unwrap();
    }
    let deletion = Txn {
        compares: vec![],
        operations: vec![Operation::Delete { key: "/r/0".to_owned() }],
    };
    store.txn(deletion).await.unwrap();
    let revision = store.revision().await.unwrap();
    // The writer compacts after it has answered; a compaction of our own comes after that.
    store.compact(0).await.unwrap();
    assert!(store.index().versions() <= 14, "{} versions", store.index().versions());
    let oldest = futures::StreamExt::next(&mut watch).await;
    assert!(matches!(oldest, Some(WatchItem::Compacted { .. })), "{oldest:?}");
    let list = store
        .list(ListRequest {
            prefix: "/r/".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(list.items.len(), 3);
    assert_eq!(list.revision, revision);
    store.compact(revision).await.unwrap();
    assert_eq!(
        store.index().versions(),
        3,
        "one version of each key, none of the deleted one"
    );
}

#[tokio::test]
async fn after_a_restart_only_the_newest_revision_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = open(&path).unwrap();
    store.txn(put("/r/a", "1")).await.unwrap();
    store.txn(put("/r/a", "2")).await.unwrap();
    let revision = store.revision().await.unwrap();
    drop(store);
    let store = open(&path).unwrap();
    let at = |revision| ListRequest {
        prefix: "/r/".to_owned(),
        revision,
        ..Default::default()
    };
    assert!(matches!(
        store.list(at(revision - 1)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert_eq!(store.list(at(revision)).await.unwrap().items.len(), 1);
    let compares = vec![Compare {
        key: "/r/a".to_owned(),
        mod_revision: revision,
    }];
    let outcome = store
        .txn(Txn {
            compares,
            ..put("/r/a", "3")
        })
        .await
        .unwrap();
    assert_eq!(outcome, TxnOutcome::Committed { revision: revision + 1 });
}
