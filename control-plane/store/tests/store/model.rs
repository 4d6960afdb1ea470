//! The embedded store against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use skiff_store::{
    Compare, EmbeddedOptions, EmbeddedStore, KeyValue, ListRequest, Operation, Store, StoreError, Txn, TxnOutcome,
};

type State = BTreeMap<String, (u64, Bytes)>;

struct Model {
    /// State by revision; the last is the newest.
    states: BTreeMap<u64, State>,
    floor: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Txn {
        compares: Vec<(u8, u64)>,
        operations: Vec<(u8, bool)>,
    },
    /// Revisions are counted back from the newest; one too many on purpose.
    List {
        prefix: u8,
        after: Option<u8>,
        limit: usize,
        back: u64,
    },
    Get(u8),
    Compact {
        back: u64,
    },
    Reopen,
}

fn key(number: u8) -> String {
    format!("/r/{}/{}", number % 3, number)
}

fn step() -> impl Strategy<Value = Step> {
    let keys = || 0_u8..12;
    let operations = prop::collection::btree_map(keys(), prop::bool::weighted(0.7), 1..4);
    prop_oneof![
        8 => (prop::collection::vec((keys(), 0_u64..4), 0..3), operations)
            .prop_map(|(compares, operations)| Step::Txn { compares, operations: operations.into_iter().collect() }),
        4 => (0_u8..4, prop::option::of(keys()), 0_usize..5, 0_u64..8)
            .prop_map(|(prefix, after, limit, back)| Step::List { prefix, after, limit, back }),
        2 => keys().prop_map(Step::Get),
        1 => (0_u64..8).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Reopen),
    ]
}

impl Model {
    fn newest(&self) -> (u64, &State) {
        let (revision, state) = self.states.last_key_value().expect("never empty");
        (*revision, state)
    }

    fn item(state: &State, key: &str) -> Option<KeyValue> {
        state.get(key).map(|(revision, value)| KeyValue {
            key: key.to_owned(),
            value: value.clone(),
            mod_revision: *revision,
        })
    }

    fn txn(&mut self, txn: &Txn) -> TxnOutcome {
        let (revision, state) = self.newest();
        let holds =
            |compare: &Compare| state.get(&compare.key).map_or(0, |(revision, _)| *revision) == compare.mod_revision;
        if !txn.compares.iter().all(holds) {
            let current = txn
                .compares
                .iter()
                .map(|compare| Self::item(state, &compare.key))
                .collect();
            return TxnOutcome::Failed { current, revision };
        }
        let mut next = state.clone();
        for operation in &txn.operations {
            match operation {
                Operation::Put { key, value } => {
                    next.insert(key.clone(), (revision + 1, value.clone()));
                }
                Operation::Delete { key } => {
                    next.remove(key);
                }
            }
        }
        if next == *state {
            return TxnOutcome::Committed { revision };
        }
        self.states.insert(revision + 1, next);
        TxnOutcome::Committed { revision: revision + 1 }
    }

    fn list(&self, request: &ListRequest) -> Result<(Vec<KeyValue>, u64, u64), String> {
        let (newest, _) = self.newest();
        let revision = if request.revision == 0 {
            newest
        } else {
            request.revision
        };
        if revision > newest {
            return Err(format!("future {newest}"));
        }
        if revision < self.floor {
            return Err(format!("compacted {}", self.floor));
        }
        let state = &self.states[&revision];
        let matching = state.keys().filter(|key| {
            key.starts_with(&request.prefix) && request.start_after.as_ref().is_none_or(|after| *key > after)
        });
        let mut items: Vec<_> = matching.filter_map(|key| Self::item(state, key)).collect();
        let all = items.len();
        if request.limit > 0 {
            items.truncate(request.limit);
        }
        let remaining = (all - items.len()) as u64;
        Ok((items, revision, remaining))
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.redb");
    let open = || EmbeddedStore::open(&path, EmbeddedOptions::default()).expect("opens");
    let mut store = open();
    let first = store.revision().await.expect("answers");
    let mut model = Model {
        states: BTreeMap::from([(first, State::new())]),
        floor: first,
    };
    for (number, step) in steps.into_iter().enumerate() {
        let (newest, state) = model.newest();
        match step {
            Step::Txn { compares, operations } => {
                let compares = compares.into_iter().map(|(number, kind)| {
                    let key = key(number);
                    let last = state.get(&key).map_or(0, |(revision, _)| *revision);
                    // Mostly the right revision, sometimes "absent", sometimes an old one.
                    let mod_revision = match kind {
                        0 => 0,
                        1 => newest.saturating_sub(1),
                        _ => last,
                    };
                    Compare { key, mod_revision }
                });
                let compares = compares.collect();
                let operations = operations.into_iter().map(|(operation, put)| match put {
                    true => Operation::Put {
                        key: key(operation),
                        value: Bytes::from(number.to_string()),
                    },
                    false => Operation::Delete { key: key(operation) },
                });
                let txn = Txn {
                    compares,
                    operations: operations.collect(),
                };
                let outcome = store.txn(txn.clone()).await.expect("answers");
                prop_assert_eq!(outcome, model.txn(&txn));
            }
            Step::List {
                prefix,
                after,
                limit,
                back,
            } => {
                let prefix = if prefix == 3 {
                    "/r/".to_owned()
                } else {
                    format!("/r/{prefix}/")
                };
                let revision = if back == 0 {
                    0
                } else {
                    (newest + 2).saturating_sub(back).max(1)
                };
                let request = ListRequest {
                    prefix,
                    start_after: after.map(key),
                    limit,
                    revision,
                };
                let found = match store.list(request.clone()).await {
                    Ok(result) => Ok((result.items, result.revision, result.remaining)),
                    Err(StoreError::FutureRevision { current, .. }) => Err(format!("future {current}")),
                    Err(StoreError::Compacted { oldest }) => Err(format!("compacted {oldest}")),
                    Err(error) => panic!("{error}"),
                };
                prop_assert_eq!(found, model.list(&request));
            }
            Step::Get(number) => {
                let found = store.get(&key(number)).await.expect("gets");
                prop_assert_eq!(found, (Model::item(state, &key(number)), newest));
            }
            Step::Compact { back } => {
                let revision = newest.saturating_sub(back);
                store.compact(revision).await.expect("compacts");
                model.floor = model.floor.max(revision);
            }
            Step::Reopen => {
                drop(store);
                store = open();
                model.floor = newest;
            }
        }
        prop_assert_eq!(store.revision().await.expect("answers"), model.newest().0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_embedded_store_is_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps))?;
    }
}
