//! Drives the scheduler: keeps its picture of the cluster, takes waiting pods one by one, binds in the background.
//!
//! A decision is assumed at once, so that the next pod sees it; the binding itself may still be refused (the node's
//! ledger in the API server has the last word), and then the pod waits again.

mod pending;
mod report;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use serde_json::json;
use skiff_controllers::{Caches, ObjectKey, Resource};
use skiff_scheduler::{Cluster, Cursor, Decision, PodInfo, schedule};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pending::Waiting;
use crate::queue::Queue;
use crate::recorder::Recorder;
use crate::requests::{RequestError, Requests, object};

/// The name by which pods ask for this scheduler; pods that name another one are left alone.
const SCHEDULER_NAME: &str = "default-scheduler";
/// Bindings and status writes under way at once: enough to keep the API server busy, few enough to stay bounded.
const WRITES_MAX: usize = 64;
/// A pod that nothing has woken is tried again after so long (Kubernetes' 5 minutes).
const FLUSH_AFTER: Duration = Duration::from_secs(300);

struct Picture {
    cluster: Cluster,
    waiting: Waiting,
}

pub(crate) struct Scheduling {
    caches: Arc<Caches>,
    picture: Mutex<Picture>,
    queue: Queue<ObjectKey>,
    requests: Requests,
    recorder: Recorder,
    seed: u64,
}

/// Whether this scheduler has to find a node for the pod.
fn wants_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.as_deref().unwrap_or("").is_empty()
        && pod.metadata.deletion_timestamp.is_none()
        && spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME) == SCHEDULER_NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !is_finished(pod)
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// What filters and scores see of a pod that is placed.
fn same_for_scheduling(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels == new.metadata.labels
        && old.metadata.deletion_timestamp.is_some() == new.metadata.deletion_timestamp.is_some()
        && old.spec == new.spec
        && is_finished(old) == is_finished(new)
}

/// What filters and scores see of a node.
fn same_node(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.metadata.labels == new.metadata.labels && old.spec == new.spec && allocatable(old) == allocatable(new)
}

impl Scheduling {
    pub(crate) fn new(caches: Arc<Caches>, requests: Requests, recorder: Recorder, seed: u64) -> Arc<Self> {
        let picture = Mutex::new(Picture {
            cluster: Cluster::default(),
            waiting: Waiting::default(),
        });
        Arc::new(Scheduling {
            caches,
            picture,
            queue: Queue::new(),
            requests,
            recorder,
            seed,
        })
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch saw a pod change.
    pub(crate) fn pod_changed(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        let Some(pod) = new.or(old) else { return };
        let key = ObjectKey::of(&pod.metadata);
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let replaced = old.filter(|old| old.metadata.uid != pod.metadata.uid);
        if let Some(replaced) = replaced {
            self.free(replaced.metadata.uid.as_deref().unwrap_or(""));
        }
        let Some(new) = new else {
            self.picture().waiting.forget(&key);
            self.free(uid);
            return;
        };
        if is_finished(new) {
            self.free(uid);
        } else if let Some(node) = node_name(new) {
            let known = old.filter(|old| node_name(old).is_some() && same_for_scheduling(old, new));
            if known.is_none() {
                let info = Arc::new(PodInfo::placed(new));
                let mut picture = self.picture();
                picture.waiting.forget(&key);
                picture.cluster.place_pod(node, info);
            }
        } else if wants_node(new) && old.is_none_or(|old| !wants_node(old) || !same_for_scheduling(old, new)) {
            self.queue.add(key);
        }
    }

    fn free(&self, uid: &str) {
        if self.picture().cluster.remove_pod(uid).is_some() {
            self.wake_waiting();
        }
    }

    /// The watch saw a node change.
    pub(crate) fn node_changed(&self, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>) {
        match new {
            Some(new) => {
                self.picture().cluster.set_node(new.clone());
                if old.is_none_or(|old| !same_node(old, new)) {
                    self.wake_waiting();
                }
            }
            None => {
                if let Some(name) = old.and_then(|old| old.metadata.name.as_deref()) {
                    self.picture().cluster.remove_node(name);
                }
            }
        }
    }

    /// The watch saw a namespace change: its labels count for pod affinity.
    pub(crate) fn namespace_changed(&self, old: Option<&Arc<Namespace>>, new: Option<&Arc<Namespace>>) {
        match (old, new) {
            (_, Some(new)) => self.picture().cluster.set_namespace(new.clone()),
            (Some(old), None) => self
                .picture()
                .cluster
                .remove_namespace(old.metadata.name.as_deref().unwrap_or("")),
            (None, None) => {}
        }
    }

    /// Something has changed that may let a waiting pod fit.
    fn wake_waiting(&self) {
        for (key, delay) in self.picture().waiting.release(Instant::now()) {
            self.queue.add_after(key, delay);
        }
    }

    /// Starts the loop; it ends when `stop` is cancelled.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        let (scheduling, stop, writers) = (self.clone(), stop.clone(), tasks.clone());
        tasks.spawn(async move {
            let writes = Arc::new(Semaphore::new(WRITES_MAX));
            let mut cursor = Cursor::default();
            loop {
                let key = tokio::select! {
                    () = stop.cancelled() => return,
                    key = scheduling.queue.next() => key,
                };
                let Ok(permit) = writes.clone().acquire_owned().await else {
                    return;
                };
                if let Some(work) = scheduling.decide(&key, &mut cursor) {
                    let scheduling = scheduling.clone();
                    writers.spawn(async move {
                        scheduling.carry_out(work).await;
                        drop(permit);
                    });
                }
                scheduling.queue.done(&key);
            }
        });
    }

