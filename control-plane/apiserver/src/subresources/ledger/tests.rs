//! Bindings and ledgers over a real store.

use std::sync::Arc;

use expect_test::expect;
use skiff_store::embedded::{EmbeddedOptions, EmbeddedStore};
use skiff_store::{DynStore, ListRequest, Operation, Txn};

use super::*;
use crate::kinds;
use crate::kinds::testing::object;
use crate::registry::Put;
use crate::subresources::binding::bind;

struct Cluster {
    registry: Arc<Registry>,
    _dir: Arc<tempfile::TempDir>,
}

impl Cluster {
    /// One node `n` that can take so much, and pods `p0`, `p1`, … that ask for so much CPU each.
    async fn with(allocatable: &str, pods: usize, cpu: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path().join("store.redb"), EmbeddedOptions::default()).unwrap();
        let dir = Arc::new(dir);
        Self::on(Arc::new(store), dir, "/registry", allocatable, pods, cpu).await
    }
    async fn on(
        store: DynStore,
        dir: Arc<tempfile::TempDir>,
        prefix: &str,
        allocatable: &str,
        pods: usize,
        cpu: &str,
    ) -> Self {
        let registry = Registry::start(store, prefix, kinds::all()).await.unwrap();
        let cluster = Self { registry, _dir: dir };
        cluster
            .create(
                "nodes",
                &format!("{{metadata: {{name: n}}, status: {{allocatable: {allocatable}}}}}"),
            )
            .await;
        for i in 0..pods {
            let pod = format!(
                "{{metadata: {{name: p{i}, namespace: ns, uid: u{i}}}, spec: {{containers: [{{resources: {{requests: {{cpu: {cpu}}}}}}}]}}, status: {{phase: Pending}}}}"
            );
            cluster.create("pods", &pod).await;
        }
        cluster
    }
    async fn create(&self, resource: &str, yaml: &str) {
        let mut value = object(yaml);
        value["apiVersion"] = "v1".into();
        value["kind"] = if resource == "pods" { "Pod" } else { "Node" }.into();
        let resource = self.registry.served("", resource).unwrap();
        self.registry.create(resource, value).await.unwrap();
    }
    async fn bind(&self, name: &str) -> Result<(), String> {
        let binding = object("{target: {kind: Node, name: n}}");
        bind(&self.registry, "ns", name, &binding, false)
            .await
            .map_err(|status| format!("{} {}", status.code, status.message))
    }
    /// Writes the pod as a handler does, with its ledger effect; `None` deletes it.
    async fn write(&self, name: &str, phase: Option<&str>) {
        let pods = self.registry.served("", "pods").unwrap();
        let stored = self.registry.get(pods, "ns", name).await.unwrap();
        let new = phase.map(|phase| {
            let mut new = stored.value.clone();
            new["status"]["phase"] = phase.into();
            new
        });
        let change = pods
            .strategy
            .ledger_effect(Some(&stored.value), new.as_ref())
            .expect("an effect");
        let txn = effect(&self.registry, &change, new.as_ref());
        let put = self
            .registry
            .put(pods, &stored.key, stored.revision, new.as_ref(), txn)
            .await
            .unwrap();
        assert!(matches!(put, Put::Done { .. }));
    }
    async fn keys(&self) -> Vec<String> {
        let request = ListRequest {
            prefix: root(&self.registry),
            ..ListRequest::default()
        };
        self.registry
            .store()
            .list(request)
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|entry| entry.key)
            .collect()
    }
}

