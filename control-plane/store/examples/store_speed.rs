//! Creates per second of the embedded store at a given concurrency, beside redb itself in the same run: with the same
//! number of writes in each commit, and with one. Prints one line of JSON per measurement.
//!
//! `cargo run --release -p skiff-store --example store_speed -- [DIRECTORY] [SECONDS] [CONCURRENCY] [VALUE_BYTES]`

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, TableDefinition};
use skiff_store::{Compare, EmbeddedOptions, EmbeddedStore, Operation, Store, Txn, TxnOutcome};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");

fn report(what: &str, writes: u64, elapsed: Duration) {
    let rate = writes as f64 / elapsed.as_secs_f64();
    println!("{{\"measurement\":\"{what}\",\"writes\":{writes},\"perSecond\":{rate:.0}}}");
}

fn key(number: u64) -> String {
    format!("/registry/pods/default/pod-{number:08}")
}

/// Creates as an API server makes them: compare absent, put.
async fn embedded(
    directory: &Path,
    length: Duration,
    concurrency: u64,
    value: Bytes,
) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(EmbeddedStore::open(
        directory.join("embedded.redb"),
        EmbeddedOptions::default(),
    )?);
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks = (0..concurrency).map(|_| {
        let (store, next, value) = (store.clone(), next.clone(), value.clone());
        tokio::spawn(async move {
            while begun.elapsed() < length {
                let key = key(next.fetch_add(1, Ordering::Relaxed));
                let compares = vec![Compare {
                    key: key.clone(),
                    mod_revision: 0,
                }];
                let operations = vec![Operation::Put {
                    key,
                    value: value.clone(),
                }];
                let outcome = store.txn(Txn { compares, operations }).await.expect("the disk works");
                assert!(matches!(outcome, TxnOutcome::Committed { .. }), "keys are unique");
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task?;
    }
    report(
        &format!("embedded, {concurrency} at once"),
        next.load(Ordering::Relaxed),
        begun.elapsed(),
    );
    Ok(())
}

fn raw(file: &Path, length: Duration, batch: u64, value: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let database = Database::create(file)?;
    let begun = Instant::now();
    let mut writes = 0;
    while begun.elapsed() < length {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for _ in 0..batch {
                table.insert(key(writes).as_str(), value)?;
                writes += 1;
            }
        }
        transaction.commit()?;
    }
    report(&format!("redb, {batch} in a commit"), writes, begun.elapsed());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |argument| argument.parse());
    let length = Duration::from_secs(number(3)?);
    let concurrency = number(64)?;
    let value = Bytes::from(vec![b'x'; usize::try_from(number(1500)?)?]);
    let directory = tempfile::tempdir_in(base)?;
    embedded(directory.path(), length, concurrency, value.clone()).await?;
    raw(&directory.path().join("batched.redb"), length, concurrency, &value)?;
    raw(&directory.path().join("single.redb"), length, 1, &value)?;
    Ok(())
}
