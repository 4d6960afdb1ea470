//! The cache over the embedded store.

mod restart;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;

use super::*;
use crate::{EmbeddedOptions, EmbeddedStore, Operation, Store, Txn, TxnOutcome};

const PREFIX: &str = "/registry/pods/";
/// Nothing here takes this long: a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(30);

struct Fixture {
    store: DynStore,
    _directory: tempfile::TempDir,
}

fn decorate(value: &Bytes, revision: u64) -> Bytes {
    Bytes::from(format!("{}@{revision}", std::str::from_utf8(value).unwrap()))
}

fn extract() -> Extract {
    Arc::new(|served| {
        let text = String::from_utf8_lossy(served);
        let (value, _) = text.rsplit_once('@').expect("decorated");
        Attributes {
            labels: BTreeMap::from([("value".to_owned(), value.to_owned())]),
            fields: vec![("metadata.size", value.len().to_string())],
        }
    })
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.redb"), EmbeddedOptions::default()).unwrap();
        Self {
            store: Arc::new(store),
            _directory: directory,
        }
    }

    async fn cache(&self) -> Arc<Cache> {
        self.cache_with(CacheOptions::default()).await
    }

    async fn cache_with(&self, options: CacheOptions) -> Arc<Cache> {
        let cache = Cache::start(self.store.clone(), PREFIX, extract(), decorate, options);
        cache.ready().await.unwrap();
        cache
    }

    async fn commit(&self, operations: Vec<Operation>) -> u64 {
        match self
            .store
            .txn(Txn {
                compares: vec![],
                operations,
            })
            .await
            .unwrap()
        {
            TxnOutcome::Committed { revision } => revision,
            failed => panic!("{failed:?}"),
        }
    }

    async fn put(&self, name: &str, value: &str) -> u64 {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.commit(vec![Operation::Put {
            key: format!("{PREFIX}{name}"),
            value,
        }])
        .await
    }

    async fn delete(&self, name: &str) -> u64 {
        self.commit(vec![Operation::Delete {
            key: format!("{PREFIX}{name}"),
        }])
        .await
    }
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .iter()
        .map(|object| format!("{}/{}@{}", object.namespace, object.name, object.revision))
        .collect()
}

async fn events(watcher: &mut Watcher, count: usize) -> Vec<Arc<CacheEvent>> {
    let mut found = Vec::new();
    while found.len() < count {
        let batch = tokio::time::timeout(PATIENCE, watcher.next())
            .await
            .expect("the watch hangs")
            .expect("goes on");
        assert!(!batch.events.is_empty());
        assert_eq!(batch.events.last().unwrap().revision, batch.revision);
        found.extend(batch.events);
    }
    found
}

async fn expired(watcher: &mut Watcher) -> Expired {
    loop {
        let next = tokio::time::timeout(PATIENCE, watcher.next())
            .await
            .expect("the watch hangs");
        if let Err(expired) = next {
            return expired;
        }
    }
}

#[tokio::test]
async fn an_object_is_served_as_it_was_written() {
    let fixture = Fixture::new();
    let first = fixture.put("ns/a", "one").await;
    let cache = fixture.cache().await;
    let object = cache.get("/registry/pods/ns/a").unwrap();
    assert_eq!((&*object.namespace, &*object.name, object.revision), ("ns", "a", first));
    assert_eq!(object.bytes, format!("one@{first}"));
    assert_eq!(object.labels["value"], "one");
    assert_eq!(object.fields, [("metadata.size", "3".to_owned())]);
    assert!(cache.get("/registry/pods/ns/b").is_none());
    let second = fixture.put("cluster-scoped", "x").await;
    assert!(cache.observe(second).await);
    let object = cache.get("/registry/pods/cluster-scoped").unwrap();
    assert_eq!((&*object.namespace, &*object.name), ("", "cluster-scoped"));
}

#[tokio::test]
async fn a_namespace_is_a_part_of_the_list() {
    let fixture = Fixture::new();
    let mut at = Vec::new();
    for name in ["a/x", "ab/x", "a/y", "b/x", "a-b/x"] {
        at.push(fixture.put(name, "1").await);
    }
    let cache = fixture.cache().await;
    assert_eq!(
        names(&cache.list(Some("a"))),
        [format!("a/x@{}", at[0]), format!("a/y@{}", at[2])]
    );
    assert_eq!(cache.list(Some("a")).len(), 2);
    assert_eq!(cache.list(None).len(), 5);
    assert!(cache.list(Some("c")).is_empty());
    let snapshot = cache.list(Some("a"));
    let rest: Vec<_> = snapshot
        .iter_after("/registry/pods/a/x")
        .map(|object| object.name.clone())
        .collect();
    assert_eq!(rest, ["y"]);
}

