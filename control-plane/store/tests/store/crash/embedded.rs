//! A child process writes to the embedded store and tells of every acknowledgement; this process kills it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use skiff_store::{Compare, EmbeddedOptions, EmbeddedStore, ListRequest, Operation, Store, Txn, TxnOutcome};

use super::Moments;

/// Tells the child where its store is. The child is this test binary again, with only `child` to run.
const CHILD: &str = "SKIFF_STORE_CRASH_CHILD";
const CHILD_TEST: &str = "crash::embedded::child";
const ROUNDS: usize = 25;
const WRITERS: usize = 8;
/// Acknowledgements before the kill, at most.
const MOST_WRITES: u64 = 400;
/// Before the number in an acknowledgement line: the test harness prints lines of its own.
const MARK: &str = "acknowledged ";

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, EmbeddedOptions::default()).expect("the file of a killed process opens")
}

/// Not a test of its own: what the killed process does. Each writer counts its own key up, and now and then deletes and
/// recreates another one, all in one transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = std::sync::Arc::new(open(Path::new(&path)));
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let (key, mirror) = (format!("/r/{writer}"), format!("/mirror/{writer}"));
            let mut current = store.get(&key).await.expect("gets").0;
            loop {
                let (number, mod_revision) = current
                    .as_ref()
                    .map_or((0, 0), |found| (number(&found.value), found.mod_revision));
                let next = number + 1;
                let value = Bytes::from(format!("{next} {}", "x".repeat(next as usize % 3000)));
                let mirrored = match next % 3 {
                    0 => Operation::Delete { key: mirror.clone() },
                    _ => Operation::Put {
                        key: mirror.clone(),
                        value: value.clone(),
                    },
                };
                let txn = Txn {
                    compares: vec![Compare {
                        key: key.clone(),
                        mod_revision,
                    }],
                    operations: vec![
                        Operation::Put {
                            key: key.clone(),
                            value,
                        },
                        mirrored,
                    ],
                };
                match store.txn(txn).await.expect("commits") {
                    TxnOutcome::Committed { revision } => {
                        // One write call per line: a kill cannot cut it.
                        let line = format!("\n{MARK}{writer} {next} {revision}\n");
                        std::io::stdout()
                            .lock()
                            .write_all(line.as_bytes())
                            .expect("the parent reads");
                    }
                    failed => panic!("nobody else writes this key: {failed:?}"),
                }
                current = store.get(&key).await.expect("gets").0;
            }
        })
    });
    futures::future::join_all(writers).await;
}

fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("text");
    text.split(' ').next().expect("a word").parse().expect("a number")
}

#[tokio::test]
async fn no_acknowledged_write_is_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.redb");
    let mut moments = Moments(0x5eed);
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut newest = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", CHILD_TEST, "--nocapture", "--test-threads", "1"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let writes = moments.next(MOST_WRITES);
        let mut lines = BufReader::new(child.stdout.take().expect("piped"))
            .lines()
            .map(|line| line.expect("text"));
        let mut told = 0;
        let mut note = |line: String| {
            let Some(told) = line.strip_prefix(MARK) else {
                return false;
            };
            let mut words = told.split(' ');
            let writer = words.next().expect("a writer");
            let [number, revision] = [(); 2].map(|()| words.next().expect("a word").parse().expect("a number"));
            acknowledged.insert(writer.to_owned(), number);
            newest = newest.max(revision);
            true
        };
        while told < writes {
            told += u64::from(note(lines.next().expect("the child writes until it is killed")));
        }
        child.kill().expect("kills");
        child.wait().expect("reaps");
        // What it acknowledged before it died is in the pipe.
        for line in lines {
            note(line);
        }
        let store = open(&path);
        let revision = store.revision().await.expect("answers");
        assert!(
            revision >= newest,
            "round {round}: revision {revision} after {newest} was acknowledged"
        );
        for (writer, number_told) in &acknowledged {
            let found = store
                .get(&format!("/r/{writer}"))
                .await
                .expect("gets")
                .0
                .expect("an acknowledged key");
            let number_found = number(&found.value);
            // One more may have been under way.
            let allowed = *number_told..=number_told + 1;
            assert!(
                allowed.contains(&number_found),
                "round {round}, writer {writer}: {number_found}, told {number_told}"
            );
            let mirror = store.get(&format!("/mirror/{writer}")).await.expect("gets").0;
            match number_found % 3 {
                0 => assert_eq!(mirror, None, "a transaction happens whole"),
                _ => assert_eq!(
                    mirror.map(|mirror| (mirror.value, mirror.mod_revision)),
                    Some((found.value, found.mod_revision))
                ),
            }
        }
        let all = store.list(ListRequest::default()).await.expect("lists");
        assert!(all.items.iter().all(|item| item.mod_revision <= revision));
    }
    assert_eq!(acknowledged.len(), WRITERS, "every writer got somewhere");
}
