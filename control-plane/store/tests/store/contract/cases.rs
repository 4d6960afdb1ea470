//! What one caller at a time sees.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skiff_store::{
    Change, Compare, DynStore, KeyValue, ListRequest, MAX_TXN_BYTES, Operation, StoreError, Txn, TxnOutcome, WatchItem,
};

pub(crate) fn put(key: &str, value: &str) -> Operation {
    Operation::Put {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

pub(crate) fn delete(key: &str) -> Operation {
    Operation::Delete { key: key.to_owned() }
}

pub(crate) fn when(key: &str, mod_revision: u64) -> Compare {
    Compare {
        key: key.to_owned(),
        mod_revision,
    }
}

pub(crate) fn key_value(key: &str, value: &str, mod_revision: u64) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        mod_revision,
    }
}

pub(crate) async fn commit(store: &DynStore, operations: Vec<Operation>) -> u64 {
    match store
        .txn(Txn {
            compares: vec![],
            operations,
        })
        .await
        .expect("the store answers")
    {
        TxnOutcome::Committed { revision } => revision,
        failed => panic!("without compares nothing fails: {failed:?}"),
    }
}

pub(crate) async fn attempt(store: &DynStore, compares: Vec<Compare>, operations: Vec<Operation>) -> TxnOutcome {
    store
        .txn(Txn { compares, operations })
        .await
        .expect("the store answers")
}

fn below(prefix: &str) -> ListRequest {
    ListRequest {
        prefix: prefix.to_owned(),
        ..Default::default()
    }
}

async fn keys(store: &DynStore, request: ListRequest) -> Vec<String> {
    store
        .list(request)
        .await
        .expect("lists")
        .items
        .into_iter()
        .map(|item| item.key)
        .collect()
}

/// The next `count` revisions of a watch with their changes.
pub(crate) async fn changes(watch: &mut BoxStream<'static, WatchItem>, count: usize) -> Vec<(u64, Vec<Change>)> {
    let mut found = Vec::new();
    while found.len() < count {
        match watch.next().await.expect("the watch goes on") {
            WatchItem::Changes { revision, changes } => found.push((revision, changes)),
            WatchItem::Progress { .. } => {}
            WatchItem::Compacted { oldest } => panic!("compacted up to {oldest}"),
        }
    }
    found
}

pub(crate) async fn a_key_is_created_once(store: DynStore) {
    let before = store.revision().await.expect("answers");
    assert!(before > 0, "revision 0 means none");
    let first = attempt(&store, vec![when("/r/a", 0)], vec![put("/r/a", "1")]).await;
    assert_eq!(first, TxnOutcome::Committed { revision: before + 1 });
    let second = attempt(&store, vec![when("/r/a", 0)], vec![put("/r/a", "2")]).await;
    let current = vec![Some(key_value("/r/a", "1", before + 1))];
    assert_eq!(
        second,
        TxnOutcome::Failed {
            current,
            revision: before + 1
        }
    );
    assert_eq!(
        store.get("/r/a").await.expect("gets"),
        (Some(key_value("/r/a", "1", before + 1)), before + 1)
    );
    assert_eq!(store.get("/r/b").await.expect("gets"), (None, before + 1));
}

pub(crate) async fn an_update_needs_the_last_revision(store: DynStore) {
    let first = commit(&store, vec![put("/r/a", "1")]).await;
    let second = attempt(&store, vec![when("/r/a", first)], vec![put("/r/a", "2")]).await;
    assert_eq!(second, TxnOutcome::Committed { revision: first + 1 });
    let stale = attempt(&store, vec![when("/r/a", first)], vec![delete("/r/a")]).await;
    let current = vec![Some(key_value("/r/a", "2", first + 1))];
    assert_eq!(
        stale,
        TxnOutcome::Failed {
            current,
            revision: first + 1
        }
    );
    let missing = attempt(
        &store,
        vec![when("/r/b", first), when("/r/a", first + 1)],
        vec![put("/r/b", "x")],
    )
    .await;
    let current = vec![None, Some(key_value("/r/a", "2", first + 1))];
    assert_eq!(
        missing,
        TxnOutcome::Failed {
            current,
            revision: first + 1
        }
    );
}

pub(crate) async fn a_deleted_key_can_be_created_again(store: DynStore) {
    let created = commit(&store, vec![put("/r/a", "1")]).await;
    let deleted = attempt(&store, vec![when("/r/a", created)], vec![delete("/r/a")]).await;
    assert_eq!(deleted, TxnOutcome::Committed { revision: created + 1 });
    assert_eq!(store.get("/r/a").await.expect("gets"), (None, created + 1));
    assert!(keys(&store, below("/r/")).await.is_empty());
    let again = attempt(&store, vec![when("/r/a", 0)], vec![put("/r/a", "2")]).await;
    assert_eq!(again, TxnOutcome::Committed { revision: created + 2 });
    assert_eq!(
        store.get("/r/a").await.expect("gets").0,
        Some(key_value("/r/a", "2", created + 2))
    );
    let gone = ListRequest {
        revision: created + 1,
        ..below("/r/")
    };
    assert!(keys(&store, gone).await.is_empty(), "between the two it is absent");
}

