//! The controllers' process: caches that each lag on their own, plans under way that a crash can cut after any call.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::api::core::v1::Node;
use skiff_controllers::{
    Action, Caches, Context, Controller, DeploymentController, FailedVerb, Failure, GarbageCollector, GraphNode,
    Network, NodeIpamController, NodeLifecycleController, ObjectKey, Plan, PodGcController, ReplicaSetController,
    TaintEvictionController, no_execute,
};

use crate::api::{Api, Kind, Typed};
use crate::perform::{collected_wrongly, described, lost, made_before, perform};
use crate::world::{Fault, Mutation};

/// Finished pods that are kept: few, so that the bound is met.
const FINISHED_PODS_MAX: usize = 2;
const NODE_GRACE: std::time::Duration = std::time::Duration::from_secs(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    Deployment,
    ReplicaSet,
    NodeLifecycle,
    TaintEviction,
    NodeIpam,
    PodGc,
    Collector,
}

type Decide = Box<dyn Fn(&Context) -> Plan>;
type Job = (Which, ObjectKey);

/// A write that the caches must show before the key runs again.
#[derive(Debug, Clone)]
pub enum Expected {
    Version(Kind, u64),
    Ending(Kind, ObjectKey, String),
}

/// A plan under way.
struct Run {
    job: Job,
    decide: Decide,
    actions: VecDeque<Action>,
    status: Option<Action>,
    /// A creation of which no answer came: it is looked up by name before anything else.
    doubt: Option<Action>,
    failure: Option<(Failure, bool)>,
    expected: Vec<Expected>,
}

pub struct Manager {
    caches: Caches,
    cursors: BTreeMap<Kind, usize>,
    runs: Vec<Run>,
    written: BTreeMap<Job, (i64, Vec<Expected>)>,
    failures: BTreeMap<Job, Failure>,
    /// A key whose own write is not seen back waits for so long.
    gate_seconds: i64,
}

impl Manager {
    /// A new process: every cache is listed before any controller runs.
    pub fn start(api: &Api, gate_seconds: i64) -> Self {
        let caches = Caches::default();
        caches
            .graph_mut()
            .set_served(Kind::ALL.into_iter().map(Kind::resource).collect());
        let mut manager = Manager {
            caches,
            cursors: BTreeMap::new(),
            runs: Vec::new(),
            written: BTreeMap::new(),
            failures: BTreeMap::new(),
            gate_seconds,
        };
        Kind::ALL.into_iter().for_each(|kind| manager.list_again(api, kind));
        manager
    }

    /// A watch that was lost: the list, and from there on.
    pub fn list_again(&mut self, api: &Api, kind: Kind) {
        let listed: Vec<Typed> = api.list(kind).map(|stored| stored.typed.clone()).collect();
        let stays = |key: &ObjectKey| listed.iter().any(|object| ObjectKey::of(object.meta()) == *key);
        let known = match kind {
            Kind::Pod => self.caches.pods.read().keys(),
            Kind::ReplicaSet => self.caches.replica_sets.read().keys(),
            Kind::Deployment => self.caches.deployments.read().keys(),
            Kind::Node => self.caches.nodes.read().keys(),
            Kind::Namespace => self.caches.namespaces.read().keys(),
        };
        listed.iter().for_each(|object| self.insert(api, kind, object));
        known
            .iter()
            .filter(|key| !stays(key))
            .for_each(|key| self.remove(kind, key, None));
        self.cursors.insert(kind, api.log.len());
    }

    /// The next change of a kind arrives; false when there is none.
    pub fn deliver(&mut self, api: &Api, kind: Kind) -> bool {
        let cursor = self.cursors.entry(kind).or_default();
        let Some(offset) = api.log[*cursor..].iter().position(|event| event.kind == kind) else {
            *cursor = api.log.len();
            return false;
        };
        let event = &api.log[*cursor + offset];
        *cursor += offset + 1;
        if event.deleted {
            self.remove(kind, &event.key, Some(&event.object));
        } else {
            self.insert(api, kind, &event.object);
        }
        true
    }

