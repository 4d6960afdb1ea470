//! The pods of this node: watched through the API server, each handed to a worker of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::chain;
use crate::files;
use crate::worker::{self, Inputs};

/// Between tries of the watch while the server does not answer.
const WATCH_RETRY: Duration = Duration::from_millis(500);

/// What a worker may still be doing at the end, such as a call to a runtime that does not answer, is not waited for longer.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Pods {
    ctx: Arc<Context>,
    workers: Mutex<HashMap<String, Handle>>,
    /// Pods whose end is done here while others (finalizers) still keep the object.
    finished: Mutex<BTreeSet<String>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

struct Handle {
    pod: watch::Sender<Arc<Pod>>,
    wake: Arc<Notify>,
    status: watch::Receiver<Arc<PodStatus>>,
}

impl Pods {
    pub(crate) fn new(ctx: Arc<Context>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            ctx,
            workers: Mutex::default(),
            finished: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown,
        })
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.workers.lock().expect("no code panics while holding this lock")
    }

    pub(crate) fn context(&self) -> &Context {
        &self.ctx
    }

    /// Every pod that this node knows.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.workers()
            .values()
            .map(|handle| handle.pod.borrow().clone())
            .collect()
    }

    fn finished(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.finished.lock().expect("no code panics while holding this lock")
    }

    /// Takes up pods from before a restart; the API server is not needed for that.
    pub(crate) fn restore(self: &Arc<Self>, checkpoints: Vec<Checkpoint>) {
        for checkpoint in checkpoints {
            if !checkpoint.memory.is_over() {
                let uid = uid(&checkpoint.pod);
                self.ctx.admitted().insert(uid, Arc::new(checkpoint.pod.clone()));
            }
            self.start(Arc::new(checkpoint.pod.clone()), Some(checkpoint));
        }
    }

    /// A runtime says: look again at this pod.
    pub(crate) fn wake(&self, pod_uid: &str) {
        if let Some(handle) = self.workers().get(pod_uid) {
            handle.wake.notify_one();
        }
    }

    /// The pod as last seen and the status that we derived, for serving its logs.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<(Arc<Pod>, Arc<PodStatus>)> {
        let workers = self.workers();
        let all = workers
            .values()
            .map(|handle| (handle.pod.borrow().clone(), handle.status.borrow().clone()));
        let mut found = all.filter(|(pod, _)| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        });
        // After a quick delete and create two of the name may be here; the one not being deleted is meant.
        let first = found.next()?;
        Some(
            found
                .find(|(pod, _)| pod.metadata.deletion_timestamp.is_none())
                .unwrap_or(first),
        )
    }

    /// The pod as last seen.
    pub(crate) fn get(&self, pod_uid: &str) -> Option<Arc<Pod>> {
        self.workers().get(pod_uid).map(|handle| handle.pod.borrow().clone())
    }

    pub(crate) fn status(&self, pod_uid: &str) -> Option<Arc<PodStatus>> {
        self.workers().get(pod_uid).map(|handle| handle.status.borrow().clone())
    }

    /// Follows the API server until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let api: Api<Pod> = Api::all(self.ctx.client.clone());
        let selector = format!("spec.nodeName={}", self.ctx.config.node_name);
        let mut events = watcher::watcher(api, watcher::Config::default().fields(&selector)).boxed();
        let mut listed: Option<BTreeSet<String>> = None;
        let mut swept = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.shutdown.cancelled() => return,
            };
            match event {
                Some(Ok(Event::Init)) => listed = Some(BTreeSet::new()),
                Some(Ok(Event::InitApply(pod))) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(uid(&pod));
                    }
                    self.see(pod);
                }
                Some(Ok(Event::InitDone)) => {
                    self.forget_all_but(&listed.take().unwrap_or_default());
                    if !std::mem::replace(&mut swept, true) {
                        self.sweep().await;
                    }
                }
                Some(Ok(Event::Apply(pod))) => self.see(pod),
                Some(Ok(Event::Delete(pod))) => self.see_deleted(pod),
                Some(Err(error)) => {
                    debug!(error = chain(&error), "the pod watch was interrupted");
                    tokio::time::sleep(WATCH_RETRY).await;
                }
                None => return,
            }
        }
    }

    fn see(self: &Arc<Self>, pod: Pod) {
        if self.finished().contains(&uid(&pod)) {
            return;
        }
        let pod = Arc::new(pod);
        let known = {
            let workers = self.workers();
            let handle = workers.get(&uid(&pod));
            handle.map(|handle| handle.pod.send_replace(pod.clone())).is_some()
        };
        if !known {
            self.start(pod, None);
        }
    }

    /// The object is gone from the server, by force or while we were away: what runs of it ends.
    fn see_deleted(&self, mut pod: Pod) {
        self.finished().remove(&uid(&pod));
        let workers = self.workers();
        let Some(handle) = workers.get(&uid(&pod)) else { return };
        if pod.metadata.deletion_timestamp.is_none() {
            pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
        }
        handle.pod.send_replace(Arc::new(pod));
    }

    fn forget_all_but(&self, listed: &BTreeSet<String>) {
        self.finished().retain(|uid| listed.contains(uid));
        let gone: Vec<Arc<Pod>> = {
            let workers = self.workers();
            let gone = workers.iter().filter(|(uid, _)| !listed.contains(*uid));
            gone.map(|(_, handle)| handle.pod.borrow().clone()).collect()
        };
        for pod in gone {
            self.see_deleted(Pod::clone(&pod));
        }
    }

    fn start(self: &Arc<Self>, pod: Arc<Pod>, checkpoint: Option<Checkpoint>) {
        let uid = uid(&pod);
        let (status_sender, status) = watch::channel(Arc::new(pod.status.clone().unwrap_or_default()));
        let (sender, receiver) = watch::channel(pod);
        let wake = Arc::new(Notify::new());
        self.workers().insert(
            uid.clone(),
            Handle {
                pod: sender,
                wake: wake.clone(),
                status,
            },
        );
        let inputs = Inputs {
            pod: receiver,
            wake,
            checkpoint,
            status: status_sender,
            shutdown: self.shutdown.clone(),
        };
        let this = self.clone();
        self.tasks.spawn(async move {
            let finished = worker::run(this.ctx.clone(), inputs).await;
            if finished {
                this.finished().insert(uid.clone());
                this.workers().remove(&uid);
            }
        });
    }

    /// Removes what pods left behind that we do not know any more. A worker is registered before anything of its pod is
    /// made, so what is found first and has no worker then is a leftover.
    async fn sweep(&self) {
        let known = |uid: &str| self.workers().contains_key(uid);
        for runtime in self.ctx.runtimes.values() {
            let sandboxes = match runtime.list().await {
                Ok(sandboxes) => sandboxes,
                Err(error) => {
                    warn!(error = chain(&error), "could not look for leftover sandboxes");
                    continue;
                }
            };
            for sandbox in sandboxes.into_iter().filter(|sandbox| !known(&sandbox.pod_uid)) {
                info!(
                    pod = sandbox.name,
                    namespace = sandbox.namespace,
                    "removed a leftover sandbox"
                );
                if let Err(error) = runtime.remove_sandbox(&sandbox.pod_uid).await {
                    warn!(error = chain(&error), "could not remove a leftover sandbox");
                }
            }
        }
        self.ctx.network.retain(known);
        remove_unknown(&self.ctx.pods_directory(), known);
        let has_pod = |name: &str| name.rsplit_once('_').is_some_and(|(_, uid)| known(uid));
        remove_unknown(&self.ctx.config.log_dir, has_pod);
    }

    /// Waits for all workers after shutdown.
    pub(crate) async fn wait(&self) {
        self.tasks.close();
        if tokio::time::timeout(END_WAIT_MAX, self.tasks.wait()).await.is_err() {
            warn!("some pods' workers did not end in time");
        }
    }
}

fn remove_unknown(directory: &std::path::Path, is_known: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(&is_known) {
            continue;
        }
        if let Err(error) = files::remove_directory(&entry.path()) {
            warn!(error = chain(&error), "could not remove a leftover directory");
        }
    }
}

pub(crate) fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
