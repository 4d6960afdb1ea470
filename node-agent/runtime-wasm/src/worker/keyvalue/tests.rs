//! Buckets as guests use them, over crashes, full quotas and names made up to reach others.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn file(path: &Path) -> File {
    let options = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path);
    options.expect("a file")
}

fn roomy() -> Quota {
    Quota::of(&ContainerSettings::default())
}

fn at(path: &Path) -> Arc<Buckets> {
    Arc::new(Buckets::new(Some(file(path))))
}

fn set(key: &str, value: &str) -> Change {
    Change::Set(key.to_owned(), value.as_bytes().to_vec())
}

async fn write(buckets: &Arc<Buckets>, changes: Vec<Change>) -> Result<i128, Refusal> {
    buckets.write("b", changes, roomy()).await
}

async fn value(buckets: &Arc<Buckets>, key: &str) -> Option<String> {
    let found = buckets.get("b", vec![key.to_owned()]).await.expect("read");
    found[0]
        .value
        .clone()
        .map(|bytes| String::from_utf8(bytes).expect("text"))
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.redb");
    let buckets = at(&path);
    write(&buckets, vec![set("k", "v"), set("gone", "x")])
        .await
        .expect("written");
    write(&buckets, vec![Change::Delete("gone".into())])
        .await
        .expect("written");
    // A crash is what the file looks like at this moment: nothing is closed.
    let copy = directory.path().join("b.redb");
    std::fs::copy(&path, &copy).expect("copied");
    let after = at(&copy);
    assert_eq!(value(&after, "k").await.as_deref(), Some("v"));
    assert_eq!(value(&after, "gone").await, None);
    assert_eq!(after.list("b", From::Skip(0)).await, Ok((vec!["k".to_owned()], false)));
}

#[tokio::test]
async fn a_second_worker_is_told_that_the_file_is_taken() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.redb");
    let first = at(&path);
    write(&first, vec![set("k", "v")]).await.expect("written");
    let second = at(&path);
    assert!(matches!(
        write(&second, vec![set("k", "w")]).await,
        Err(Refusal::Other(_))
    ));
    assert_eq!(value(&first, "k").await.as_deref(), Some("v"));
    assert_eq!(
        Arc::new(Buckets::new(None)).get("b", vec!["k".into()]).await,
        Err(Refusal::Denied)
    );
}

#[tokio::test]
async fn a_full_quota_refuses_growth_whole_and_lets_shrink() {
    let directory = tempfile::tempdir().expect("directory");
    let buckets = at(&directory.path().join("a.redb"));
    let quota = Quota { bytes: 100, keys: 3 };
    let put = async |changes| buckets.write("b", changes, quota).await;
    put(vec![set("one", &"x".repeat(40)), set("two", &"x".repeat(40))])
        .await
        .expect("fits");
    let full = put(vec![set("one", ""), set("three", &"x".repeat(80))]).await;
    assert!(
        matches!(&full, Err(Refusal::Other(why)) if why.contains("at most 100 bytes")),
        "{full:?}"
    );
    assert_eq!(
        value(&buckets, "one").await.map(|value| value.len()),
        Some(40),
        "all or nothing"
    );
    put(vec![set("one", "")]).await.expect("smaller");
    put(vec![set("three", "x")]).await.expect("fits now");
    let keys = put(vec![set("four", "")]).await;
    assert!(
        matches!(&keys, Err(Refusal::Other(why)) if why.contains("at most 3 keys")),
        "{keys:?}"
    );
    // Over a quota that shrank, what shrinks is let through.
    let tiny = Quota { bytes: 1, keys: 1 };
    buckets
        .write("b", vec![Change::Delete("two".into())], tiny)
        .await
        .expect("deleted");
    for (key, size) in [
        ("", 1),
        (&*"k".repeat(limits::KEY_BYTES_MAX + 1), 1),
        ("k", limits::VALUE_BYTES_MAX + 1),
    ] {
        assert!(put(vec![Change::Set(key.to_owned(), vec![0; size])]).await.is_err());
    }
}

#[tokio::test]
async fn numbers_stay_within_their_bounds() {
    let directory = tempfile::tempdir().expect("directory");
    let buckets = at(&directory.path().join("a.redb"));
    let add = async |key: &str, delta| {
        let (key, bounds) = (key.to_owned(), (-5, 5));
        write(&buckets, vec![Change::Add { key, delta, bounds }]).await
    };
    assert_eq!(add("n", 3).await, Ok(3));
    assert_eq!(add("n", -7).await, Ok(-4));
    assert!(add("n", -2).await.is_err());
    assert_eq!(value(&buckets, "n").await.as_deref(), Some("-4"));
    write(&buckets, vec![set("text", "ten")]).await.expect("written");
    assert!(add("text", 1).await.is_err());
}