    fn insert(&mut self, api: &Api, kind: Kind, object: &Typed) {
        let caches = &self.caches;
        let old = match object {
            Typed::Pod(object) => caches
                .pods
                .write()
                .insert(object.clone())
                .and_then(|old| old.metadata.uid.clone()),
            Typed::ReplicaSet(object) => caches
                .replica_sets
                .write()
                .insert(object.clone())
                .and_then(|old| old.metadata.uid.clone()),
            Typed::Deployment(object) => caches
                .deployments
                .write()
                .insert(object.clone())
                .and_then(|old| old.metadata.uid.clone()),
            Typed::Node(object) => {
                note_node(caches, api, object);
                caches
                    .nodes
                    .write()
                    .insert(object.clone())
                    .and_then(|old| old.metadata.uid.clone())
            }
            Typed::Namespace(object) => caches
                .namespaces
                .write()
                .insert(object.clone())
                .and_then(|old| old.metadata.uid.clone()),
        };
        if let Some(old) = old.filter(|old| Some(old) != object.meta().uid.as_ref()) {
            caches.graph_mut().remove(&old);
        }
        caches
            .graph_mut()
            .insert(GraphNode::new(&kind.resource(), object.meta()));
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey, last: Option<&Typed>) {
        let (caches, meta) = (&self.caches, last.map(Typed::meta));
        let uid = match kind {
            Kind::Pod => caches
                .pods
                .write()
                .remove(key, meta)
                .and_then(|old| old.metadata.uid.clone()),
            Kind::ReplicaSet => caches
                .replica_sets
                .write()
                .remove(key, meta)
                .and_then(|old| old.metadata.uid.clone()),
            Kind::Deployment => caches
                .deployments
                .write()
                .remove(key, meta)
                .and_then(|old| old.metadata.uid.clone()),
            Kind::Node => {
                caches.heartbeats.forget(&key.name);
                caches.taint_changes.forget(&key.name);
                caches
                    .nodes
                    .write()
                    .remove(key, meta)
                    .and_then(|old| old.metadata.uid.clone())
            }
            Kind::Namespace => caches
                .namespaces
                .write()
                .remove(key, meta)
                .and_then(|old| old.metadata.uid.clone()),
        };
        if let Some(uid) = uid {
            caches.graph_mut().remove(&uid);
        }
    }

    /// The leases of nodes arrive.
    pub fn hear(&self, api: &Api, leases: &BTreeMap<String, i64>) {
        for (node, renewed) in leases {
            self.caches.heartbeats.note(node, 0, renewed.to_string(), api.time());
        }
    }

    /// Every key that a controller could look at now.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = vec![
            (Which::PodGc, PodGcController::key()),
            (Which::NodeIpam, NodeIpamController::key()),
        ];
        jobs.extend(
            self.caches
                .deployments
                .read()
                .keys()
                .into_iter()
                .map(|key| (Which::Deployment, key)),
        );
        jobs.extend(
            self.caches
                .replica_sets
                .read()
                .keys()
                .into_iter()
                .map(|key| (Which::ReplicaSet, key)),
        );
        for key in self.caches.nodes.read().keys() {
            jobs.push((Which::NodeLifecycle, key.clone()));
            jobs.push((Which::TaintEviction, key));
        }
        let mut uids = self.caches.graph().candidates();
        uids.sort();
        jobs.extend(uids.into_iter().map(|uid| (Which::Collector, ObjectKey::cluster(uid))));
        jobs
    }

    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Starts work on a key; false if it is being worked on, held back, or has nothing to do.
    pub fn begin(&mut self, api: &Api, job: &Job) -> bool {
        if self.runs.iter().any(|run| run.job == *job) || !self.is_open(job, api.now) {
            return false;
        }
        let Some(decide) = self.observe(job) else {
            self.failures.remove(job);
            return false;
        };
        let plan = decide(&Context {
            now: api.time(),
            failure: self.failures.remove(job),
        });
        if plan.is_empty() {
            return false;
        }
        let (job, actions) = (job.clone(), plan.actions.into());
        self.runs.push(Run {
            job,
            decide,
            actions,
            status: plan.status,
            doubt: None,
            failure: None,
            expected: Vec::new(),
        });
        true
    }

    fn observe(&self, (which, key): &Job) -> Option<Decide> {
        fn prepare<C: Controller>(controller: C, caches: &Caches, key: &ObjectKey) -> Option<Decide>
        where
            C::World: 'static,
        {
            let world = controller.observe(caches, key)?;
            Some(Box::new(move |ctx| controller.reconcile(&world, ctx)))
        }
        let caches = &self.caches;
        match which {
            Which::Deployment => prepare(DeploymentController, caches, key),
            Which::ReplicaSet => prepare(ReplicaSetController, caches, key),
            Which::NodeLifecycle => prepare(NodeLifecycleController { grace: NODE_GRACE }, caches, key),
            Which::TaintEviction => prepare(TaintEvictionController, caches, key),
            Which::PodGc => prepare(
                PodGcController {
                    finished_pods_max: FINISHED_PODS_MAX,
                },
                caches,
                key,
            ),
            Which::Collector => prepare(GarbageCollector, caches, key),
            Which::NodeIpam => {
                let cluster = Network::parse("10.42.0.0/16").expect("a network");
                prepare(
                    NodeIpamController {
                        cluster,
                        node_bits: 24,
                        reserved: None,
                    },
                    caches,
                    key,
                )
            }
        }
    }

    /// The next call of a plan under way.
    pub fn advance(&mut self, api: &mut Api, index: usize, fault: Fault, mutation: Option<Mutation>) -> String {
        let run = &mut self.runs[index];
        let doubted = run.doubt.take();
        let looks = doubted.is_some();
        let next = doubted
            .or_else(|| run.actions.pop_front())
            .or_else(|| run.status.take());
        let Some(action) = next else {
            self.end(api, index);
            return "nothing left".to_owned();
        };
        let text = format!("{:?} {}: {}", run.job.0, run.job.1, described(&action));
        if looks && fault != Fault::None {
            run.doubt = Some(action);
            return format!("{text}: asked in vain whether it was done");
        }
        if run.job.0 == Which::Collector {
            collected_wrongly(api, &action);
        }
        let done = match fault {
            Fault::None if looks => made_before(api, &action).ok_or_else(lost),
            Fault::None => perform(api, &action, mutation),
            Fault::RequestLost => Err(lost()),
            Fault::ReplyLost => perform(api, &action, mutation).and_then(|_| Err(lost())),
        };
        if done.is_err() && fault != Fault::None && matches!(action, Action::Create { .. }) {
            run.doubt = Some(action);
            return format!("{text}: no answer");
        }
        match done {
            Ok(expected) => run.expected.extend(expected),
            Err(error) => {
                let verb = match action {
                    Action::Create { .. } if error.reason == "AlreadyExists" => FailedVerb::CreateCollision,
                    Action::Create { .. } => FailedVerb::Create,
                    Action::Delete { .. } | Action::ConfirmAbsent { .. } => FailedVerb::Delete,
                    _ => FailedVerb::Patch,
                };
                let conflict = error.code == 409 && error.reason != "AlreadyExists";
                let race = conflict || (error.code == 404 && verb == FailedVerb::Patch);
                let failure = Failure {
                    verb,
                    message: error.message,
                };
                let in_actions = run.failure.is_none();
                run.actions.clear();
                if in_actions && !race {
                    let ctx = Context {
                        now: api.time(),
                        failure: Some(failure.clone()),
                    };
                    run.status = (run.decide)(&ctx).status;
                    self.failures.insert(run.job.clone(), failure.clone());
                }
                run.failure.get_or_insert((failure, race));
            }
        }
        if run.actions.is_empty() && run.status.is_none() && run.doubt.is_none() {
            self.end(api, index);
        }
        text
    }

    fn end(&mut self, api: &Api, index: usize) {
        let run = self.runs.remove(index);
        if !run.expected.is_empty() {
            let entry = self.written.entry(run.job).or_insert((api.now, Vec::new()));
            entry.0 = api.now;
            entry.1.extend(run.expected);
        }
    }

    fn is_open(&mut self, job: &Job, now: i64) -> bool {
        let Some((since, expected)) = self.written.get_mut(job) else {
            return true;
        };
        let caches = &self.caches;
        expected.retain(|one| !is_visible(one, caches));
        let open = expected.is_empty() || now - *since > self.gate_seconds;
        if open {
            self.written.remove(job);
        }
        open
    }
}

