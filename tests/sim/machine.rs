//! A node: a runtime that outlives agents, a disk with checkpoints, and perhaps an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use skiff_controllers::{ObjectKey, Resource, Target};
use skiff_lifecycle::PodMemory;
use skiff_runtime::fake::{Behaviour, FakeRuntime};
use skiff_runtime::{ContainerPhase, Runtime, RuntimeError, SandboxState};

use crate::api::{Api, Kind, Stored, Typed};
use crate::ledger::node_of;
use crate::worker::{Worker, Wrote, now};
use crate::world::{Fault, Mutation};

/// Versions of the application; the odd ones do not heed a stop.
pub const IMAGES: usize = 4;
/// What a node gives: four pods of half a core.
const CPU: &str = "2";
const PODS: &str = "5";
/// Wakes are not listened to; every pod may be looked at at any time.
const WAKES: usize = 1;

#[derive(Default)]
struct Agent {
    cursor: Option<usize>,
    workers: BTreeMap<String, Worker>,
    admitted: BTreeMap<String, Arc<Pod>>,
    node: Option<Arc<Node>>,
    swept: bool,
}

pub struct Machine {
    pub name: String,
    runtime: FakeRuntime,
    _wakes: tokio::sync::mpsc::Receiver<String>,
    /// By uid; what an agent finds when it starts.
    disk: BTreeMap<String, (Arc<Pod>, String)>,
    /// Written soon: lost if the agent dies before.
    due: BTreeMap<String, Option<(Arc<Pod>, String)>>,
    agent: Option<Agent>,
    /// How often a container of a pod has ended without being asked to.
    ends: BTreeMap<(String, String), u32>,
}

