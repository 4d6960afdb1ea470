//! The simulated server, its caches, and the moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::deployment::DeploymentController;
use crate::invariants::Observation;
use crate::plan::{Action, ObjectKey, Target};
use crate::replicaset::ReplicaSetController;
use crate::testing::now;

/// Rounds in which everything is delivered and everyone runs, before "still moving" is a fault.
const ROUNDS_MAX: usize = 400;

/// One thing that may happen next.
#[derive(Debug, Clone)]
pub(super) enum Move {
    /// Some key runs; with `crash`, it ends after its first action.
    Reconcile { key: Index, crash: bool },
    /// The caches see this many more changes.
    Deliver { count: usize },
    /// A pod starts and becomes ready.
    Start { pod: Index },
    /// A pod fails.
    Fail { pod: Index },
    /// A terminating pod is gone.
    End { pod: Index },
    /// The user scales.
    Scale { replicas: i32 },
    /// The user changes the template.
    Image { version: u32 },
    /// The manager restarts: its caches are read afresh.
    Restart,
}

type Key = (&'static str, ObjectKey);

#[derive(Default)]
pub(super) struct Simulation {
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// Changes that the caches have not seen.
    undelivered: Vec<(Key, Option<Value>)>,
    /// How many changes the caches have seen.
    delivered: u64,
    /// Keys are held back until the caches have seen what they wrote, as the manager does.
    written: BTreeMap<Key, u64>,
    caches: Caches,
    elapsed: Duration,
}

fn kind_of(target: &crate::plan::Resource) -> &'static str {
    match target.kind.as_ref() {
        "Pod" => "Pod",
        "ReplicaSet" => "ReplicaSet",
        _ => "Deployment",
    }
}