fn note_node(caches: &Caches, api: &Api, node: &Node) {
    let name = node.metadata.name.as_deref().unwrap_or("");
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .find(|one| one.type_ == "Ready")
        .filter(|ready| ready.status != "Unknown");
    let heartbeat = ready.map(|ready| format!("{} {:?}", ready.status, ready.last_heartbeat_time));
    caches
        .heartbeats
        .note(name, 1, heartbeat.unwrap_or_default(), api.time());
    let taints: Vec<&str> = no_execute(node).map(|taint| taint.key.as_str()).collect();
    caches.taint_changes.note(name, 0, taints.join(","), api.time());
}

fn is_visible(expected: &Expected, caches: &Caches) -> bool {
    match expected {
        Expected::Version(kind, version) => {
            let seen = match kind {
                Kind::Pod => caches.pods.read().seen(),
                Kind::ReplicaSet => caches.replica_sets.read().seen(),
                Kind::Deployment => caches.deployments.read().seen(),
                Kind::Node => caches.nodes.read().seen(),
                Kind::Namespace => caches.namespaces.read().seen(),
            };
            seen >= *version
        }
        Expected::Ending(kind, key, uid) => {
            let meta = match kind {
                Kind::Pod => caches.pods.read().get(key).map(|object| object.metadata.clone()),
                Kind::ReplicaSet => caches
                    .replica_sets
                    .read()
                    .get(key)
                    .map(|object| object.metadata.clone()),
                Kind::Deployment => caches.deployments.read().get(key).map(|object| object.metadata.clone()),
                Kind::Node => caches.nodes.read().get(key).map(|object| object.metadata.clone()),
                Kind::Namespace => None,
            };
            meta.is_none_or(|meta| meta.uid.as_deref() != Some(uid) || meta.deletion_timestamp.is_some())
        }
    }
}
