//! What only the etcd store promises: reaching etcd, its history, several servers on one cluster.

#[path = "../../tests/support/etcd.rs"]
mod server;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::*;
use crate::watch_cache::{Attributes, Cache, CacheOptions};
use crate::{Change, Operation};
use compactor::{Round, turn};
use server::Etcd;

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

async fn connect(etcd: &Etcd) -> EtcdStore {
    EtcdStore::connect(EtcdOptions {
        endpoints: vec![etcd.endpoint()],
        tls: None,
    })
    .await
    .unwrap()
}

async fn commit(store: &EtcdStore, key: &str, value: &str) -> u64 {
    match store.txn(put(key, value)).await.unwrap() {
        TxnOutcome::Committed { revision } => revision,
        failed => panic!("{failed:?}"),
    }
}

#[tokio::test]
async fn an_address_where_nothing_listens_is_named() {
    let mut etcd = Etcd::start();
    etcd.kill();
    let endpoint = etcd.endpoint();
    let options = EtcdOptions {
        endpoints: vec![endpoint.clone()],
        tls: None,
    };
    let error = EtcdStore::connect(options).await.err().unwrap();
    assert!(error.is_retryable());
    let told =
        format!("the store is unavailable: etcd at {endpoint}: tcp connect error: Connection refused (os error 111)");
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn a_write_that_was_never_sent_surely_did_not_happen() {
    let mut etcd = Etcd::start();
    let store = connect(&etcd).await;
    let first = commit(&store, "/r/a", "1").await;
    etcd.kill();
    // The first request may find the connection just breaking; then nothing is sure. Those after it find none.
    let mut last = store.txn(put("/r/a", "2")).await.unwrap_err();
    for _ in 0..3 {
        last = store.txn(put("/r/a", "2")).await.unwrap_err();
    }
    assert!(last.is_retryable(), "{last}");
    assert!(store.get("/r/a").await.unwrap_err().is_retryable());
    etcd.run();
    let found = loop {
        match store.get("/r/a").await {
            Ok((found, _)) => break found.unwrap(),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    };
    assert_eq!((&found.value[..], found.mod_revision), (&b"1"[..], first));
}

#[tokio::test]
async fn a_watch_reaches_back_before_this_server_started() {
    let etcd = Etcd::start();
    let first = connect(&etcd).await;
    let start = first.revision().await.unwrap();
    let mut wanted = Vec::new();
    for number in 0..300 {
        commit(&first, "/other/a", "x").await;
        wanted.push(commit(&first, &format!("/r/{}", number % 7), &number.to_string()).await);
    }
    let second = connect(&etcd).await;
    let mut watch = second.watch("/r/", start).await.unwrap();
    for number in 300..320 {
        wanted.push(commit(&first, &format!("/r/{}", number % 7), &number.to_string()).await);
    }
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        match watch.next().await.unwrap() {
            WatchItem::Changes { revision, changes } => {
                let [Change::Put { current, previous }] = &changes[..] else {
                    panic!("{changes:?}")
                };
                assert_eq!(current.value, seen.len().to_string());
                assert_eq!(previous.is_some(), seen.len() >= 7);
                seen.push(revision);
            }
            WatchItem::Progress { .. } => {}
            WatchItem::Compacted { oldest } => panic!("compacted up to {oldest}"),
        }
    }
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_fresh_read_sees_the_writes_of_other_servers() {
    let etcd = Etcd::start();
    let writer = connect(&etcd).await;
    let reader: crate::DynStore = Arc::new(connect(&etcd).await);
    let extract = Arc::new(|_: &[u8]| Attributes {
        labels: BTreeMap::new(),
        fields: Vec::new(),
    });
    let cache = Cache::start(
        reader.clone(),
        "/r/",
        extract,
        |value, _| value.clone(),
        CacheOptions::default(),
    );
    cache.ready().await.unwrap();
    for number in 0..50 {
        commit(&writer, "/r/a", &number.to_string()).await;
        let elsewhere = commit(&writer, "/other/a", "x").await;
        assert!(cache.fresh().await.unwrap() >= elsewhere);
        assert_eq!(cache.get("/r/a").unwrap().bytes, number.to_string());
    }
}

#[tokio::test]
async fn concurrent_reads_of_the_revision_share_one_answer_but_never_an_old_one() {
    let etcd = Etcd::start();
    let store = Arc::new(connect(&etcd).await);
    const CALLERS: u64 = 200;
    let before = store.revision_read.lock().await.number;
    let calls = (0..CALLERS).map(|_| store.revision());
    futures::future::join_all(calls)
        .await
        .into_iter()
        .for_each(|answer| assert!(answer.is_ok()));
    let reads = store.revision_read.lock().await.number - before;
    assert!(reads <= 2, "{reads} reads for {CALLERS} callers");
    for _ in 0..50 {
        let (wrote, _) = tokio::join!(commit(&store, "/r/a", "x"), store.revision());
        assert!(store.revision().await.unwrap() >= wrote);
    }
}

#[tokio::test]
async fn of_several_servers_one_compacts_and_an_interval_stays() {
    let etcd = Etcd::start();
    let store = connect(&etcd).await;
    let (mut one, mut two) = (Round::default(), Round::default());
    one = turn(&store.client, one).await.unwrap();
    two = turn(&store.client, two).await.unwrap();
    let old = commit(&store, "/r/a", "1").await;
    let list = |revision| ListRequest {
        prefix: "/r/".to_owned(),
        revision,
        ..Default::default()
    };
    assert!(store.list(list(old)).await.is_ok(), "the first round compacts nothing");
    one = turn(&store.client, one).await.unwrap();
    two = turn(&store.client, two).await.unwrap();
    let kept = commit(&store, "/r/a", "2").await;
    assert!(
        store.list(list(old)).await.is_ok(),
        "the second compacts what was before the first"
    );
    // Whoever comes first does it.
    two = turn(&store.client, two).await.unwrap();
    one = turn(&store.client, one).await.unwrap();
    assert!(matches!(
        store.list(list(old - 1)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert!(store.list(list(kept)).await.is_ok());
    assert_eq!(one.version(), two.version(), "they agree on the round");
}

#[tokio::test]
async fn keys_of_others_do_no_harm() {
    let etcd = Etcd::start();
    let store = connect(&etcd).await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("/r/", start).await.unwrap();
    store
        .client
        .kv_client()
        .put([0xff, 0xfe], "no text", None)
        .await
        .unwrap();
    let wrote = commit(&store, "/r/a", "1").await;
    store.request_progress();
    let seen = loop {
        match watch.next().await.unwrap() {
            WatchItem::Changes { revision, .. } => break revision,
            WatchItem::Progress { .. } => {}
            WatchItem::Compacted { oldest } => panic!("compacted up to {oldest}"),
        }
    };
    assert_eq!(seen, wrote);
    assert_eq!(store.list(ListRequest::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |usages: Vec<ExtendedKeyUsagePurpose>| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        leaf.extended_key_usages = usages;
        (leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string()
    };
    // etcd's own gateway dials it with the server's certificate, so that one serves both ways.
    let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (server, server_key) = leaf(both);
    let (client, client_key) = leaf(vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let etcd = Etcd::start_with(
        "https",
        vec![
            "--client-cert-auth".into(),
            "--trusted-ca-file".into(),
            file("ca.pem", &ca_pem),
            "--cert-file".into(),
            file("server.pem", &server),
            "--key-file".into(),
            file("server.key", &server_key),
        ],
    );
    let options = |certificate: Option<(&str, &str)>| EtcdOptions {
        endpoints: vec![etcd.endpoint()],
        tls: Some(EtcdTls {
            ca: ca_pem.clone().into_bytes(),
            certificate: certificate.map(|(certificate, _)| certificate.as_bytes().to_vec()),
            key: certificate.map(|(_, key)| key.as_bytes().to_vec()),
        }),
    };
    let store = EtcdStore::connect(options(Some((&client, &client_key)))).await.unwrap();
    commit(&store, "/r/a", "1").await;
    assert!(
        EtcdStore::connect(options(None)).await.is_err(),
        "etcd asks for a certificate"
    );
}