pub(crate) async fn deleting_nothing_changes_nothing(store: DynStore) {
    let before = commit(&store, vec![put("/r/a", "1")]).await;
    let outcome = attempt(&store, vec![when("/r/b", 0)], vec![delete("/r/b")]).await;
    assert_eq!(outcome, TxnOutcome::Committed { revision: before });
    assert_eq!(store.revision().await.expect("answers"), before);
    let mut watch = store.watch("/r/", before).await.expect("watches");
    let after = commit(&store, vec![delete("/r/b"), put("/r/a", "2")]).await;
    assert_eq!(after, before + 1);
    let (revision, seen) = changes(&mut watch, 1).await.remove(0);
    assert_eq!((revision, seen.len()), (after, 1), "only the put is a change");
}

pub(crate) async fn a_failed_transaction_changes_nothing(store: DynStore) {
    let before = commit(&store, vec![put("/r/a", "1")]).await;
    let compares = vec![when("/r/a", before), when("/r/b", before)];
    let outcome = attempt(&store, compares, vec![put("/r/a", "2"), put("/r/b", "2")]).await;
    assert!(matches!(outcome, TxnOutcome::Failed { .. }));
    assert_eq!(store.revision().await.expect("answers"), before);
    assert_eq!(
        store.get("/r/a").await.expect("gets").0,
        Some(key_value("/r/a", "1", before))
    );
    assert_eq!(store.get("/r/b").await.expect("gets").0, None);
}

pub(crate) async fn all_keys_of_a_transaction_carry_one_revision(store: DynStore) {
    let before = commit(&store, vec![put("/skiff/ledger", "0"), put("/r/b", "0")]).await;
    let mut all = store.watch("/", before).await.expect("watches");
    let mut some = store.watch("/r/", before).await.expect("watches");
    let compares = vec![when("/skiff/ledger", before), when("/r/a", 0)];
    let operations = vec![put("/r/a", "1"), delete("/r/b"), put("/skiff/ledger", "1")];
    let outcome = attempt(&store, compares, operations).await;
    assert_eq!(outcome, TxnOutcome::Committed { revision: before + 1 });
    for key in ["/r/a", "/skiff/ledger"] {
        assert_eq!(
            store.get(key).await.expect("gets").0.expect("is there").mod_revision,
            before + 1
        );
    }
    let (revision, seen) = changes(&mut all, 1).await.remove(0);
    assert_eq!((revision, seen.len()), (before + 1, 3), "one batch holds them all");
    let (revision, seen) = changes(&mut some, 1).await.remove(0);
    assert_eq!((revision, seen.len()), (before + 1, 2), "only those below the prefix");
}