#[tokio::test]
async fn a_snapshot_does_not_change() {
    let fixture = Fixture::new();
    let first = fixture.put("ns/a", "1").await;
    let cache = fixture.cache().await;
    let snapshot = cache.list(None);
    fixture.put("ns/b", "1").await;
    let last = fixture.delete("ns/a").await;
    assert!(cache.observe(last).await);
    assert_eq!(names(&snapshot), [format!("ns/a@{first}")]);
    assert_eq!(cache.list(None).len(), 1);
    assert!(cache.list(None).revision >= last);
}

#[tokio::test]
async fn a_fresh_read_sees_every_acknowledged_write_even_of_other_resources() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    for number in 0..50 {
        let wrote = fixture.put("ns/a", &number.to_string()).await;
        assert!(cache.fresh().await.unwrap() >= wrote);
        assert_eq!(cache.get("/registry/pods/ns/a").unwrap().revision, wrote);
        let operation = Operation::Put {
            key: "/registry/nodes/a".to_owned(),
            value: Bytes::new(),
        };
        let other = fixture.commit(vec![operation]).await;
        assert!(cache.fresh().await.unwrap() >= other);
    }
}

#[tokio::test]
async fn a_revision_of_the_future_is_not_reached() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    let now = cache.fresh().await.unwrap();
    match cache.wait_for(now + 10, Duration::from_millis(10)).await {
        Err(error @ CacheError::Behind { .. }) => {
            assert_eq!(
                error.to_string(),
                format!("Too large resource version: {}, current: {now}", now + 10)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_watch_from_now_starts_with_the_state() {
    let fixture = Fixture::new();
    let created = fixture.put("ns/a", "1").await;
    let cache = fixture.cache().await;
    let mut watcher = cache.watch(None).unwrap();
    assert_eq!(names(watcher.initial.as_ref().unwrap()), [format!("ns/a@{created}")]);
    assert!(watcher.try_next().unwrap().is_none());
    let updated = fixture.put("ns/a", "2").await;
    let deleted = fixture.delete("ns/a").await;
    let recreated = fixture.put("ns/a", "3").await;
    let seen = events(&mut watcher, 3).await;
    let kinds: Vec<_> = seen.iter().map(|event| (event.kind, event.revision)).collect();
    assert_eq!(
        kinds,
        [
            (EventKind::Modified, updated),
            (EventKind::Deleted, deleted),
            (EventKind::Added, recreated)
        ]
    );
    assert_eq!(seen[0].previous.as_ref().unwrap().revision, created);
    assert_eq!(
        seen[1].object.bytes,
        format!("2@{deleted}"),
        "the last state, at the revision of the deletion"
    );
    assert_eq!(seen[1].object.labels["value"], "2");
    assert_eq!(
        seen[1].frame(),
        format!("{{\"type\":\"DELETED\",\"object\":2@{deleted}}}\n")
    );
    assert_eq!(seen[1].frame().as_ptr(), seen[1].frame().as_ptr(), "made once");
    assert!(seen[2].previous.is_none());
    assert!(watcher.progress() >= recreated);
}

#[tokio::test]
async fn a_watch_resumes_where_another_stopped() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    let mut revisions = Vec::new();
    for number in 0..10 {
        revisions.push(fixture.put(&format!("ns/{}", number % 3), &number.to_string()).await);
    }
    assert!(cache.observe(*revisions.last().unwrap()).await);
    for (done, from) in revisions.iter().enumerate() {
        let mut watcher = cache.watch(Some(*from)).unwrap();
        assert!(watcher.initial.is_none());
        let rest = revisions.len() - done - 1;
        let seen: Vec<_> = events(&mut watcher, rest)
            .await
            .iter()
            .map(|event| event.revision)
            .collect();
        assert_eq!(seen, revisions[done + 1..]);
    }
    let mut future = cache.watch(Some(revisions[9] + 1)).unwrap();
    fixture.put("ns/skipped", "1").await;
    let wanted = fixture.put("ns/seen", "1").await;
    assert_eq!(events(&mut future, 1).await[0].revision, wanted);
}

#[tokio::test]
async fn a_watch_from_before_the_first_list_is_expired() {
    let fixture = Fixture::new();
    let old = fixture.put("ns/a", "1").await;
    let listed = fixture.put("ns/a", "2").await;
    let cache = fixture.cache().await;
    assert_eq!(cache.watch(Some(old)).err(), Some(Expired { oldest: listed }));
    assert!(cache.watch(Some(listed)).is_ok());
}

#[tokio::test]
async fn a_slow_watcher_ends_and_memory_stays_bounded() {
    let fixture = Fixture::new();
    let options = CacheOptions {
        history_events: 50,
        ..Default::default()
    };
    let cache = fixture.cache_with(options).await;
    let mut slow = cache.watch(None).unwrap();
    let mut last = 0;
    for number in 0..400 {
        last = fixture.put("ns/a", &number.to_string()).await;
    }
    assert!(cache.observe(last).await);
    let (held, _) = cache.inner.state().held();
    assert_eq!(held, 50);
    let end = expired(&mut slow).await;
    assert!(end.oldest > 0);
    let mut again = cache.watch(Some(end.oldest)).unwrap();
    assert!(
        again.try_next().unwrap().is_some(),
        "what the error names can be resumed from"
    );
}

#[tokio::test]
async fn history_is_bounded_by_bytes_too() {
    let fixture = Fixture::new();
    let options = CacheOptions {
        history_bytes: 100_000,
        ..Default::default()
    };
    let cache = fixture.cache_with(options).await;
    let mut last = 0;
    for _ in 0..40 {
        last = fixture.put("ns/a", &"x".repeat(10_000)).await;
    }
    assert!(cache.observe(last).await);
    let (events, bytes) = cache.inner.state().held();
    assert!(bytes <= 100_000 && events < 10, "{events} events, {bytes} bytes");
}

#[tokio::test]
async fn a_list_at_a_revision_is_exact_from_history_and_from_the_store() {
    let fixture = Fixture::new();
    let options = CacheOptions {
        history_events: 3,
        ..Default::default()
    };
    let cache = fixture.cache_with(options).await;
    let mut revisions = Vec::new();
    let mut wanted = Vec::new();
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    for (name, put) in [
        ("a", true),
        ("b", true),
        ("a", true),
        ("a", false),
        ("c", true),
        ("b", false),
        ("a", true),
    ] {
        let revision = if put {
            fixture.put(&format!("ns/{name}"), "1").await
        } else {
            fixture.delete(&format!("ns/{name}")).await
        };
        if put {
            model.insert(name.to_owned(), revision);
        } else {
            model.remove(name);
        }
        revisions.push(revision);
        wanted.push(
            model
                .iter()
                .map(|(name, revision)| format!("ns/{name}@{revision}"))
                .collect::<Vec<_>>(),
        );
    }
    assert!(cache.observe(*revisions.last().unwrap()).await);
    for (revision, wanted) in revisions.iter().zip(&wanted) {
        let snapshot = cache.list_at(*revision, Some("ns")).await.unwrap();
        assert_eq!((snapshot.revision, &names(&snapshot)), (*revision, wanted));
        assert_eq!(cache.list_at(*revision, None).await.unwrap().len(), wanted.len());
    }
    fixture.store.compact(revisions[2]).await.unwrap();
    let refused = cache.list_at(revisions[1], None).await;
    assert!(matches!(refused, Err(CacheError::Store(StoreError::Compacted { .. }))));
}

#[tokio::test]
async fn a_watcher_of_some_is_handed_those_and_passes_over_the_others() {
    let fixture = Fixture::new();
    let options = CacheOptions {
        history_events: 300,
        ..Default::default()
    };
    let cache = fixture.cache_with(options).await;
    let mut namespace = cache.watch_for(Interest::Namespace("a".to_owned()), None).unwrap();
    let mut field = cache
        .watch_for(Interest::Field("metadata.size", "2".to_owned()), None)
        .unwrap();
    fixture.put("a/x", "1").await;
    fixture.put("b/x", "1").await;
    let came = fixture.put("b/x", "22").await;
    let left = fixture.put("b/x", "333").await;
    let last = fixture.put("a/y", "1").await;
    let seen = events(&mut namespace, 2).await;
    assert_eq!(
        seen.iter().map(|event| &*event.object.name).collect::<Vec<_>>(),
        ["x", "y"]
    );
    let seen = events(&mut field, 2).await;
    assert_eq!(
        seen.iter().map(|event| event.revision).collect::<Vec<_>>(),
        [came, left],
        "leaving is of interest too"
    );
    assert!(field.try_next().unwrap().is_none());
    assert!(field.progress() >= last);
    // Many others, which it passes over because it looks now and then.
    for number in 0..600 {
        let revision = fixture.put("b/y", &"x".repeat(5 + number % 3)).await;
        assert!(cache.observe(revision).await);
        assert!(namespace.try_next().unwrap().is_none());
        assert!(namespace.progress() >= revision);
    }
    let wanted = fixture.put("a/x", "2").await;
    assert_eq!(events(&mut namespace, 1).await[0].revision, wanted);
}

#[tokio::test]
async fn watchers_end_with_their_cache() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    let mut watcher = cache.watch(None).unwrap();
    drop(cache);
    expired(&mut watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_see_the_same_changes_while_lists_are_taken() {
    const WATCHERS: usize = 200;
    const WRITES: usize = 100;
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    let watching: Vec<_> = (0..WATCHERS)
        .map(|_| {
            let mut watcher = cache.watch(None).unwrap();
            tokio::spawn(async move {
                let seen = events(&mut watcher, WRITES).await;
                seen.iter().map(|event| event.revision).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut wrote = Vec::new();
    for number in 0..WRITES {
        wrote.push(fixture.put(&format!("ns/{}", number % 10), &number.to_string()).await);
        let revision = cache.fresh().await.unwrap();
        let snapshot = cache.list(None);
        assert!(snapshot.revision >= revision);
        assert_eq!(
            snapshot.iter().map(|object| object.revision).max(),
            wrote.last().copied()
        );
    }
    for seen in join_all(watching).await {
        assert_eq!(seen.unwrap(), wrote);
    }
}
