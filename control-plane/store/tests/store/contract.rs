//! One suite for every store. Each case of `cases` runs on the embedded store, on one that was closed and opened again,
//! and on a real etcd that the test starts.

mod cases;
mod concurrency;

use std::sync::Arc;

use bytes::Bytes;
use skiff_store::{DynStore, EmbeddedOptions, EmbeddedStore, EtcdOptions, EtcdStore, Operation, Store, Txn};

use crate::support::etcd::Etcd;

/// A store and what must live as long as it.
struct Fixture {
    store: DynStore,
    _directory: Option<tempfile::TempDir>,
    _etcd: Option<Etcd>,
}

fn open(directory: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(directory.path().join("store.redb"), EmbeddedOptions::default()).expect("opens")
}

async fn embedded() -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    Fixture {
        store: Arc::new(open(&directory)),
        _directory: Some(directory),
        _etcd: None,
    }
}

async fn reopened() -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(&directory);
    for number in 0..20 {
        let key = format!("/before/{}", number % 7);
        let operation = match number % 5 {
            4 => Operation::Delete { key },
            _ => Operation::Put {
                key,
                value: Bytes::from_static(b"before"),
            },
        };
        store
            .txn(Txn {
                compares: vec![],
                operations: vec![operation],
            })
            .await
            .expect("commits");
    }
    let revision = store.revision().await.expect("answers");
    drop(store);
    let store = open(&directory);
    assert_eq!(store.revision().await.expect("answers"), revision);
    Fixture {
        store: Arc::new(store),
        _directory: Some(directory),
        _etcd: None,
    }
}

async fn etcd() -> Fixture {
    let etcd = Etcd::start();
    let options = EtcdOptions {
        endpoints: vec![etcd.endpoint()],
        tls: None,
    };
    let store = EtcdStore::connect(options).await.expect("connects");
    Fixture {
        store: Arc::new(store),
        _directory: None,
        _etcd: Some(etcd),
    }
}

macro_rules! suite {
    ($($store:ident: $cases:tt)*) => { $(suite!(@one $store $cases);)* };
    (@one $store:ident [$($module:ident :: $case:ident),* $(,)?]) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = super::$store().await;
                crate::support::in_time(super::$module::$case(fixture.store.clone())).await;
            })*
        }
    };
    (for [$($store:ident),*] $cases:tt) => { $(suite!(@one $store $cases);)* };
}

suite!(for [embedded, reopened, etcd] [
    cases::a_key_is_created_once,
    cases::an_update_needs_the_last_revision,
    cases::a_deleted_key_can_be_created_again,
    cases::deleting_nothing_changes_nothing,
    cases::a_failed_transaction_changes_nothing,
    cases::all_keys_of_a_transaction_carry_one_revision,
    cases::a_transaction_over_the_limit_is_refused,
    cases::a_list_holds_exactly_the_prefix_in_key_order,
    cases::a_list_at_a_revision_shows_that_revision,
    cases::pages_of_a_list_show_one_revision,
    cases::lists_below_a_compaction_are_refused,
    cases::watches_below_a_compaction_end,
    cases::a_deletion_at_the_compaction_is_not_lost,
    cases::compaction_spares_a_watch_that_misses_nothing,
    cases::a_watch_yields_the_past_then_the_present,
    cases::a_watch_shows_what_was_there_before,
    cases::a_watch_may_start_in_the_future,
    cases::an_idle_watch_tells_its_progress,
    concurrency::racing_updates_lose_nothing,
    concurrency::racing_creates_have_one_winner,
    concurrency::a_watch_under_concurrent_writes_has_no_gap,
    concurrency::lists_and_watches_fit_together,
]);