#[tokio::test]
async fn a_full_node_takes_no_more() {
    let cluster = Cluster::with("{cpu: '1', pods: '110'}", 3, "400m").await;
    cluster.bind("p0").await.unwrap();
    cluster.bind("p1").await.unwrap();
    let refusal = cluster.bind("p2").await.unwrap_err();
    expect![[r#"409 Operation cannot be fulfilled on pods/binding "p2": node "n" is full: insufficient cpu (requested 400m, used 800m, allocatable 1)"#]]
        .assert_eq(&refusal);
    let again = cluster.bind("p0").await.unwrap_err();
    expect![[r#"409 Operation cannot be fulfilled on pods/binding "p0": pod p0 is already assigned to node "n""#]]
        .assert_eq(&again);
}

#[tokio::test]
async fn the_number_of_pods_is_limited_too() {
    let cluster = Cluster::with("{cpu: '1', pods: '1'}", 2, "1m").await;
    cluster.bind("p0").await.unwrap();
    assert!(
        cluster
            .bind("p1")
            .await
            .unwrap_err()
            .contains("insufficient pods (1 bound, 1 allowed)")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_bind_at_once_the_node_is_never_overcommitted() {
    let cluster = Arc::new(Cluster::with("{cpu: '1', pods: '110'}", 20, "100m").await);
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.bind(&format!("p{i}")).await.is_ok() })
        })
        .collect();
    let mut bound = 0;
    for task in tasks {
        bound += usize::from(task.await.unwrap());
    }
    assert_eq!(bound, 10);
    assert_eq!(cluster.keys().await.len(), 11, "a head and an entry for each");
}

#[tokio::test]
async fn a_pod_that_ends_or_goes_frees_its_place() {
    let cluster = Cluster::with("{cpu: '1'}", 4, "500m").await;
    cluster.bind("p0").await.unwrap();
    cluster.bind("p1").await.unwrap();
    assert!(cluster.bind("p2").await.is_err());
    cluster.write("p0", Some("Succeeded")).await;
    cluster.bind("p2").await.unwrap();
    assert!(cluster.bind("p3").await.is_err());
    cluster.write("p1", None).await;
    cluster.bind("p3").await.unwrap();
    assert_eq!(
        cluster.keys().await,
        [
            "/skiff/ledgers/registry/n",
            "/skiff/ledgers/registry/n/u2",
            "/skiff/ledgers/registry/n/u3"
        ]
    );
}

#[tokio::test]
async fn lost_ledgers_are_rebuilt_from_the_pods() {
    let cluster = Cluster::with("{cpu: '1'}", 2, "600m").await;
    cluster.bind("p0").await.unwrap();
    let mut operations: Vec<Operation> = cluster
        .keys()
        .await
        .into_iter()
        .map(|key| Operation::Delete { key })
        .collect();
    operations.push(Operation::Put {
        key: entry_key(&cluster.registry, "n", "stranger"),
        value: bytes(&json!({})),
    });
    cluster
        .registry
        .store()
        .txn(Txn {
            compares: Vec::new(),
            operations,
        })
        .await
        .unwrap();
    rebuild(&cluster.registry).await.unwrap();
    assert_eq!(
        cluster.keys().await,
        ["/skiff/ledgers/registry/n", "/skiff/ledgers/registry/n/u0"]
    );
    assert!(cluster.bind("p1").await.is_err());
}

#[tokio::test]
async fn clusters_of_different_prefixes_on_one_store_share_no_ledger() {
    let first = Cluster::with("{cpu: '1'}", 2, "600m").await;
    let store = first.registry.store().clone();
    let mut others = Vec::new();
    for prefix in ["/other", "/registry/n"] {
        let cluster = Cluster::on(store.clone(), first._dir.clone(), prefix, "{cpu: '1'}", 2, "600m").await;
        cluster.bind("p0").await.unwrap();
        assert!(cluster.bind("p1").await.is_err());
        others.push(cluster);
    }
    first.bind("p0").await.unwrap();
    for cluster in others.iter().chain([&first]) {
        rebuild(&cluster.registry).await.unwrap();
    }
    for cluster in others.iter().chain([&first]) {
        assert_eq!(cluster.keys().await.len(), 2, "its own head and entry");
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_yet_has_no_limit() {
    let cluster = Cluster::with("{}", 1, "600m").await;
    cluster.bind("p0").await.unwrap();
    let pods = cluster.registry.served("", "pods").unwrap();
    let pod = cluster.registry.get(pods, "ns", "p0").await.unwrap().value;
    assert_eq!(pod["spec"]["nodeName"], "n");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
}
