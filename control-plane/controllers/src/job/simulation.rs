//! A small world with seeds: one Job over an object map, with crashes after each action, stale caches, restarts, and pods
//! that start, end and are deleted in any order. However it goes, no more pods run than may, and each that ended is counted
//! once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::DeserializeOwned;

use super::indexes::Indexes;
use super::*;
use crate::testing::now;

/// Rounds in which everything is delivered and everyone runs, before "still moving" is a fault.
const ROUNDS_MAX: usize = 2000;
const NAMESPACE: &str = "d";

#[derive(Debug, Clone)]
enum Move {
    /// The controller runs on what its caches show; with a number, it crashes after so many actions.
    Reconcile { actions: usize },
    /// The caches see this many more changes.
    Deliver { count: usize },
    /// A pod of these ends, well or not.
    End { pod: Index, well: bool },
    /// Someone deletes a pod.
    Delete { pod: Index },
    /// A terminating pod has stopped.
    Stop { pod: Index },
    /// The controller is suspended, or resumed.
    Suspend { suspend: bool },
    /// Another process leads: its caches are read afresh.
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (0_usize..4).prop_map(|actions| Move::Reconcile { actions }),
        2 => Just(Move::Reconcile { actions: usize::MAX }),
        8 => (1_usize..4).prop_map(|count| Move::Deliver { count }),
        5 => (any::<Index>(), any::<bool>()).prop_map(|(pod, well)| Move::End { pod, well }),
        1 => any::<Index>().prop_map(|pod| Move::Delete { pod }),
        2 => any::<Index>().prop_map(|pod| Move::Stop { pod }),
        1 => any::<bool>().prop_map(|suspend| Move::Suspend { suspend }),
        1 => Just(Move::Restart),
    ];
    proptest::collection::vec(one, 0..150)
}

