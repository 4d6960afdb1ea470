//! Which controllers there are, and which changes wake which of their keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use skiff_controllers::{
    Caches, Controller, CronJobController, DeploymentController, EventDraft, JobController, JobOrphansController,
    Network, NodeIpamController, NodeLifecycleController, ObjectKey, PodGcController, Regarding, ReplicaSetController,
    Resource, RootCaController, ServiceAccountController, TaintEvictionController, controller_of, no_execute, selects,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{ManagerConfig, NODE_MASK_SIZE};
use crate::executor::Executor;
use crate::queue::Queue;
use crate::recorder::{Recorder, Style};
use crate::runner::Runner;

/// Keys of one controller that are worked on at once (Kubernetes' `--concurrent-*-syncs`).
const WORKERS: usize = 5;

pub(crate) struct Controllers {
    caches: Arc<Caches>,
    recorder: Recorder,
    /// This process leads: it may speak.
    leading: AtomicBool,
    deployments: Arc<Runner<DeploymentController>>,
    replica_sets: Arc<Runner<ReplicaSetController>>,
    jobs: Arc<Runner<JobController>>,
    job_orphans: Arc<Runner<JobOrphansController>>,
    cron_jobs: Arc<Runner<CronJobController>>,
    node_lifecycle: Arc<Runner<NodeLifecycleController>>,
    taint_eviction: Arc<Runner<TaintEvictionController>>,
    node_ipam: Option<Arc<Runner<NodeIpamController>>>,
    pod_gc: Arc<Runner<PodGcController>>,
    service_accounts: Arc<Runner<ServiceAccountController>>,
    root_ca: Arc<Runner<RootCaController>>,
}

impl Controllers {
    pub(crate) fn new(
        caches: &Arc<Caches>,
        executor: &Executor,
        recorder: &Recorder,
        config: &ManagerConfig,
    ) -> Arc<Self> {
        fn runner<C: skiff_controllers::Controller>(
            controller: C,
            caches: &Arc<Caches>,
            executor: &Executor,
        ) -> Arc<Runner<C>> {
            Runner::new(controller, caches.clone(), executor.clone())
        }
        let ipam = Network::parse(&config.pod_cidr).map(|cluster| NodeIpamController {
            cluster,
            node_bits: NODE_MASK_SIZE,
            reserved: Network::parse(&config.service_cidr),
        });
        Arc::new(Controllers {
            caches: caches.clone(),
            recorder: recorder.clone(),
            leading: AtomicBool::new(false),
            deployments: runner(DeploymentController, caches, executor),
            replica_sets: runner(ReplicaSetController, caches, executor),
            jobs: runner(JobController, caches, executor),
            job_orphans: runner(JobOrphansController, caches, executor),
            cron_jobs: runner(CronJobController, caches, executor),
            node_lifecycle: runner(
                NodeLifecycleController {
                    grace: config.times.node_grace,
                },
                caches,
                executor,
            ),
            taint_eviction: runner(TaintEvictionController, caches, executor),
            node_ipam: ipam.map(|controller| runner(controller, caches, executor)),
            pod_gc: runner(
                PodGcController {
                    finished_pods_max: config.times.terminated_pods_max,
                },
                caches,
                executor,
            ),
            service_accounts: runner(ServiceAccountController, caches, executor),
            root_ca: runner(
                RootCaController {
                    certificate: config.cluster_ca_pem.clone(),
                },
                caches,
                executor,
            ),
        })
    }

    /// Starts all workers.
    pub(crate) fn start(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        self.leading.store(true, Ordering::Relaxed);
        self.wake_all();
        self.deployments.start(WORKERS, tasks, stop);
        self.replica_sets.start(WORKERS, tasks, stop);
        self.jobs.start(WORKERS, tasks, stop);
        self.job_orphans.start(1, tasks, stop);
        self.cron_jobs.start(WORKERS, tasks, stop);
        self.node_lifecycle.start(1, tasks, stop);
        self.taint_eviction.start(1, tasks, stop);
        if let Some(ipam) = &self.node_ipam {
            ipam.start(1, tasks, stop);
        }
        self.pod_gc.start(1, tasks, stop);
        self.service_accounts.start(1, tasks, stop);
        self.root_ca.start(1, tasks, stop);
    }

    /// The term is over.
    pub(crate) fn stopped(&self) {
        self.leading.store(false, Ordering::Relaxed);
    }