    /// One cycle. `None`: there is nothing to do for this key any more.
    fn decide(&self, key: &ObjectKey, cursor: &mut Cursor) -> Option<Work> {
        let pod = self.caches.pods.read().get(key).filter(|pod| wants_node(pod))?;
        let info = Arc::new(PodInfo::new(pod.clone()));
        let mut picture = self.picture();
        if picture.cluster.node_of(info.uid()).is_some() {
            return None;
        }
        match schedule(&picture.cluster, &info, cursor, self.seed) {
            Decision::Bind(node) => {
                picture.cluster.place_pod(&node, info);
                Some(Work::Bind { pod, node })
            }
            Decision::Wait(explanation) => {
                picture.waiting.wait(key.clone(), Instant::now());
                drop(picture);
                self.queue.add_after(key.clone(), FLUSH_AFTER);
                Some(Work::Report {
                    pod,
                    message: explanation.to_string(),
                })
            }
        }
    }

    async fn carry_out(&self, work: Work) {
        match work {
            Work::Bind { pod, node } => self.bind(&pod, &node).await,
            Work::Report { pod, message } => self.report(&pod, &message).await,
        }
    }

    async fn bind(&self, pod: &Arc<Pod>, node: &str) {
        let key = ObjectKey::of(&pod.metadata);
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let result = self
            .requests
            .create(&format!("{}/binding", object(&Resource::POD, &key)), &body)
            .await;
        match result {
            Ok(_) => {
                self.queue.forget(&key);
                self.picture().waiting.forget(&key);
                report::assigned(&self.recorder, pod, node);
            }
            Err(error) => self.refused(pod, &key, node, &error),
        }
    }

    /// The binding was refused: the pod waits again, unless it is bound already. One that is gone is dropped then.
    fn refused(&self, pod: &Arc<Pod>, key: &ObjectKey, node: &str, error: &RequestError) {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let seen = self.caches.pods.read().get(key);
        let bound = seen
            .as_ref()
            .is_some_and(|seen| seen.metadata.uid == pod.metadata.uid && node_name(seen).is_some());
        if bound {
            return;
        }
        self.picture().cluster.remove_pod(uid);
        let delay = self.queue.back_off(key.clone());
        tracing::debug!(pod = %key, node, error = %error, ?delay, "binding was refused");
    }
}

enum Work {
    Bind { pod: Arc<Pod>, node: String },
    Report { pod: Arc<Pod>, message: String },
}