impl Machine {
    pub fn new(name: String) -> Self {
        let (wake, wakes) = tokio::sync::mpsc::channel(WAKES);
        let runtime = FakeRuntime::new(wake);
        for version in 0..IMAGES {
            let behaviour = if version % 2 == 1 {
                Behaviour::IgnoresStop
            } else {
                Behaviour::Runs
            };
            runtime.add_image(&format!("app:{version}"), false, behaviour);
        }
        Machine {
            name,
            runtime,
            _wakes: wakes,
            disk: BTreeMap::new(),
            due: BTreeMap::new(),
            agent: None,
            ends: BTreeMap::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// A new agent process takes up what it finds on its disk.
    pub fn start_agent(&mut self, mutation: Option<Mutation>) {
        let mut agent = Agent::default();
        for (uid, (pod, memory)) in &self.disk {
            let memory: PodMemory = match mutation {
                Some(Mutation::AgentForgets) => PodMemory::default(),
                _ => serde_json::from_str(memory).expect("it was written by us"),
            };
            if !memory.is_over() {
                agent.admitted.insert(uid.clone(), pod.clone());
            }
            let mut worker = Worker::new(pod.clone(), Some(memory));
            worker.forgets = mutation == Some(Mutation::AgentForgets);
            agent.workers.insert(uid.clone(), worker);
        }
        self.agent = Some(agent);
    }

    pub fn kill_agent(&mut self) {
        self.agent = None;
        self.due.clear();
    }

    /// The machine starts anew: nothing runs any more, the disk is as it was.
    pub fn reboot(&mut self) {
        self.kill_agent();
        for sandbox in self.sandboxes() {
            let alive = sandbox
                .containers
                .iter()
                .filter(|one| one.phase != ContainerPhase::Exited);
            let names: Vec<String> = alive.map(|one| one.name.clone()).collect();
            names
                .into_iter()
                .for_each(|name| self.count_end(&sandbox.pod_uid, name));
            self.runtime.lose_sandbox(&sandbox.pod_uid);
        }
    }

    pub fn flush(&mut self) -> bool {
        let due = std::mem::take(&mut self.due);
        let any = !due.is_empty();
        for (uid, content) in due {
            match content {
                Some(content) => self.disk.insert(uid, content),
                None => self.disk.remove(&uid),
            };
        }
        any
    }

    pub fn sandboxes(&self) -> Vec<SandboxState> {
        let listed = now(self.runtime.list()).expect("failures are asked for right before they happen");
        self.runtime.take_calls();
        listed
    }

    fn count_end(&mut self, uid: &str, name: String) {
        *self.ends.entry((uid.to_owned(), name)).or_default() += 1;
    }

    /// Running containers end by themselves: one, or all.
    pub fn end_containers(&mut self, at: i64, only: Option<usize>) -> usize {
        self.runtime.set_now(at);
        let mut running = Vec::new();
        for sandbox in self.sandboxes() {
            let of_pod = sandbox
                .containers
                .iter()
                .filter(|one| one.phase == ContainerPhase::Running);
            running.extend(of_pod.map(|one| (sandbox.pod_uid.clone(), one.name.clone())));
        }
        if let Some(index) = only {
            running = running.into_iter().cycle().skip(index).take(1).collect();
        }
        for (uid, name) in &running {
            self.count_end(uid, name.clone());
            self.runtime.exit(uid, name, 137, "Error", "");
        }
        running.len()
    }

    /// Containers that did not heed their stop are ended by force.
    pub fn expire_grace(&mut self, at: i64) {
        self.runtime.set_now(at);
        self.runtime.expire_grace();
    }

    /// The agent reports: a lease, and the node if it is not there or not as it should be. False: no agent.
    pub fn heartbeat(&mut self, api: &mut Api, leases: &mut BTreeMap<String, i64>) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        leases.insert(self.name.clone(), api.now);
        let key = ObjectKey::cluster(self.name.clone());
        let at = api.time();
        let conditions = json!([{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": Time(at),
            "lastHeartbeatTime": Time(at),
        }]);
        let status = json!({"allocatable": {"cpu": CPU, "pods": PODS}, "conditions": conditions});
        match api.get(Kind::Node, &key) {
            None => {
                let labels = json!({"kubernetes.io/hostname": self.name});
                let node = json!({"metadata": {"name": self.name, "labels": labels}, "status": status});
                api.create(Kind::Node, node).expect("it is not there");
            }
            Some(found) if found.value.pointer("/status/conditions/0/status") != Some(&json!("True")) => {
                let target = Target {
                    resource: Resource::NODE,
                    key: key.clone(),
                    uid: String::new(),
                    resource_version: None,
                };
                api.patch(&target, "status", &json!({"status": status}))
                    .expect("it is there");
            }
            Some(_) => {}
        }
        if let Some(Stored {
            typed: Typed::Node(node),
            ..
        }) = api.get(Kind::Node, &key)
        {
            agent.node = Some(node.clone());
        }
        true
    }

    /// The agent's watch starts again with a list.
    pub fn list_again(&mut self, api: &Api) {
        let Some(agent) = &mut self.agent else { return };
        let listed: Vec<Arc<Pod>> = api
            .pods()
            .filter(|pod| node_of(pod) == Some(&self.name))
            .cloned()
            .collect();
        let uids: BTreeSet<String> = listed.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        listed.into_iter().for_each(|pod| agent.see(pod));
        for (_, worker) in agent.workers.iter_mut().filter(|(uid, _)| !uids.contains(*uid)) {
            worker.see(ended(&worker.pod, api));
        }
        agent.cursor = Some(api.log.len());
        if !std::mem::replace(&mut agent.swept, true) {
            for sandbox in now(self.runtime.list()).expect("no failure was asked for") {
                if !agent.workers.contains_key(&sandbox.pod_uid) {
                    now(self.runtime.remove_sandbox(&sandbox.pod_uid)).expect("no failure was asked for");
                }
            }
        }
    }

    /// The next change of a pod here arrives; the first time that is the list.
    pub fn deliver(&mut self, api: &Api) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        let Some(cursor) = agent.cursor else {
            self.list_again(api);
            return true;
        };
        for (index, event) in api.log.iter().enumerate().skip(cursor) {
            let Typed::Pod(pod) = &event.object else { continue };
            if node_of(pod) != Some(&self.name) {
                continue;
            }
            agent.cursor = Some(index + 1);
            if event.deleted {
                if let Some(worker) = agent.workers.get_mut(pod.metadata.uid.as_deref().unwrap_or("")) {
                    worker.see(ended(pod, api));
                }
            } else {
                agent.see(pod.clone());
            }
            return true;
        }
        agent.cursor = Some(api.log.len());
        false
    }

    /// Pods that the agent works on.
    pub fn pods(&self) -> Vec<String> {
        self.agent
            .iter()
            .flat_map(|agent| agent.workers.keys().cloned())
            .collect()
    }

