//! What many callers at once see.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::future::join_all;
use skiff_store::{Change, DynStore, ListRequest, TxnOutcome, WatchItem};

use super::cases::{attempt, changes, commit, delete, put, when};

const TASKS: usize = 50;
const ROUNDS: usize = 10;

pub(crate) async fn racing_updates_lose_nothing(store: DynStore) {
    commit(&store, vec![put("/r/counter", "0")]).await;
    let tasks = (0..TASKS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let mut current = store.get("/r/counter").await.expect("gets").0.expect("is there");
                loop {
                    let number: usize = std::str::from_utf8(&current.value)
                        .expect("text")
                        .parse()
                        .expect("a number");
                    let compares = vec![when("/r/counter", current.mod_revision)];
                    let operations = vec![put("/r/counter", &(number + 1).to_string())];
                    match attempt(&store, compares, operations).await {
                        TxnOutcome::Committed { .. } => break,
                        TxnOutcome::Failed { current: found, .. } => {
                            let found = found.into_iter().next().flatten().expect("nobody deletes it");
                            assert_ne!(
                                found.mod_revision, current.mod_revision,
                                "a failure shows what made it fail"
                            );
                            current = found;
                        }
                    }
                }
            }
        })
    });
    join_all(tasks)
        .await
        .into_iter()
        .for_each(|task| task.expect("no task panics"));
    let value = store.get("/r/counter").await.expect("gets").0.expect("is there").value;
    assert_eq!(value, (TASKS * ROUNDS).to_string());
}

pub(crate) async fn racing_creates_have_one_winner(store: DynStore) {
    for round in 0..ROUNDS {
        let key = format!("/r/{round}");
        let tasks = (0..TASKS).map(|task| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { attempt(&store, vec![when(&key, 0)], vec![put(&key, &task.to_string())]).await })
        });
        let outcomes: Vec<_> = join_all(tasks)
            .await
            .into_iter()
            .map(|task| task.expect("no task panics"))
            .collect();
        let won: Vec<_> = outcomes
            .iter()
            .enumerate()
            .filter_map(|(task, outcome)| match outcome {
                TxnOutcome::Committed { revision } => Some((task.to_string(), *revision)),
                TxnOutcome::Failed { .. } => None,
            })
            .collect();
        assert_eq!(won.len(), 1);
        let stored = store.get(&key).await.expect("gets").0.expect("is there");
        assert_eq!((stored.value, stored.mod_revision), (won[0].0.clone().into(), won[0].1));
        for outcome in outcomes {
            if let TxnOutcome::Failed { current, .. } = outcome {
                assert_eq!(current[0].as_ref().map(|current| current.mod_revision), Some(won[0].1));
            }
        }
    }
}

/// Puts and deletes of `TASKS` tasks; the revisions of what was acknowledged.
async fn write_much(store: &DynStore) -> BTreeSet<u64> {
    let tasks = (0..TASKS).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = Vec::new();
            for round in 0..ROUNDS {
                // Neighbours share keys, so that there are changes of all kinds.
                let key = format!("/r/{}", task / 2 + round % 3);
                let operation = if (task + round) % 4 == 3 {
                    delete(&key)
                } else {
                    put(&key, &round.to_string())
                };
                done.push((
                    matches!(operation, skiff_store::Operation::Put { .. }),
                    commit(&store, vec![operation]).await,
                ));
                commit(&store, vec![put(&format!("/other/{task}"), "1")]).await;
            }
            done
        })
    });
    let done = join_all(tasks)
        .await
        .into_iter()
        .flat_map(|task| task.expect("no task panics"));
    // A deletion of nothing carries a revision of someone else.
    done.filter(|(put, _)| *put).map(|(_, revision)| revision).collect()
}

pub(crate) async fn a_watch_under_concurrent_writes_has_no_gap(store: DynStore) {
    let start = store.revision().await.expect("answers");
    let before = store.watch("/r/", start).await.expect("watches");
    let acknowledged = write_much(&store).await;
    let end = commit(&store, vec![put("/r/end", "1")]).await;
    let after = store.watch("/r/", start).await.expect("watches");
    let mut histories = Vec::new();
    for mut watch in [before, after] {
        let mut history: Vec<(u64, Vec<Change>)> = Vec::new();
        while history.last().is_none_or(|(revision, _)| *revision < end) {
            history.extend(changes(&mut watch, 1).await);
        }
        assert!(history.is_sorted_by(|a, b| a.0 < b.0), "each revision once, in order");
        let seen: BTreeSet<u64> = history.iter().map(|(revision, _)| *revision).collect();
        assert!(
            acknowledged.is_subset(&seen),
            "missing: {:?}",
            acknowledged.difference(&seen).collect::<Vec<_>>()
        );
        histories.push(history);
    }
    assert_eq!(histories[0], histories[1], "who comes late sees the same");
}

pub(crate) async fn lists_and_watches_fit_together(store: DynStore) {
    let writing = tokio::spawn({
        let store = store.clone();
        async move { write_much(&store).await }
    });
    let mut rounds = 0;
    while rounds < 10 || !writing.is_finished() {
        rounds += 1;
        let request = ListRequest {
            prefix: "/r/".to_owned(),
            ..Default::default()
        };
        let first = store.list(request.clone()).await.expect("lists");
        let second = store.list(request).await.expect("lists");
        assert!(second.revision >= first.revision, "a later list is not older");
        let mut state: BTreeMap<_, _> = first.items.into_iter().map(|item| (item.key.clone(), item)).collect();
        let mut watch = store.watch("/r/", first.revision).await.expect("watches");
        let last = second.items.iter().map(|item| item.mod_revision).max().unwrap_or(0);
        let mut at = first.revision;
        store.request_progress();
        // What the watch says, up to the second list, makes the second list of the first.
        while at < last.max(second.revision) {
            let (revision, changes) = match watch.next().await.expect("the watch goes on") {
                WatchItem::Changes { revision, changes } => (revision, changes),
                WatchItem::Progress { revision } => (revision, Vec::new()),
                WatchItem::Compacted { oldest } => panic!("compacted up to {oldest}"),
            };
            if revision > second.revision {
                break;
            }
            at = revision;
            for change in changes {
                match change {
                    Change::Put { current, .. } => state.insert(current.key.clone(), current),
                    Change::Delete { key, .. } => state.remove(&key),
                };
            }
        }
        assert_eq!(state.into_values().collect::<Vec<_>>(), second.items);
    }
    writing.await.expect("no task panics");
}