pub(crate) async fn a_transaction_over_the_limit_is_refused(store: DynStore) {
    let before = store.revision().await.expect("answers");
    let key = "/r/big";
    let value = Bytes::from(vec![b'x'; MAX_TXN_BYTES - key.len()]);
    let fits = Operation::Put {
        key: key.to_owned(),
        value,
    };
    assert_eq!(commit(&store, vec![fits.clone()]).await, before + 1);
    let over = Txn {
        compares: vec![when("/", 0)],
        operations: vec![fits],
    };
    match store.txn(over).await {
        Err(StoreError::TooLarge { size, limit }) => assert_eq!((size, limit), (MAX_TXN_BYTES + 1, MAX_TXN_BYTES)),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(store.revision().await.expect("answers"), before + 1);
}

pub(crate) async fn a_list_holds_exactly_the_prefix_in_key_order(store: DynStore) {
    for key in [
        "/r/pods/b",
        "/r/pods/a",
        "/r/podsx/a",
        "/r/pod",
        "/r/pods/a/b",
        "/r/pods0",
        "/q",
        "/r/pods/ü",
    ] {
        commit(&store, vec![put(key, "1")]).await;
    }
    let found = ["/r/pods/a", "/r/pods/a/b", "/r/pods/b", "/r/pods/ü"];
    assert_eq!(keys(&store, below("/r/pods/")).await, found);
    let after = |key: &str| ListRequest {
        start_after: Some(key.to_owned()),
        ..below("/r/pods/")
    };
    assert_eq!(keys(&store, after("/r/pods/a")).await, found[1..]);
    assert_eq!(keys(&store, after("/r/pods/aa")).await, found[2..]);
    assert_eq!(
        keys(&store, after("/a")).await,
        found,
        "a start before the prefix leaves nothing out"
    );
    assert!(keys(&store, after("/r/pods/ü")).await.is_empty());
    assert!(
        keys(&store, after("/z")).await.is_empty(),
        "a start after the prefix leaves nothing"
    );
    assert_eq!(store.list(below("/r/none/")).await.expect("lists").remaining, 0);
    assert!(keys(&store, below("")).await.len() >= 8);
}

pub(crate) async fn a_list_at_a_revision_shows_that_revision(store: DynStore) {
    let first = commit(&store, vec![put("/r/a", "1")]).await;
    let second = commit(&store, vec![put("/r/b", "1"), put("/r/a", "2")]).await;
    let third = commit(&store, vec![delete("/r/a")]).await;
    let at = |revision| ListRequest {
        revision,
        ..below("/r/")
    };
    let result = store.list(at(first)).await.expect("lists");
    assert_eq!(
        (result.items, result.revision),
        (vec![key_value("/r/a", "1", first)], first)
    );
    let result = store.list(at(second)).await.expect("lists");
    assert_eq!(
        result.items,
        vec![key_value("/r/a", "2", second), key_value("/r/b", "1", second)]
    );
    let result = store.list(at(third)).await.expect("lists");
    assert_eq!(result.items, vec![key_value("/r/b", "1", second)]);
    let result = store.list(at(0)).await.expect("lists");
    assert_eq!(result.revision, third, "0 is the newest");
    match store.list(at(third + 5)).await {
        Err(StoreError::FutureRevision { wanted, current }) => assert_eq!((wanted, current), (third + 5, third)),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub(crate) async fn pages_of_a_list_show_one_revision(store: DynStore) {
    let mut wanted = Vec::new();
    for number in 0..25 {
        let key = format!("/r/{number:02}");
        let revision = commit(&store, vec![put(&key, "1")]).await;
        wanted.push(key_value(&key, "1", revision));
    }
    let mut request = ListRequest {
        limit: 10,
        ..below("/r/")
    };
    let mut found = Vec::new();
    for remaining in [15, 5, 0] {
        let page = store.list(request.clone()).await.expect("lists");
        assert_eq!(page.remaining, remaining);
        found.extend(page.items);
        request.revision = page.revision;
        request.start_after = found.last().map(|item| item.key.clone());
        // Every page is taken while the list changes under it.
        commit(
            &store,
            vec![
                put("/r/245", "2"),
                put("/r/24", "2"),
                delete("/r/15"),
                put("/r/new", "1"),
            ],
        )
        .await;
        commit(&store, vec![delete("/r/new"), delete("/r/245")]).await;
    }
    assert_eq!(found, wanted);
}

pub(crate) async fn lists_below_a_compaction_are_refused(store: DynStore) {
    let first = commit(&store, vec![put("/r/a", "1"), put("/r/b", "1")]).await;
    let second = commit(&store, vec![put("/r/a", "2")]).await;
    let third = commit(&store, vec![delete("/r/b")]).await;
    let fourth = commit(&store, vec![put("/r/a", "4")]).await;
    store.compact(third).await.expect("compacts");
    store.compact(third).await.expect("compacting again is no error");
    store.compact(first).await.expect("nor is compacting less");
    let at = |revision| ListRequest {
        revision,
        ..below("/r/")
    };
    for revision in [first, second] {
        match store.list(at(revision)).await {
            Err(StoreError::Compacted { oldest }) => assert_eq!(oldest, third),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    let result = store
        .list(at(third))
        .await
        .expect("the compacted revision itself can be read");
    assert_eq!(result.items, vec![key_value("/r/a", "2", second)]);
    let result = store.list(at(fourth)).await.expect("lists");
    assert_eq!(result.items, vec![key_value("/r/a", "4", fourth)]);
    match store.compact(fourth + 10).await {
        Err(StoreError::FutureRevision { .. }) => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub(crate) async fn watches_below_a_compaction_end(store: DynStore) {
    let first = commit(&store, vec![put("/r/a", "1")]).await;
    let second = commit(&store, vec![put("/r/a", "2")]).await;
    let third = commit(&store, vec![put("/r/a", "3")]).await;
    store.compact(second).await.expect("compacts");
    for revision in [first - 1, first] {
        let mut watch = store.watch("/r/", revision).await.expect("watches");
        assert_eq!(watch.next().await, Some(WatchItem::Compacted { oldest: second }));
        assert_eq!(watch.next().await, None);
    }
    let mut watch = store.watch("/r/", second).await.expect("watches");
    assert_eq!(changes(&mut watch, 1).await[0].0, third);
}

pub(crate) async fn a_deletion_at_the_compaction_is_not_lost(store: DynStore) {
    let created = commit(&store, vec![put("/r/a", "1")]).await;
    let deleted = commit(&store, vec![delete("/r/a")]).await;
    commit(&store, vec![put("/r/b", "1")]).await;
    store.compact(deleted).await.expect("compacts");
    let mut watch = store.watch("/r/", created).await.expect("watches");
    let first = watch.next().await.expect("an item");
    assert_eq!(
        first,
        WatchItem::Compacted { oldest: deleted },
        "better no watch than one without the deletion"
    );
}

pub(crate) async fn compaction_spares_a_watch_that_misses_nothing(store: DynStore) {
    let start = commit(&store, vec![put("/r/a", "1")]).await;
    let mut watch = store.watch("/r/", start).await.expect("watches");
    let mut last = start;
    for _ in 0..5 {
        last = commit(&store, vec![put("/other/a", "1")]).await;
    }
    // The other watch has seen all of it, so the store has nothing left to deliver.
    let mut other = store.watch("/other/", start).await.expect("watches");
    changes(&mut other, 5).await;
    assert!(futures::poll!(watch.next()).is_pending(), "nothing happened below /r/");
    store.compact(last).await.expect("compacts");
    let next = commit(&store, vec![put("/r/a", "2")]).await;
    assert_eq!(changes(&mut watch, 1).await[0].0, next);
}

pub(crate) async fn a_watch_yields_the_past_then_the_present(store: DynStore) {
    let start = store.revision().await.expect("answers");
    let mut wanted = Vec::new();
    for number in 0..5 {
        wanted.push(commit(&store, vec![put("/r/a", &number.to_string())]).await);
        commit(&store, vec![put("/other", "1")]).await;
    }
    let mut whole = store.watch("/r/", start).await.expect("watches");
    let mut part = store.watch("/r/", wanted[2]).await.expect("watches");
    for number in 5..8 {
        commit(&store, vec![put("/other", "1")]).await;
        wanted.push(commit(&store, vec![put("/r/a", &number.to_string())]).await);
    }
    let revisions =
        |found: Vec<(u64, Vec<Change>)>| found.into_iter().map(|(revision, _)| revision).collect::<Vec<_>>();
    assert_eq!(revisions(changes(&mut whole, 8).await), wanted);
    assert_eq!(revisions(changes(&mut part, 5).await), wanted[3..]);
}

pub(crate) async fn a_watch_shows_what_was_there_before(store: DynStore) {
    let start = store.revision().await.expect("answers");
    let mut watch = store.watch("/r/", start).await.expect("watches");
    let created = commit(&store, vec![put("/r/a", "1")]).await;
    let updated = commit(&store, vec![put("/r/a", "2")]).await;
    let deleted = commit(&store, vec![delete("/r/a")]).await;
    let seen: Vec<_> = changes(&mut watch, 3)
        .await
        .into_iter()
        .flat_map(|(_, changes)| changes)
        .collect();
    let (one, two) = (key_value("/r/a", "1", created), key_value("/r/a", "2", updated));
    assert_eq!(
        seen,
        [
            Change::Put {
                current: one.clone(),
                previous: None
            },
            Change::Put {
                current: two.clone(),
                previous: Some(one)
            },
            Change::Delete {
                key: "/r/a".to_owned(),
                revision: deleted,
                previous: Some(two)
            },
        ]
    );
}

pub(crate) async fn a_watch_may_start_in_the_future(store: DynStore) {
    let now = commit(&store, vec![put("/r/a", "0")]).await;
    let mut watch = store.watch("/r/", now + 2).await.expect("watches");
    for number in 1..=4 {
        commit(&store, vec![put("/r/a", &number.to_string())]).await;
    }
    let seen = changes(&mut watch, 2).await;
    assert_eq!(
        seen.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(),
        [now + 3, now + 4]
    );
}

pub(crate) async fn an_idle_watch_tells_its_progress(store: DynStore) {
    let start = commit(&store, vec![put("/r/a", "0")]).await;
    let mut watch = store.watch("/r/", start).await.expect("watches");
    let last = commit(&store, vec![put("/other/a", "1")]).await;
    store.request_progress();
    let mut told = start;
    while told < last {
        match watch.next().await.expect("the watch goes on") {
            WatchItem::Progress { revision } => {
                assert!(revision > told, "progress only goes forward");
                told = revision;
            }
            other => panic!("nothing happened below /r/, got {other:?}"),
        }
    }
    let next = commit(&store, vec![put("/r/a", "1")]).await;
    assert_eq!(changes(&mut watch, 1).await[0].0, next);
}
