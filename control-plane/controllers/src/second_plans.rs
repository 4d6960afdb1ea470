//! Every controller comes to rest: what its plans write leads to an empty plan, and not to another one for ever.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use crate::caches::{Cache, Caches, Indexed};
use crate::controller::{Context, Controller};
use crate::plan::{Action, ObjectKey};
use crate::testing::{describe, from_yaml, now};
use crate::{
    CronJobController, DeploymentController, GarbageCollector, GraphNode, JobController, Network, NodeIpamController,
    NodeLifecycleController, PodGcController, ReplicaSetController, Resource, RootCaController,
    ServiceAccountController, TaintEvictionController,
};

/// Plans in a row before "never settles": adopting, acting, telling in the status, and what follows from that.
const PLANS_MAX: usize = 6;

/// Carries out plan after plan on the caches until there is nothing more to do; returns how many plans it took.
fn settle<C: Controller>(controller: &C, caches: &Caches, key: &ObjectKey) -> usize {
    for plans in 0..PLANS_MAX {
        let ctx = Context {
            now: now(),
            failure: None,
        };
        let Some(world) = controller.observe(caches, key) else {
            return plans;
        };
        let plan = controller.reconcile(&world, &ctx);
        if plan.is_empty() {
            return plans;
        }
        plan.actions
            .iter()
            .chain(&plan.status)
            .for_each(|action| carry_out(caches, action));
    }
    let world = controller.observe(caches, key).unwrap();
    let ctx = Context {
        now: now(),
        failure: None,
    };
    panic!(
        "{} never settles: {}",
        C::NAME,
        describe(&controller.reconcile(&world, &ctx))
    );
}

/// As the API server would, and the caches see it at once.
fn carry_out(caches: &Caches, action: &Action) {
    fn on<K>(cache: &Cache<K>, action: &Action)
    where
        K: Indexed + serde::Serialize + serde::de::DeserializeOwned,
    {
        let mut map = cache.write();
        let version = (map.seen() + 1).to_string();
        match action {
            Action::Create { object, .. } => {
                let mut object = (**object).clone();
                object["metadata"]["uid"] = object["metadata"]["name"].clone();
                object["metadata"]["resourceVersion"] = json!(version);
                map.insert(Arc::new(serde_json::from_value(object).unwrap()));
            }
            Action::Patch { target, patch, .. } => {
                let Some(found) = map.get(&target.key) else { return };
                let mut object = skiff_api::patch::merge::apply(&serde_json::to_value(&*found).unwrap(), patch);
                object["metadata"]["resourceVersion"] = json!(version);
                map.insert(Arc::new(serde_json::from_value(object).unwrap()));
            }
            Action::Delete { target, .. } => drop(map.remove(&target.key, None)),
            Action::Finalize { .. } | Action::ConfirmAbsent { .. } | Action::Event(_) => {}
        }
    }
    let (Action::Create { resource, .. }
    | Action::Patch {
        target: crate::Target { resource, .. },
        ..
    }
    | Action::Delete {
        target: crate::Target { resource, .. },
        ..
    }) = action
    else {
        return;
    };
    match resource.plural.as_ref() {
        "pods" => on(&caches.pods, action),
        "replicasets" => on(&caches.replica_sets, action),
        "deployments" => on(&caches.deployments, action),
        "jobs" => on(&caches.jobs, action),
        "cronjobs" => on(&caches.cron_jobs, action),
        "nodes" => on(&caches.nodes, action),
        "serviceaccounts" => on(&caches.service_accounts, action),
        "configmaps" => on(&caches.root_ca_maps, action),
        other => panic!("no cache of {other}"),
    }
    if let Action::Delete { target, .. } = action {
        caches.graph_mut().remove(&target.uid);
    }
}

fn pod(name: &str, more: &str) -> Arc<k8s_openapi::api::core::v1::Pod> {
    from_yaml(&format!(
        "{{metadata: {{name: {name}, namespace: d, uid: {name}, labels: {{app: web}}}}, {more}}}"
    ))
}

/// A node that was last heard of so long ago.
fn node(caches: &Caches, taints: &str, conditions: &str, silent_seconds: i64) {
    caches.nodes.write().insert(from_yaml(&format!(
        "{{metadata: {{name: n, uid: n, resourceVersion: '5'}}, spec: {{taints: [{taints}]}}, status: {{conditions: [{conditions}]}}}}"
    )));
    let heard_at = Timestamp::from_second(now().as_second() - silent_seconds).unwrap();
    caches.heartbeats.note("n", 0, "beat".to_owned(), heard_at);
    caches.taint_changes.note("n", 0, "taints".to_owned(), heard_at);
}