impl Simulation {
    pub(super) fn new(recreate: bool) -> Self {
        let mut simulation = Simulation::default();
        let strategy = if recreate {
            json!({"type": "Recreate"})
        } else {
            json!({"type": "RollingUpdate"})
        };
        simulation.put(
            ("Deployment", ObjectKey::new("d", "web")),
            json!({
                "metadata": {"name": "web", "namespace": "d", "uid": "web", "generation": 1},
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": {"app": "web"}},
                    "strategy": strategy,
                    "revisionHistoryLimit": 2,
                    "progressDeadlineSeconds": 600,
                    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x:0"}]}},
                },
            }),
        );
        simulation
    }

    fn put(&mut self, key: Key, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.undelivered.push((key.clone(), Some(object.clone())));
        self.objects.insert(key, object);
    }

    fn remove(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            self.version += 1;
            self.undelivered.push((key.clone(), None));
        }
    }

    fn keys_of(&self, kind: &str) -> Vec<Key> {
        self.objects.keys().filter(|key| key.0 == kind).cloned().collect()
    }

    pub(super) fn step(&mut self, step: &Move) {
        self.elapsed += Duration::from_secs(1);
        match step {
            Move::Reconcile { key, crash } => {
                let mut keys = self.keys_of("Deployment");
                keys.extend(self.keys_of("ReplicaSet"));
                let key = key.get(&keys).clone();
                self.reconcile(&key, if *crash { 1 } else { usize::MAX });
            }
            Move::Deliver { count } => self.deliver(*count),
            Move::Start { pod } => self.change_pod(pod, |pod| {
                if pod["status"]["phase"].is_null() {
                    pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
                }
            }),
            Move::Fail { pod } => self.change_pod(pod, |pod| pod["status"] = json!({"phase": "Failed"})),
            Move::End { pod } => {
                let going: Vec<Key> = self.keys_of("Pod").into_iter().filter(|key| self.is_terminating(key)).collect();
                if !going.is_empty() {
                    let key = pod.get(&going).clone();
                    self.remove(&key);
                }
            }
            Move::Scale { replicas } => self.change_spec(|spec| spec["replicas"] = json!(replicas)),
            Move::Image { version } => {
                self.change_spec(|spec| spec["template"]["spec"]["containers"][0]["image"] = json!(format!("x:{version}")));
            }
            Move::Restart => {
                self.caches = Caches::default();
                self.written.clear();
                self.undelivered = self.objects.iter().map(|(key, object)| (key.clone(), Some(object.clone()))).collect();
                self.deliver(usize::MAX);
                self.delivered = self.version;
            }
        }
    }

    fn is_terminating(&self, key: &Key) -> bool {
        self.objects[key].pointer("/metadata/deletionTimestamp").is_some()
    }

    fn change_pod(&mut self, pod: &Index, change: impl Fn(&mut Value)) {
        let pods = self.keys_of("Pod");
        if !pods.is_empty() {
            let key = pod.get(&pods).clone();
            let mut object = self.objects[&key].clone();
            change(&mut object);
            self.put(key, object);
        }
    }

    fn change_spec(&mut self, change: impl Fn(&mut Value)) {
        let key = ("Deployment", ObjectKey::new("d", "web"));
        let mut object = self.objects[&key].clone();
        change(&mut object["spec"]);
        object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        self.put(key, object);
    }

    fn deliver(&mut self, count: usize) {
        let count = count.min(self.undelivered.len());
        self.delivered += count as u64;
        for ((kind, key), object) in self.undelivered.drain(..count) {
            macro_rules! apply {
                ($cache:ident) => {
                    match object {
                        Some(object) => drop(
                            self.caches
                                .$cache
                                .write()
                                .insert(Arc::new(serde_json::from_value(object).unwrap())),
                        ),
                        None => drop(self.caches.$cache.write().remove(&key, None)),
                    }
                };
            }
            match kind {
                "Pod" => apply!(pods),
                "ReplicaSet" => apply!(replica_sets),
                _ => apply!(deployments),
            }
        }
    }

    fn plan(&self, key: &Key) -> crate::plan::Plan {
        let ctx = Context {
            now: now().checked_add(self.elapsed).unwrap_or(Timestamp::MAX),
            failure: None,
        };
        match key.0 {
            "Deployment" => {
                let world = DeploymentController.observe(&self.caches, &key.1);
                world
                    .map(|world| DeploymentController.reconcile(&world, &ctx))
                    .unwrap_or_default()
            }
            _ => {
                let world = ReplicaSetController.observe(&self.caches, &key.1);
                world
                    .map(|world| ReplicaSetController.reconcile(&world, &ctx))
                    .unwrap_or_default()
            }
        }
    }

    /// Runs a key on what the caches show, which may be old; returns whether anything is left to do.
    fn reconcile(&mut self, key: &Key, actions_max: usize) -> bool {
        if self.written.get(key).is_some_and(|version| *version > self.delivered) {
            return true;
        }
        let plan = self.plan(key);
        let before = self.version;
        for action in plan.actions.iter().chain(plan.status.iter()).take(actions_max) {
            if !self.perform(action) {
                break;
            }
        }
        if self.version > before {
            self.written.insert(key.clone(), self.version);
        }
        !plan.is_empty()
    }

    /// As the API server would; false: refused.
    fn perform(&mut self, action: &Action) -> bool {
        match action {
            Action::Create { resource, object, .. } => {
                let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
                let key = (kind_of(resource), ObjectKey::new("d", text("/metadata/name")));
                if self.objects.contains_key(&key) {
                    return false;
                }
                let mut object = (**object).clone();
                object["metadata"]["uid"] = json!(format!("{}-{}", key.1.name, self.version));
                object["metadata"]["generation"] = json!(1);
                object["metadata"]["creationTimestamp"] = json!(
                    now()
                        .checked_add(Duration::from_secs(self.version))
                        .unwrap()
                        .to_string()
                );
                self.put(key, object);
                true
            }
            Action::Patch {
                target,
                subresource,
                patch,
                ..
            } => {
                let Some(key) = self.matching(target) else { return false };
                let mut object = self.objects[&key].clone();
                merge(&mut object, patch);
                if object == self.objects[&key] {
                    return true;
                }
                if subresource.is_empty() && object["spec"] != self.objects[&key]["spec"] {
                    object["metadata"]["generation"] =
                        json!(object["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
                }
                self.put(key, object);
                true
            }
            Action::Delete { target, .. } => {
                let Some(key) = self.matching(target) else { return true };
                if key.0 != "Pod" {
                    self.remove(&key);
                } else if !self.is_terminating(&key) {
                    let mut object = self.objects[&key].clone();
                    object["metadata"]["deletionTimestamp"] = json!(now().to_string());
                    self.put(key, object);
                }
                true
            }
            Action::Finalize { .. } | Action::ConfirmAbsent { .. } | Action::Event(_) => true,
        }
    }

    fn matching(&self, target: &Target) -> Option<Key> {
        let key = (kind_of(&target.resource), target.key.clone());
        let meta = &self.objects.get(&key)?["metadata"];
        let fits = (target.uid.is_empty() || meta["uid"] == json!(target.uid))
            && target
                .resource_version
                .as_ref()
                .is_none_or(|version| meta["resourceVersion"] == json!(version));
        fits.then_some(key)
    }

    /// Everything arrives, pods start and end, everyone runs; true when nothing moves any more.
    pub(super) fn settle(&mut self) -> bool {
        for _ in 0..ROUNDS_MAX {
            self.elapsed += Duration::from_secs(1);
            self.deliver(usize::MAX);
            let mut moved = false;
            for key in self.keys_of("Pod") {
                let pod: Pod = serde_json::from_value(self.objects[&key].clone()).unwrap();
                if self.is_terminating(&key) {
                    self.remove(&key);
                    moved = true;
                } else if crate::pods::phase(&pod).is_empty() {
                    let mut object = self.objects[&key].clone();
                    object["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
                    self.put(key, object);
                    moved = true;
                }
            }
            self.deliver(usize::MAX);
            for kind in ["Deployment", "ReplicaSet"] {
                for key in self.keys_of(kind) {
                    moved |= self.reconcile(&key, usize::MAX);
                    self.collect_garbage();
                    self.deliver(usize::MAX);
                }
            }
            if !moved {
                return true;
            }
        }
        false
    }

    /// Pods of sets that are gone go too.
    fn collect_garbage(&mut self) {
        let sets: Vec<Value> = self
            .objects
            .iter()
            .filter(|(key, _)| key.0 == "ReplicaSet")
            .map(|(_, set)| set["metadata"]["uid"].clone())
            .collect();
        for key in self.keys_of("Pod") {
            let owner = self.objects[&key]
                .pointer("/metadata/ownerReferences/0/uid")
                .cloned()
                .unwrap_or_default();
            if !sets.contains(&owner) {
                self.remove(&key);
            }
        }
    }

    pub(super) fn second_plans_are_empty(&self) -> bool {
        self.keys_of("Deployment")
            .iter()
            .chain(&self.keys_of("ReplicaSet"))
            .all(|key| self.plan(key).is_empty())
    }

    pub(super) fn observe(&self) -> Observation {
        fn all<T: serde::de::DeserializeOwned>(objects: &BTreeMap<Key, Value>, kind: &str) -> Vec<Arc<T>> {
            let of_kind = objects.iter().filter(|(key, _)| key.0 == kind);
            of_kind
                .map(|(_, object)| Arc::new(serde_json::from_value(object.clone()).unwrap()))
                .collect()
        }
        Observation {
            pods: all(&self.objects, "Pod"),
            replica_sets: all(&self.objects, "ReplicaSet"),
            deployments: all(&self.objects, "Deployment"),
            nodes: Vec::new(),
        }
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(map) = into.as_object_mut() {
                map.remove(key);
            }
        } else {
            merge(&mut into[key.as_str()], value);
        }
    }
}