#[tokio::test]
async fn of_swaps_that_saw_the_same_value_one_succeeds() {
    let directory = tempfile::tempdir().expect("directory");
    let buckets = at(&directory.path().join("a.redb"));
    for round in 0..20 {
        let seen = buckets.get("b", vec!["k".into()]).await.expect("read")[0].revision;
        let swap = |n: u32| {
            let buckets = buckets.clone();
            async move { write(&buckets, vec![Change::Swap("k".into(), vec![n as u8], seen)]).await }
        };
        let results = futures::future::join_all((0..8).map(swap)).await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {results:?}");
    }
    // The same value written again is another write.
    write(&buckets, vec![set("k", "same")]).await.expect("written");
    let seen = buckets.get("b", vec!["k".into()]).await.expect("read")[0].revision;
    write(&buckets, vec![set("k", "same")]).await.expect("written");
    let swap = write(&buckets, vec![Change::Swap("k".into(), vec![], seen)]).await;
    assert_eq!(swap, Err(Refusal::Changed));
}

#[tokio::test]
async fn pages_hold_every_key_once_in_order() {
    let directory = tempfile::tempdir().expect("directory");
    let buckets = at(&directory.path().join("a.redb"));
    let count = limits::KEYS_PER_PAGE * 2 + 1;
    let changes = (0..count).map(|n| set(&format!("{n:06}"), "")).collect();
    write(&buckets, changes).await.expect("written");
    buckets
        .write("c", vec![set("other", "")], roomy())
        .await
        .expect("written");
    let mut by_key = Vec::new();
    let mut from = From::Skip(0);
    loop {
        let (keys, more) = buckets.list("b", from).await.expect("listed");
        by_key.extend(keys);
        if !more {
            break;
        }
        from = From::After(by_key.last().expect("a page has keys").clone());
    }
    let mut by_place = Vec::new();
    while let (keys, true) = buckets
        .list("b", From::Skip(by_place.len() as u64))
        .await
        .expect("listed")
    {
        by_place.extend(keys);
    }
    assert_eq!((by_key.len(), by_place.len()), (count, count - 1));
    assert!(by_key.is_sorted() && by_place.is_sorted());
}

/// Names that try to get out of their bucket, their key or their directory.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c./\\\\\u{0}]{0,6}",
        Just("../../../etc/passwd".to_owned()),
        Just("..".to_owned()),
        Just("b\u{0}key".to_owned()),
        Just("/".to_owned()),
        ".{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A guest finds under a name what it wrote under that very name, whatever the names, and nothing but the file changes.
    #[test]
    fn names_reach_nothing_but_themselves(writes in prop::collection::vec((nasty(), nasty(), any::<u8>()), 1..20)) {
        let directory = tempfile::tempdir().expect("directory");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let buckets = at(&directory.path().join("mine.redb"));
            let other = at(&directory.path().join("other.redb"));
            other.write("default", vec![set("secret", "theirs")], roomy()).await.expect("written");
            let mut model: BTreeMap<(String, String), u8> = BTreeMap::new();
            for (name, key, byte) in writes {
                let Ok(name) = bucket(name) else { continue };
                let change = Change::Set(key.clone(), vec![byte]);
                if buckets.write(&name, vec![change], roomy()).await.is_ok() {
                    model.insert((name, key), byte);
                }
            }
            for ((name, key), byte) in &model {
                let found = buckets.get(name, vec![key.clone()]).await.expect("read");
                assert_eq!(found[0].value.as_deref(), Some(&[*byte][..]));
            }
            let mut names: Vec<&String> = model.keys().map(|(name, _)| name).collect();
            names.dedup();
            let mut keys = 0;
            for name in names {
                keys += buckets.list(name, From::Skip(0)).await.expect("listed").0.len();
            }
            assert_eq!(keys, model.len());
            assert_eq!(buckets.get("default", vec!["secret".into()]).await.expect("read")[0].value, None);
        });
        let mut files: Vec<_> = std::fs::read_dir(directory.path()).expect("listed").map(|f| f.expect("entry").file_name()).collect();
        files.sort();
        assert_eq!(files, ["mine.redb", "other.redb"]);
    }
}
