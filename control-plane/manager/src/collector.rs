//! Feeds the garbage collector's graph: from the typed caches where there are some, by metadata watches elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use skiff_controllers::{Caches, GarbageCollector, GraphNode, ObjectKey, Resource};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::discovery::{Served, discover};
use crate::informers::{Backoff, all_synced};
use crate::requests::Requests;
use crate::runner::Runner;

/// Collection of objects at once; one slow deletion must not hold up the others (Kubernetes' 20).
const WORKERS: usize = 8;
/// How often the list of served resources is read again.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// Pause after a failed discovery.
const DISCOVERY_RETRY: Duration = Duration::from_millis(500);
/// Whole objects of these are cached already; their metadata comes from there.
const CACHED: [Resource; 7] = [
    Resource::POD,
    Resource::REPLICA_SET,
    Resource::DEPLOYMENT,
    Resource::JOB,
    Resource::CRON_JOB,
    Resource::NODE,
    Resource::NAMESPACE,
];

pub(crate) struct Collector {
    caches: Arc<Caches>,
    requests: Requests,
    runner: Arc<Runner<GarbageCollector>>,
    served: watch::Sender<Vec<Served>>,
    ready: watch::Sender<bool>,
    /// Told when an object of a namespace is gone.
    on_removal: Box<dyn Fn(&str) + Send + Sync>,
}

impl Collector {
    pub(crate) fn new(
        caches: Arc<Caches>,
        requests: Requests,
        runner: Arc<Runner<GarbageCollector>>,
        on_removal: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (served, ready) = (watch::Sender::new(Vec::new()), watch::Sender::new(false));
        Arc::new(Collector {
            caches,
            requests,
            runner,
            served,
            ready,
            on_removal: Box::new(on_removal),
        })
    }

    /// The served resources, from the first discovery on.
    pub(crate) fn served(&self) -> watch::Receiver<Vec<Served>> {
        self.served.subscribe()
    }

    /// An object of a cached kind changed.
    pub(crate) fn changed(&self, resource: &Resource, old: Option<&ObjectMeta>, new: Option<&ObjectMeta>) {
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid != old.uid)) {
            self.removed(old.uid.as_deref().unwrap_or(""), old.namespace.as_deref());
        }
        if let Some(new) = new {
            self.inserted(resource, new);
        }
    }

    fn inserted(&self, resource: &Resource, meta: &ObjectMeta) {
        let wake = self.caches.graph_mut().insert(GraphNode::new(resource, meta));
        self.wake(wake);
    }

    fn removed(&self, uid: &str, namespace: Option<&str>) {
        let wake = self.caches.graph_mut().remove(uid);
        self.wake(wake);
        if let Some(namespace) = namespace {
            (self.on_removal)(namespace);
        }
    }

    fn wake(&self, uids: Vec<String>) {
        uids.into_iter()
            .for_each(|uid| self.runner.queue.add(ObjectKey::cluster(uid)));
    }

    /// Keeps discovering, with a watch for each resource that is collected.
    pub(crate) fn start_watches(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        let (collector, tasks_of_watches, stop) = (self.clone(), tasks.clone(), stop.clone());
        tasks.spawn(async move {
            let work = collector.discover_for_ever(&tasks_of_watches, &stop);
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    async fn discover_for_ever(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        let mut watched: BTreeSet<Resource> = CACHED.into_iter().collect();
        loop {
            let served = match discover(&self.requests).await {
                Ok(served) => served,
                Err(error) => {
                    tracing::debug!(error = %error, "discovery failed");
                    tokio::time::sleep(DISCOVERY_RETRY).await;
                    continue;
                }
            };
            let collected: Vec<&Served> = served.iter().filter(|one| is_collected(one)).collect();
            let mut synced = Vec::new();
            for one in &collected {
                if watched.insert(one.resource.clone()) {
                    synced.push(self.watch(one.resource.clone(), tasks, stop));
                }
            }
            let resources = collected.into_iter().map(|one| one.resource.clone()).collect();
            if all_synced(&mut synced, stop).await {
                self.caches.graph_mut().set_served(resources);
                self.served.send_replace(served);
                self.ready.send_replace(true);
            }
            tokio::time::sleep(DISCOVERY_PERIOD).await;
        }
    }

    fn watch(
        self: &Arc<Self>,
        resource: Resource,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> watch::Receiver<bool> {
        let (synced, receiver) = watch::channel(false);
        let (collector, stop) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = collector.follow(&resource, &synced) => {}
            }
        });
        receiver
    }

    async fn follow(&self, resource: &Resource, synced: &watch::Sender<bool>) {
        let (group, version) = skiff_api::kind::split_api_version(&resource.api_version);
        let api_resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: resource.api_version.to_string(),
            kind: resource.kind.to_string(),
            plural: resource.plural.to_string(),
        };
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.requests.client(), &api_resource);
        let stream = watcher::watcher(api, Config::default()).backoff(Backoff::default());
        let mut stream = std::pin::pin!(stream);
        let mut listed: Option<BTreeSet<String>> = None;
        let uid = |object: &PartialObjectMeta<DynamicObject>| object.metadata.uid.clone().unwrap_or_default();
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => listed = Some(BTreeSet::new()),
                Ok(Event::InitApply(object)) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(uid(&object));
                    }
                    self.inserted(resource, &object.metadata);
                }
                Ok(Event::InitDone) => {
                    let listed = listed.take().unwrap_or_default();
                    let gone = self
                        .caches
                        .graph()
                        .uids_of(resource)
                        .into_iter()
                        .filter(|uid| !listed.contains(uid));
                    gone.collect::<Vec<_>>().iter().for_each(|uid| self.removed(uid, None));
                    synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.inserted(resource, &object.metadata),
                Ok(Event::Delete(object)) => self.removed(&uid(&object), object.metadata.namespace.as_deref()),
                Err(error) => tracing::debug!(kind = %resource.kind, error = %error, "metadata watch was interrupted"),
            }
        }
    }

    /// Starts collecting, once the graph is complete: before that, "nothing depends on it" means nothing.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        let (collector, tracker, stop) = (self.clone(), tasks.clone(), stop.clone());
        tasks.spawn(async move {
            let mut ready = collector.ready.subscribe();
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ready.wait_for(|ready| *ready) => {}
            }
            let candidates = collector.caches.graph().candidates();
            collector.wake(candidates);
            collector.runner.start(WORKERS, &tracker, &stop);
        });
    }
}

/// Events own nothing, are owned by nothing, and are many.
fn is_collected(served: &Served) -> bool {
    served.resource.plural != "events" && ["list", "watch", "delete"].iter().all(|verb| served.can(verb))
}
