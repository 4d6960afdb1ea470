//! Which change wakes which key, as a table.

use expect_test::expect;
use serde::de::DeserializeOwned;

use super::*;
use crate::testing::FakeApi;

fn yaml<T: DeserializeOwned>(text: &str) -> Arc<T> {
    Arc::new(serde_saphyr::from_str(text).unwrap())
}

/// A cluster with a deployment, its set, a set that adopts, and two nodes, of which one is tainted.
fn cluster() -> Arc<Controllers> {
    let caches = Arc::new(Caches::default());
    let selector = "spec: {selector: {matchLabels: {app: web}}, template: {}}";
    caches
        .deployments
        .write()
        .insert(yaml(&format!("{{metadata: {{name: web, namespace: d}}, {selector}}}")));
    caches.replica_sets.write().insert(set("web-1", OWNED));
    caches.replica_sets.write().insert(yaml(
        "{metadata: {name: idle, namespace: d}, spec: {selector: {matchLabels: {app: other}}}}",
    ));
    caches.jobs.write().insert(job("uid: j"));
    caches.nodes.write().insert(yaml("{metadata: {name: n1}}"));
    caches.nodes.write().insert(yaml(TAINTED));
    let requests = FakeApi::default().requests();
    let recorder = Recorder::start(requests.clone(), "test".into());
    let config = ManagerConfig {
        pod_cidr: "10.42.0.0/16".to_owned(),
        ..ManagerConfig::new("test")
    };
    Controllers::new(&caches, &Executor::new(requests, recorder.clone()), &recorder, &config)
}

const OWNED: &str = "ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: w, controller: true}]";
const OF_SET: &str =
    "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: s, controller: true}]";
const OF_JOB: &str =
    "finalizers: [batch.kubernetes.io/job-tracking], ownerReferences: [{apiVersion: batch/v1, kind: Job, name: once";
const TAINTED: &str = "{metadata: {name: n2}, spec: {podCIDR: 10.42.1.0/24, taints: [{key: x, effect: NoExecute}]}}";

fn set(name: &str, meta: &str) -> Arc<ReplicaSet> {
    yaml(&format!(
        "{{metadata: {{name: {name}, namespace: d, labels: {{app: web}}, {meta}}}, spec: {{selector: {{matchLabels: {{app: web}}}}}}}}"
    ))
}

fn job(meta: &str) -> Arc<Job> {
    yaml(&format!(
        "{{metadata: {{name: once, namespace: d, {meta}}}, spec: {{selector: {{matchLabels: {{app: job}}}}, template: {{}}}}}}"
    ))
}

fn pod(meta: &str, node: &str) -> Arc<Pod> {
    yaml(&format!(
        "{{metadata: {{name: p, namespace: d, {meta}}}, spec: {{containers: [], nodeName: '{node}'}}}}"
    ))
}

/// All that was woken since the last time.
fn woken(controllers: &Controllers) -> String {
    let ipam = controllers.node_ipam.as_ref().unwrap();
    let queues = [
        ("deployment", &controllers.deployments.queue),
        ("set", &controllers.replica_sets.queue),
        ("job", &controllers.jobs.queue),
        ("orphan", &controllers.job_orphans.queue),
        ("cron", &controllers.cron_jobs.queue),
        ("lifecycle", &controllers.node_lifecycle.queue),
        ("eviction", &controllers.taint_eviction.queue),
        ("ipam", &ipam.queue),
        ("gc", &controllers.pod_gc.queue),
        ("account", &controllers.service_accounts.queue),
        ("ca", &controllers.root_ca.queue),
    ];
    let keys = queues
        .into_iter()
        .flat_map(|(name, queue)| queue.drain().into_iter().map(move |key| format!("{name} {key}")));
    keys.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn each_change_wakes_the_keys_that_it_concerns() {
    let c = cluster();
    let mut table = String::new();
    let mut row = |change: &str| table.push_str(&format!("{change}: {}\n", woken(&c)));
    let deployment: Arc<Deployment> = yaml("{metadata: {name: web, namespace: d}}");
    c.deployment_changed(None, Some(&deployment));
    row("deployment");
    let (own, stray) = (set("web-1", OWNED), set("stray", "uid: x"));
    c.replica_set_changed(None, Some(&own));
    row("set of a deployment");
    c.replica_set_changed(None, Some(&stray));
    row("set that a deployment may adopt");
    c.replica_set_changed(Some(&own), Some(&set("web-1", "uid: s")));
    row("set that is released");
    let (waiting, bound) = (pod(OF_SET, ""), pod(OF_SET, "n1"));
    c.pod_changed(None, Some(&waiting));
    row("pod of a set");
    c.pod_changed(Some(&waiting), Some(&bound));
    row("pod is bound");
    c.pod_changed(Some(&waiting), Some(&pod(OF_SET, "n2")));
    row("pod is bound to a tainted node");
    c.pod_changed(Some(&bound), None);
    row("pod is gone");
    c.pod_changed(None, Some(&pod("labels: {app: other}", "")));
    row("pod that a set may adopt");
    c.pod_changed(None, Some(&pod("labels: {app: nobody}", "")));
    row("pod of nobody");
    c.pod_changed(None, Some(&pod(&format!("{OF_JOB}, uid: j, controller: true}}]"), "")));
    row("pod of a job");
    c.pod_changed(
        None,
        Some(&pod(&format!("{OF_JOB}, uid: gone, controller: true}}]"), "")),
    );
    row("pod of a job that is gone");
    c.pod_changed(None, Some(&pod("labels: {app: job}", "")));
    row("pod that a job may adopt");
    c.job_changed(
        None,
        Some(&job(
            "ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: tick, uid: t, controller: true}]",
        )),
    );
    row("job of a cron job");
    c.cron_job_changed(
        None,
        Some(&yaml(
            "{metadata: {name: tick, namespace: d}, spec: {schedule: x, jobTemplate: {}}}",
        )),
    );
    row("cron job");
    let (plain, tainted): (Arc<Node>, Arc<Node>) = (yaml("{metadata: {name: n1}}"), yaml(TAINTED));
    c.node_changed(None, Some(&plain));
    row("node without a range");
    c.node_changed(Some(&tainted), Some(&tainted));
    row("node with a range");
    c.node_changed(Some(&tainted), None);
    row("node is gone");
    c.lease_changed(Some(&yaml("{metadata: {name: n1}, spec: {}}")));
    row("lease");
    c.namespace_changed(&ObjectKey::cluster("shop"));
    row("namespace");
    c.wake_all();
    row("a term begins");
    expect![[r#"
        deployment: deployment d/web
        set of a deployment: deployment d/web, set d/web-1
        set that a deployment may adopt: deployment d/web, set d/stray
        set that is released: deployment d/web, set d/web-1
        pod of a set: set d/web-1
        pod is bound: set d/web-1
        pod is bound to a tainted node: set d/web-1, eviction n2
        pod is gone: deployment d/web, set d/web-1
        pod that a set may adopt: set d/idle
        pod of nobody: 
        pod of a job: job d/once
        pod of a job that is gone: job d/once, orphan d/p
        pod that a job may adopt: job d/once
        job of a cron job: job d/once, cron d/tick
        cron job: cron d/tick
        node without a range: lifecycle n1, eviction n1, ipam all
        node with a range: lifecycle n2, eviction n2
        node is gone: lifecycle n2, eviction n2, ipam all, gc all
        lease: 
        namespace: account shop, ca shop
        a term begins: deployment d/web, set d/idle, set d/web-1, job d/once, lifecycle n1, lifecycle n2, eviction n1, eviction n2, ipam all, gc all
    "#]].assert_eq(&table);
}