#[test]
fn workloads_come_to_rest() {
    let caches = Caches::default();
    caches.deployments.write().insert(from_yaml(
        "metadata: {name: web, namespace: d, uid: web, resourceVersion: '1', generation: 1}
spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x}]}}}",
    ));
    let key = ObjectKey::new("d", "web");
    assert!(settle(&DeploymentController, &caches, &key) > 0);
    let set = caches.replica_sets.read().keys().remove(0);
    assert!(settle(&ReplicaSetController, &caches, &set) > 0);
    assert_eq!(caches.pods.read().len(), 2);
    assert!(settle(&DeploymentController, &caches, &key) > 0);
    assert_eq!(settle(&ReplicaSetController, &caches, &set), 0);
    // A stranger is adopted, and then there is one too many.
    caches.pods.write().insert(from_yaml(
        "metadata: {name: orphan, namespace: d, uid: orphan, labels: {app: web, pod-template-hash: x}}",
    ));
    let hash = caches.replica_sets.read().get(&set).unwrap().metadata.labels.clone();
    let mut orphan = (*caches.pods.read().get(&ObjectKey::new("d", "orphan")).unwrap()).clone();
    orphan.metadata.labels = hash;
    caches.pods.write().insert(Arc::new(orphan));
    assert!(settle(&ReplicaSetController, &caches, &set) > 1);
    assert_eq!(caches.pods.read().len(), 2);
}

#[test]
fn jobs_come_to_rest() {
    let caches = Caches::default();
    caches.cron_jobs.write().insert(from_yaml(
        "metadata: {name: tick, namespace: d, uid: tick, resourceVersion: '1', creationTimestamp: '2026-01-01T11:00:00Z'}
spec: {schedule: '@hourly', jobTemplate: {spec: {parallelism: 2, completions: 2, selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}}",
    ));
    let key = ObjectKey::new("d", "tick");
    assert_eq!(settle(&CronJobController, &caches, &key), 2);
    let job = caches.jobs.read().keys().remove(0);
    assert!(settle(&JobController, &caches, &job) > 0);
    let pods: Vec<_> = caches.pods.read().all().cloned().collect();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        let mut ended = (*pod).clone();
        ended.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
        caches.pods.write().insert(Arc::new(ended));
    }
    assert!(settle(&JobController, &caches, &job) > 1);
    let status = caches.jobs.read().get(&job).unwrap().status.clone().unwrap();
    assert_eq!((status.succeeded, status.completion_time.is_some()), (Some(2), true));
    assert_eq!(settle(&CronJobController, &caches, &key), 1);
}

#[test]
fn what_looks_after_nodes_comes_to_rest() {
    let first = "{key: node.kubernetes.io/not-ready, effect: NoSchedule}";
    let lifecycle = NodeLifecycleController {
        grace: std::time::Duration::from_secs(40),
    };
    let key = ObjectKey::cluster("n");
    for conditions in [
        "{type: Ready, status: 'True'}",
        "{type: Ready, status: 'False'}",
        "{type: Ready, status: 'True'}, {type: PIDPressure, status: 'True'}",
    ] {
        for silent in [1, 50] {
            let caches = Caches::default();
            node(&caches, first, conditions, silent);
            caches.pods.write().insert(pod(
                "a",
                "spec: {nodeName: n, containers: []}, status: {conditions: [{type: Ready, status: 'True'}]}",
            ));
            let plans = settle(&lifecycle, &caches, &key);
            let rests = conditions.contains("False") && silent == 1;
            assert!(plans > 0 || rests, "{conditions} {silent}");
            settle(&TaintEvictionController, &caches, &key);
        }
    }
    let caches = Caches::default();
    node(&caches, "{key: x, effect: NoExecute}", "", 1);
    caches
        .pods
        .write()
        .insert(pod("a", "spec: {nodeName: n, containers: []}"));
    assert_eq!(settle(&TaintEvictionController, &caches, &key), 1);
    let ipam = NodeIpamController {
        cluster: Network::parse("10.42.0.0/16").unwrap(),
        node_bits: 24,
        reserved: None,
    };
    assert_eq!(settle(&ipam, &caches, &NodeIpamController::key()), 1);
}

#[test]
fn what_cleans_up_comes_to_rest() {
    let caches = Caches::default();
    for (name, more) in [
        (
            "stranded",
            "spec: {nodeName: gone, containers: []}, status: {phase: Running}",
        ),
        ("old", "status: {phase: Succeeded}"),
        ("new", "status: {phase: Failed}"),
    ] {
        caches.pods.write().insert(pod(name, more));
    }
    let pod_gc = PodGcController { finished_pods_max: 1 };
    assert_eq!(settle(&pod_gc, &caches, &PodGcController::key()), 1);
    assert_eq!(caches.pods.read().len(), 1);
    let child: Arc<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta> = from_yaml(
        "{name: dep, namespace: d, uid: dep, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: own, uid: own}]}",
    );
    caches.graph_mut().set_served(vec![Resource::CONFIG_MAP]);
    caches.graph_mut().insert(GraphNode::new(&Resource::CONFIG_MAP, &child));
    assert_eq!(settle(&GarbageCollector, &caches, &ObjectKey::cluster("dep")), 1);
}

#[test]
fn what_every_namespace_gets_is_made_once() {
    let caches = Caches::default();
    caches
        .namespaces
        .write()
        .insert(from_yaml("{metadata: {name: shop, uid: s}}"));
    let key = ObjectKey::cluster("shop");
    assert_eq!(settle(&ServiceAccountController, &caches, &key), 1);
    let root_ca = RootCaController {
        certificate: "PEM".to_owned(),
    };
    assert_eq!(settle(&root_ca, &caches, &key), 1);
    caches.root_ca_maps.write().insert(from_yaml(
        "{metadata: {name: kube-root-ca.crt, namespace: shop}, data: {ca.crt: edited}}",
    ));
    assert_eq!(settle(&root_ca, &caches, &key), 1);
}
