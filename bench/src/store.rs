//! The embedded store beside raw redb, our etcd store beside raw etcd: creates of 2 kB values that must be absent.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_client::{Compare, CompareOp, TxnOp};
use redb::TableDefinition;
use skiff_store::{EmbeddedOptions, EmbeddedStore, EtcdOptions, EtcdStore, Operation, Store, Txn, TxnOutcome};
use skiff_tests::Etcd;

use crate::stats::{Amount, Stats, closed_loop};
use crate::table::{Goal, Table};

/// How long each measurement takes.
const SPAN: Amount = Amount {
    operations: usize::MAX,
    time: Duration::from_millis(1500),
};
/// A pod as kubectl sends it.
const VALUE_BYTES: usize = 2000;
const CONCURRENT: usize = 64;

pub async fn run(table: &mut Table) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let raw_one = raw_redb(&directory.path().join("one.redb"), 1)?;
    let raw_batch = raw_redb(&directory.path().join("batch.redb"), CONCURRENT)?;
    let store = EmbeddedStore::open(directory.path().join("store.redb"), EmbeddedOptions::default())?;
    let one = creates(&store, "one", 1).await?;
    table.beside(
        "store: embedded creates, one at a time",
        one.per_second(),
        "/s",
        ("raw redb", raw_one),
        None,
    );
    let many = creates(&store, "many", CONCURRENT).await?;
    let reference = ("raw redb, 64 a commit", raw_batch);
    table.beside(
        "store: embedded creates, 64 at a time",
        many.per_second(),
        "/s",
        reference,
        None,
    );
    drop(store);

    let etcd = Etcd::start();
    let store = EtcdStore::connect(EtcdOptions {
        endpoints: vec![etcd.endpoint.clone()],
        tls: None,
    })
    .await?;
    let raw = raw_etcd(&etcd.endpoint, 1).await?;
    let ours = creates(&store, "one", 1).await?;
    table.beside(
        "store: etcd creates, one at a time",
        ours.per_second(),
        "/s",
        ("raw etcd", raw.per_second()),
        None,
    );
    let raw = raw_etcd(&etcd.endpoint, CONCURRENT).await?;
    let ours = creates(&store, "many", CONCURRENT).await?;
    table.beside(
        "store: etcd creates, 64 at a time",
        ours.per_second(),
        "/s",
        ("raw etcd", raw.per_second()),
        Some(Goal::RatioAtLeast(0.7)),
    );
    Ok(())
}

async fn creates(store: &dyn Store, run: &str, concurrency: usize) -> Result<Stats> {
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    closed_loop(concurrency, SPAN, async |number| {
        let key = format!("/registry/pods/{run}/pod-{number:07}");
        let txn = Txn {
            compares: vec![skiff_store::Compare {
                key: key.clone(),
                mod_revision: 0,
            }],
            operations: vec![Operation::Put {
                key,
                value: value.clone(),
            }],
        };
        match store.txn(txn).await? {
            TxnOutcome::Committed { .. } => Ok(()),
            TxnOutcome::Failed { .. } => bail!("a key was there already"),
        }
    })
    .await
}

/// Puts per second of redb alone, durable, this many in each commit.
fn raw_redb(path: &Path, batch: usize) -> Result<f64> {
    const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
    let database = redb::Database::create(path).context("make a redb file")?;
    let value = vec![b'x'; VALUE_BYTES];
    let started = Instant::now();
    let mut number = 0_usize;
    while started.elapsed() < SPAN.time {
        let transaction = database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for _ in 0..batch {
                objects.insert(format!("/registry/pods/raw/pod-{number:07}").as_str(), value.as_slice())?;
                number += 1;
            }
        }
        transaction.commit()?;
    }
    Ok(number as f64 / started.elapsed().as_secs_f64())
}

/// The same create straight to etcd.
pub async fn raw_etcd(endpoint: &str, concurrency: usize) -> Result<Stats> {
    let client = etcd_client::Client::connect([endpoint], None)
        .await
        .context("connect to etcd")?;
    let value = vec![b'x'; VALUE_BYTES];
    closed_loop(concurrency, SPAN, async |number| {
        let key = format!("/raw/{concurrency}/pod-{number:07}");
        let txn = etcd_client::Txn::new()
            .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.as_str(), value.as_slice(), None)]);
        let answer = client.kv_client().txn(txn).await?;
        if answer.succeeded() {
            Ok(())
        } else {
            bail!("a key was there already")
        }
    })
    .await
}