struct Simulation {
    objects: BTreeMap<(&'static str, String), Value>,
    version: u64,
    undelivered: Vec<((&'static str, String), Option<Value>)>,
    delivered: u64,
    /// The controller is held back until its caches have seen what it wrote, as the manager does.
    written: u64,
    caches: Caches,
    seconds: i64,
    /// Pods by how they ended, of those that carried the finalizer then.
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Completion indexes of those that succeeded.
    indexes: BTreeSet<i32>,
    parallelism: usize,
}

impl Simulation {
    fn new(parallelism: usize, completions: i32, indexed: bool) -> Self {
        let mut simulation = Simulation {
            objects: BTreeMap::new(),
            version: 0,
            undelivered: Vec::new(),
            delivered: 0,
            written: 0,
            caches: Caches::default(),
            seconds: 0,
            succeeded: BTreeSet::new(),
            failed: BTreeSet::new(),
            indexes: BTreeSet::new(),
            parallelism,
        };
        let job = json!({
            "metadata": {"name": "one", "namespace": NAMESPACE, "uid": "u"},
            "spec": {
                "parallelism": parallelism, "completions": completions, "backoffLimit": 5, "suspend": false,
                "completionMode": if indexed { "Indexed" } else { "NonIndexed" },
                "selector": {"matchLabels": {"app": "x"}},
                "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": "Never", "containers": []}},
            },
        });
        simulation.put(("Job", "one".to_owned()), job);
        simulation
    }

    fn put(&mut self, key: (&'static str, String), mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let finalizers = object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
        let ended = key.0 == "Pod" && object["metadata"]["stopped"] == true;
        if ended && finalizers == 0 {
            self.objects.remove(&key);
            self.undelivered.push((key, None));
        } else {
            self.undelivered.push((key.clone(), Some(object.clone())));
            self.objects.insert(key, object);
        }
    }

    fn job(&self) -> &Value {
        &self.objects[&("Job", "one".to_owned())]
    }

    fn pods(&self, test: impl Fn(&Value) -> bool) -> Vec<String> {
        let pods = self.objects.iter().filter(|(key, pod)| key.0 == "Pod" && test(pod));
        pods.map(|(key, _)| key.1.clone()).collect()
    }

    fn step(&mut self, step: &Move) {
        self.seconds += 1;
        match step {
            Move::Reconcile { actions } => drop(self.reconcile(*actions)),
            Move::Deliver { count } => self.deliver(*count),
            Move::End { pod, well } => {
                let running = self.pods(is_running);
                if !running.is_empty() {
                    self.end(&running[pod.index(running.len())].clone(), *well);
                }
            }
            Move::Delete { pod } => {
                let running = self.pods(is_running);
                if !running.is_empty() {
                    self.delete(&running[pod.index(running.len())].clone());
                }
            }
            Move::Stop { pod } => {
                let going = self.pods(is_going);
                if !going.is_empty() {
                    self.stop(&going[pod.index(going.len())].clone());
                }
            }
            Move::Suspend { suspend } => {
                let mut job = self.job().clone();
                job["spec"]["suspend"] = json!(suspend);
                self.put(("Job", "one".to_owned()), job);
            }
            Move::Restart => self.restart(),
        }
    }

    /// A pod ends by itself.
    fn end(&mut self, name: &str, well: bool) {
        let mut pod = self.objects[&("Pod", name.to_owned())].clone();
        let at = now()
            .checked_add(Duration::from_secs(self.seconds.unsigned_abs()))
            .unwrap();
        pod["status"] = json!({
            "phase": if well { "Succeeded" } else { "Failed" },
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "finishedAt": at.to_string()}}}],
        });
        if pod["metadata"]["finalizers"].is_array() {
            let ended = if well { &mut self.succeeded } else { &mut self.failed };
            ended.insert(name.to_owned());
            if well {
                let index = pod["metadata"]["annotations"][COMPLETION_INDEX].as_str();
                self.indexes.extend(index.map(|index| index.parse::<i32>().unwrap()));
            }
        }
        self.put(("Pod", name.to_owned()), pod);
    }

    /// Deletes a pod: one that runs is on its way out from then on, and has failed; one that has ended stays what it is.
    fn delete(&mut self, name: &str) {
        let key = ("Pod", name.to_owned());
        let Some(mut pod) = self.objects.get(&key).cloned() else {
            return;
        };
        if pod["metadata"]["deletionTimestamp"].is_null() {
            pod["metadata"]["deletionTimestamp"] = json!(now().to_string());
            if pod["metadata"]["finalizers"].is_array() && pod["status"]["phase"] == "Running" {
                self.failed.insert(name.to_owned());
            }
            self.put(key, pod);
        }
    }

    fn stop(&mut self, name: &str) {
        let key = ("Pod", name.to_owned());
        let mut pod = self.objects[&key].clone();
        pod["metadata"]["stopped"] = json!(true);
        if pod["status"]["phase"] == "Running" {
            pod["status"]["phase"] = json!("Failed");
        }
        self.put(key, pod);
    }

    fn restart(&mut self) {
        self.caches = Caches::default();
        self.written = 0;
        self.undelivered = self
            .objects
            .iter()
            .map(|(key, object)| (key.clone(), Some(object.clone())))
            .collect();
        self.deliver(usize::MAX);
        self.delivered = self.version;
    }

    fn deliver(&mut self, count: usize) {
        let count = count.min(self.undelivered.len());
        self.delivered += count as u64;
        for ((kind, name), object) in self.undelivered.drain(..count) {
            fn apply<K: DeserializeOwned + crate::Indexed>(cache: &crate::Cache<K>, name: &str, object: Option<Value>) {
                match object {
                    Some(object) => drop(cache.write().insert(Arc::new(serde_json::from_value(object).unwrap()))),
                    None => drop(cache.write().remove(&ObjectKey::new(NAMESPACE, name), None)),
                }
            }
            match kind {
                "Job" => apply(&self.caches.jobs, &name, object),
                _ => apply(&self.caches.pods, &name, object),
            }
        }
    }

    fn plan(&self) -> Plan {
        let ctx = Context {
            now: Timestamp::from_second(now().as_second() + self.seconds).unwrap(),
            failure: None,
        };
        let world = JobController.observe(&self.caches, &ObjectKey::new(NAMESPACE, "one"));
        world
            .map(|world| JobController.reconcile(&world, &ctx))
            .unwrap_or_default()
    }

    /// Whether anything is left to do.
    fn reconcile(&mut self, actions_max: usize) -> bool {
        if self.written > self.delivered {
            return true;
        }
        let plan = self.plan();
        let before = self.version;
        for action in plan.actions.iter().chain(plan.status.iter()).take(actions_max) {
            if !self.perform(action) {
                break;
            }
        }
        if self.version > before {
            self.written = self.version;
        }
        !plan.is_empty() || plan.requeue_after.is_some()
    }

    fn perform(&mut self, action: &Action) -> bool {
        match action {
            Action::Create { object, .. } => {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                if self.objects.contains_key(&("Pod", name.clone())) {
                    return true;
                }
                let mut object = (**object).clone();
                object["metadata"]["uid"] = json!(name);
                object["status"] = json!({"phase": "Running"});
                self.put(("Pod", name), object);
                true
            }
            Action::Patch { target, patch, .. } => {
                let kind = if target.resource == Resource::JOB { "Job" } else { "Pod" };
                let key = (kind, target.key.name.clone());
                let Some(object) = self.objects.get(&key) else {
                    return false;
                };
                let version = object["metadata"]["resourceVersion"].as_str();
                if target
                    .resource_version
                    .as_deref()
                    .is_some_and(|wanted| Some(wanted) != version)
                {
                    return false;
                }
                let patched = skiff_api::patch::merge::apply(object, patch);
                self.put(key, patched);
                true
            }
            Action::Delete { target, .. } => {
                self.delete(&target.key.name);
                true
            }
            Action::Finalize { .. } | Action::ConfirmAbsent { .. } | Action::Event(_) => true,
        }
    }

    /// What must hold at any moment.
    fn check(&self) -> Result<(), String> {
        let active = self.pods(is_running).len();
        if active > self.parallelism {
            return Err(format!("{active} pods run of at most {}", self.parallelism));
        }
        let (succeeded, failed) = self.counted();
        if succeeded > self.succeeded.len() || failed > self.failed.len() {
            return Err(format!(
                "counted {succeeded} and {failed}: {:?} {:?}",
                self.succeeded, self.failed
            ));
        }
        Ok(())
    }

    fn counted(&self) -> (usize, usize) {
        let count = |key: &str| self.job()["status"][key].as_u64().unwrap_or(0) as usize;
        (count("succeeded"), count("failed"))
    }

    /// Everything arrives, pods succeed and stop, the controller runs; true when nothing moves any more.
    fn settle(&mut self) -> bool {
        self.step(&Move::Suspend { suspend: false });
        for _ in 0..ROUNDS_MAX {
            self.seconds += 60;
            self.deliver(usize::MAX);
            let mut moved = false;
            for name in self.pods(is_going) {
                self.stop(&name);
                moved = true;
            }
            for name in self.pods(is_running) {
                self.end(&name, true);
                moved = true;
            }
            self.deliver(usize::MAX);
            moved |= self.reconcile(usize::MAX);
            if !moved {
                return true;
            }
        }
        false
    }
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
}
fn is_going(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string() && pod["metadata"]["stopped"].is_null()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_pod_is_counted_once_and_never_too_many_run(
        moves in moves(), parallelism in 1_usize..4, completions in 1_i32..6, indexed in any::<bool>()
    ) {
        let mut simulation = Simulation::new(parallelism, completions, indexed);
        for step in moves {
            simulation.step(&step);
            prop_assert_eq!(simulation.check(), Ok(()), "after {:?}", step);
        }
        prop_assert!(simulation.settle(), "still moving: {}", simulation.job());
        prop_assert_eq!(simulation.check(), Ok(()));
        let job: Job = serde_json::from_value(simulation.job().clone()).unwrap();
        let end = finished(&job).map(|condition| condition.type_.clone());
        let (succeeded, failed) = simulation.counted();
        prop_assert_eq!(failed, simulation.failed.len());
        if indexed {
            let text = simulation.job()["status"]["completedIndexes"].as_str().unwrap_or("");
            prop_assert_eq!(Indexes::parse(text, completions), Indexes::default().with(&simulation.indexes));
            prop_assert_eq!(succeeded, simulation.indexes.len());
        } else {
            prop_assert_eq!(succeeded, simulation.succeeded.len());
        }
        let wanted = usize::try_from(completions).unwrap();
        match end.as_deref() {
            Some("Complete") => prop_assert!(succeeded >= wanted, "{} of {}", succeeded, wanted),
            Some("Failed") => prop_assert!(failed > 5),
            _ => prop_assert!(false, "not over: {}", simulation.job()),
        }
        prop_assert!(simulation.pods(|pod| pod["metadata"]["finalizers"].is_array()).is_empty());
    }
}