    /// A new leader looks at everything once: delays and wakes of an earlier term are gone.
    fn wake_all(&self) {
        let all = |keys: Vec<ObjectKey>, queue: &Queue<ObjectKey>| keys.into_iter().for_each(|key| queue.add(key));
        all(self.caches.deployments.read().keys(), &self.deployments.queue);
        all(self.caches.replica_sets.read().keys(), &self.replica_sets.queue);
        all(self.caches.jobs.read().keys(), &self.jobs.queue);
        all(self.caches.cron_jobs.read().keys(), &self.cron_jobs.queue);
        for pod in self.caches.pods.read().all() {
            self.wake_job_orphan(pod);
        }
        self.caches
            .nodes
            .read()
            .keys()
            .into_iter()
            .for_each(|key| self.wake_node(&key));
        for key in self.caches.namespaces.read().keys() {
            self.namespace_changed(&key);
        }
        self.pod_gc.queue.add(PodGcController::key());
        if let Some(ipam) = &self.node_ipam {
            ipam.queue.add(NodeIpamController::key());
        }
    }

    pub(crate) fn deployment_changed(&self, old: Option<&Arc<Deployment>>, new: Option<&Arc<Deployment>>) {
        if let Some(deployment) = new.or(old) {
            self.deployments.queue.add(ObjectKey::of(&deployment.metadata));
        }
    }

    pub(crate) fn replica_set_changed(&self, old: Option<&Arc<ReplicaSet>>, new: Option<&Arc<ReplicaSet>>) {
        let Some(set) = new.or(old) else { return };
        self.replica_sets.queue.add(ObjectKey::of(&set.metadata));
        for set in [old, new].into_iter().flatten() {
            match owner_key(&set.metadata, "Deployment") {
                Some(owner) => self.deployments.queue.add(owner),
                None => self.wake_adopting_deployments(&set.metadata),
            }
        }
    }

    fn wake_adopting_deployments(&self, child: &ObjectMeta) {
        for deployment in self
            .caches
            .deployments
            .read()
            .in_namespace(child.namespace.as_deref().unwrap_or(""))
        {
            if deployment
                .spec
                .as_ref()
                .is_some_and(|spec| is_candidate(&spec.selector, child))
            {
                self.deployments.queue.add(ObjectKey::of(&deployment.metadata));
            }
        }
    }

    pub(crate) fn job_changed(&self, old: Option<&Arc<Job>>, new: Option<&Arc<Job>>) {
        let Some(job) = new.or(old) else { return };
        self.jobs.queue.add(ObjectKey::of(&job.metadata));
        for owner in [old, new]
            .into_iter()
            .flatten()
            .filter_map(|job| owner_key(&job.metadata, "CronJob"))
        {
            self.cron_jobs.queue.add(owner);
        }
        if let Some(gone) = old.filter(|old| new.is_none_or(|new| new.metadata.uid != old.metadata.uid)) {
            let pods = self
                .caches
                .pods
                .read()
                .owned_by(gone.metadata.uid.as_deref().unwrap_or(""));
            pods.iter().for_each(|pod| self.wake_job_orphan(pod));
        }
    }

    pub(crate) fn cron_job_changed(&self, old: Option<&Arc<CronJob>>, new: Option<&Arc<CronJob>>) {
        if let Some(cron_job) = new.or(old) {
            self.cron_jobs.queue.add(ObjectKey::of(&cron_job.metadata));
        }
    }

    fn wake_job_orphan(&self, pod: &Pod) {
        if JobOrphansController::concerns(&self.caches, pod) {
            self.job_orphans.queue.add(ObjectKey::of(&pod.metadata));
        }
    }

    pub(crate) fn pod_changed(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        for pod in [old, new].into_iter().flatten() {
            if let Some(set) = owner_key(&pod.metadata, "ReplicaSet") {
                self.replica_sets.queue.add(set);
            } else if let Some(job) = owner_key(&pod.metadata, "Job") {
                self.jobs.queue.add(job);
            } else if controller_of(&pod.metadata).is_none() {
                self.wake_adopting_sets(&pod.metadata);
                self.wake_adopting_jobs(&pod.metadata);
            }
        }
        if let Some(pod) = new {
            self.wake_job_orphan(pod);
        }
        let node = |pod: &Arc<Pod>| {
            pod.spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .filter(|name| !name.is_empty())
        };
        let (before, after) = (old.and_then(node), new.and_then(node));
        if let Some(name) = after.filter(|_| before.is_none()) {
            let key = ObjectKey::cluster(name);
            let node = self.caches.nodes.read().get(&key);
            if node.is_some_and(|node| no_execute(&node).next().is_some()) {
                self.taint_eviction.queue.add(key);
            }
        }
        // The last pod of an old template is what Recreate waits for.
        if let (Some(old), None) = (old, new) {
            let set = owner_key(&old.metadata, "ReplicaSet").and_then(|key| self.caches.replica_sets.read().get(&key));
            if let Some(owner) = set.and_then(|set| owner_key(&set.metadata, "Deployment")) {
                self.deployments.queue.add(owner);
            }
        }
    }