    /// One pod goes on: an action, or a step. `trouble`: the runtime fails.
    pub fn go_on(&mut self, api: &Api, uid: &str, trouble: bool, breaches: &mut Vec<String>) -> Option<String> {
        let agent = self.agent.as_mut()?;
        let (worker, at) = (agent.workers.get_mut(uid)?, api.time());
        self.runtime.set_now(at.as_second());
        if !worker.admitted {
            let node = agent.node.clone()?;
            if worker.admit(
                &node,
                agent
                    .admitted
                    .iter()
                    .filter(|(other, _)| *other != uid)
                    .map(|(_, pod)| &**pod),
            ) {
                agent.admitted.insert(uid.to_owned(), worker.pod.clone());
            }
        }
        let before: Vec<_> = running(&self.runtime, uid);
        let call = worker.next_call();
        if let Some(call) = call.filter(|_| trouble) {
            self.runtime.fail_next(call, not_now(call));
        }
        let text = worker.go_on(&self.runtime, at);
        if worker.memory.is_over() {
            agent.admitted.remove(uid);
        }
        if !worker.memory.finished {
            let memory = serde_json::to_string(&worker.memory).expect("memory is JSON");
            let same = self
                .due
                .get(uid)
                .and_then(Option::as_ref)
                .or(self.disk.get(uid))
                .is_some_and(|(pod, saved)| {
                    *saved == memory && pod.metadata.deletion_timestamp == worker.pod.metadata.deletion_timestamp
                });
            if !same {
                self.due.insert(uid.to_owned(), Some((worker.pod.clone(), memory)));
            }
        }
        if trouble && call == Some("start_container") {
            // To the restart policy a start that failed is an end.
            let name = text
                .as_deref()
                .and_then(|text| text.split('"').nth(1))
                .unwrap_or_default()
                .to_owned();
            self.count_end(uid, name);
        }
        let wanted = api
            .pod_of_uid(uid)
            .is_some_and(|pod| pod.metadata.deletion_timestamp.is_none() && !crate::ledger::has_ended(pod));
        let after = running(&self.runtime, uid);
        if wanted && before.iter().any(|one| !after.contains(one)) {
            breaches.push(format!("a container of pod {uid} was stopped though it is wanted"));
        }
        self.runtime.take_calls();
        text
    }

    pub fn background(&self, uid: &str) -> usize {
        self.agent
            .as_ref()
            .and_then(|agent| agent.workers.get(uid))
            .map_or(0, Worker::background)
    }

    pub fn answer(&mut self, uid: &str, index: usize, well: bool) -> String {
        let worker = self.agent.as_mut().and_then(|agent| agent.workers.get_mut(uid));
        worker.map_or_else(String::new, |worker| worker.answer(&self.runtime, index, well))
    }

    /// The status writer of a pod makes its next request.
    pub fn write(&mut self, api: &mut Api, uid: &str, fault: Fault, breaches: &mut Vec<String>) -> Wrote {
        let Some(agent) = &mut self.agent else {
            return Wrote::Nothing;
        };
        let Some(worker) = agent.workers.get_mut(uid) else {
            return Wrote::Nothing;
        };
        let wrote = worker.write(api, fault);
        if wrote == Wrote::End {
            agent.workers.remove(uid);
            agent.admitted.remove(uid);
            self.due.insert(uid.to_owned(), None);
            if self.sandboxes().iter().any(|sandbox| sandbox.pod_uid == uid) {
                breaches.push(format!("pod {uid} was deleted for good and still has a sandbox"));
            }
        }
        wrote
    }

    /// What must hold of what runs here.
    pub fn check(&self, breaches: &mut Vec<String>, instances: &mut BTreeMap<String, usize>) {
        for sandbox in self.sandboxes() {
            let mut runs = false;
            for container in &sandbox.containers {
                runs |= container.phase == ContainerPhase::Running;
                let name = (sandbox.pod_uid.clone(), container.name.clone());
                let ends = self.ends.get(&name).copied().unwrap_or(0);
                if container.attempt > ends {
                    breaches.push(format!(
                        "{name:?} on {} is at attempt {} and ended {ends} times",
                        self.name, container.attempt
                    ));
                }
            }
            if runs {
                *instances.entry(sandbox.pod_uid).or_default() += 1;
            }
        }
    }
}

fn not_now(call: &str) -> RuntimeError {
    let why = "not now".to_owned();
    match call {
        "create_sandbox" => RuntimeError::Sandbox { why },
        "create_container" => RuntimeError::Create { why },
        "start_container" => RuntimeError::Start { why },
        _ => RuntimeError::Unavailable { why },
    }
}

fn running(runtime: &FakeRuntime, uid: &str) -> Vec<(String, u32)> {
    let found = now(runtime.inspect(uid)).ok().flatten();
    let containers = found.into_iter().flat_map(|sandbox| sandbox.containers);
    containers
        .filter(|one| one.phase == ContainerPhase::Running)
        .map(|one| (one.name, one.attempt))
        .collect()
}

/// The pod as the agent takes it once its object is gone.
fn ended(pod: &Pod, api: &Api) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp.get_or_insert(Time(api.time()));
    Arc::new(pod)
}

impl Agent {
    fn see(&mut self, pod: Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.workers.get_mut(&uid) {
            Some(worker) => worker.see(pod),
            None => drop(self.workers.insert(uid, Worker::new(pod, None))),
        }
    }
}