    fn wake_adopting_sets(&self, child: &ObjectMeta) {
        for set in self
            .caches
            .replica_sets
            .read()
            .in_namespace(child.namespace.as_deref().unwrap_or(""))
        {
            if set
                .spec
                .as_ref()
                .is_some_and(|spec| is_candidate(&spec.selector, child))
            {
                self.replica_sets.queue.add(ObjectKey::of(&set.metadata));
            }
        }
    }

    fn wake_adopting_jobs(&self, child: &ObjectMeta) {
        let jobs = self.caches.jobs.read();
        for job in jobs.in_namespace(child.namespace.as_deref().unwrap_or("")) {
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if selector.is_some_and(|selector| is_candidate(selector, child)) {
                self.jobs.queue.add(ObjectKey::of(&job.metadata));
            }
        }
    }

    pub(crate) fn node_changed(&self, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>) {
        let Some(node) = new.or(old) else { return };
        let key = ObjectKey::of(&node.metadata);
        if new.is_none() {
            self.caches.heartbeats.forget(&key.name);
            self.caches.taint_changes.forget(&key.name);
            self.pod_gc.queue.add(PodGcController::key());
        } else {
            let now = Timestamp::now();
            self.caches.heartbeats.note(&key.name, 1, ready_heartbeat(node), now);
            let taints: Vec<String> = no_execute(node)
                .map(|taint| format!("{}={}", taint.key, taint.value.as_deref().unwrap_or("")))
                .collect();
            self.caches.taint_changes.note(&key.name, 0, taints.join(","), now);
            if old.is_none() && self.leading.load(Ordering::Relaxed) {
                self.register(node);
            }
        }
        self.wake_node(&key);
        if let Some(ipam) = self
            .node_ipam
            .as_ref()
            .filter(|_| new.is_none() || NodeIpamController::concerns(node))
        {
            ipam.queue.add(NodeIpamController::key());
        }
    }

    fn register(&self, node: &Node) {
        let name = node.metadata.name.as_deref().unwrap_or("");
        let draft = EventDraft {
            regarding: Regarding::of(&Resource::NODE, &node.metadata),
            warning: false,
            reason: "RegisteredNode",
            message: format!("Node {name} event: Registered Node {name} in Controller"),
        };
        self.recorder
            .record(NodeLifecycleController::NAME, Style::Source, draft);
    }

    fn wake_node(&self, key: &ObjectKey) {
        self.node_lifecycle.queue.add(key.clone());
        self.taint_eviction.queue.add(key.clone());
    }

    /// A node's lease: a heartbeat is noted and wakes nobody, unless the node was given up.
    pub(crate) fn lease_changed(&self, new: Option<&Arc<Lease>>) {
        let Some(lease) = new else { return };
        let key = ObjectKey::cluster(lease.metadata.name.clone().unwrap_or_default());
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref())
            .map(|time| time.0.to_string());
        self.caches
            .heartbeats
            .note(&key.name, 0, renewed.unwrap_or_default(), Timestamp::now());
    }

    /// A namespace, or what it must contain.
    pub(crate) fn namespace_changed(&self, key: &ObjectKey) {
        self.service_accounts.queue.add(key.clone());
        self.root_ca.queue.add(key.clone());
    }
}

fn owner_key(meta: &ObjectMeta, kind: &str) -> Option<ObjectKey> {
    let owner = controller_of(meta).filter(|owner| owner.kind == kind)?;
    Some(ObjectKey::new(
        meta.namespace.clone().unwrap_or_default(),
        owner.name.clone(),
    ))
}

fn is_candidate(selector: &LabelSelector, child: &ObjectMeta) -> bool {
    controller_of(child).is_none() && selects(selector, child.labels.as_ref())
}

/// The part of the Ready condition that changes when the node reports.
fn ready_heartbeat(node: &Node) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    let at = ready.and_then(|ready| ready.last_heartbeat_time.as_ref());
    // Our own verdict "Unknown" is no sign of life.
    let known = ready.filter(|ready| ready.status != "Unknown");
    format!(
        "{} {}",
        known.map_or("", |ready| ready.status.as_str()),
        at.map(|at| at.0.to_string()).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
