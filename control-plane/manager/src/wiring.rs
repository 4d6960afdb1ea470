//! What exists and who holds what: caches, informers, recorders, controllers, scheduler, elections.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::watcher::Config;
use skiff_controllers::{
    Caches, DEFAULT_SERVICE_ACCOUNT, GarbageCollector, ObjectKey, ROOT_CA_MAP, Resource, trim_node, trim_pod,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::collector::Collector;
use crate::config::{Clients, ManagerConfig};
use crate::controllers::Controllers;
use crate::election::Election;
use crate::events;
use crate::executor::Executor;
use crate::informers::{Informer, all_synced};
use crate::namespaces::Namespaces;
use crate::recorder::Recorder;
use crate::requests::Requests;
use crate::runner::Runner;
use crate::scheduling::Scheduling;

/// Names in leases, `managedFields` and audit logs: Kubernetes' own.
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
/// Where nodes keep their heartbeat leases.
const NODE_LEASES: &str = "kube-node-lease";

pub(crate) async fn run(clients: Clients, config: ManagerConfig, shutdown: CancellationToken) {
    let host: Arc<str> = config.identity.split('_').next().unwrap_or_default().into();
    let for_controllers = Requests::new(clients.controllers, CONTROLLER_MANAGER);
    let for_scheduler = Requests::new(clients.scheduler, SCHEDULER);
    let caches = Arc::new(Caches::default());
    let events_of_controllers = Recorder::start(for_controllers.clone(), host.clone());
    let executor = Executor::new(for_controllers.clone(), events_of_controllers.clone());
    let controllers = Controllers::new(&caches, &executor, &events_of_controllers, &config);
    let namespaces = Namespaces::new(caches.clone(), for_controllers.clone(), executor.clone());
    let collector = {
        let (runner, namespaces) = (
            Runner::new(GarbageCollector, caches.clone(), executor.clone()),
            namespaces.clone(),
        );
        Collector::new(caches.clone(), for_controllers.clone(), runner, move |namespace| {
            namespaces.object_removed(namespace)
        })
    };
    let recorder = Recorder::start(for_scheduler.clone(), host);
    let scheduling = Scheduling::new(caches.clone(), for_scheduler.clone(), recorder, seed(&config.identity));

    let tasks = TaskTracker::new();
    let hearers = Hearers {
        controllers: controllers.clone(),
        scheduling: scheduling.clone(),
        collector: collector.clone(),
        namespaces: namespaces.clone(),
    };
    let mut synced = start_informers(&for_controllers, &caches, &hearers, &tasks, &shutdown);
    collector.start_watches(&tasks, &shutdown);
    if all_synced(&mut synced, &shutdown).await {
        let controllers_term = |term: CancellationToken| {
            let (controllers, collector, namespaces) = (controllers.clone(), collector.clone(), namespaces.clone());
            let (requests, executor, ttl) = (for_controllers.clone(), executor.clone(), config.times.event_ttl);
            async move {
                let tasks = TaskTracker::new();
                controllers.start(&tasks, &term);
                collector.start(&tasks, &term);
                namespaces.start(collector.served(), &tasks, &term);
                events::start(requests, executor, ttl, &tasks, &term);
                end(&tasks, &term).await;
                controllers.stopped();
            }
        };
        let scheduler_term = |term: CancellationToken| {
            let scheduling = scheduling.clone();
            async move {
                let tasks = TaskTracker::new();
                scheduling.start(&tasks, &term);
                end(&tasks, &term).await;
            }
        };
        if config.leader_elect {
            let election = |requests: Requests, lease: &'static str| Election {
                requests,
                lease,
                identity: config.identity.clone(),
                times: config.lease,
            };
            let (manager, scheduler) = (
                election(for_controllers.clone(), CONTROLLER_MANAGER),
                election(for_scheduler, SCHEDULER),
            );
            tokio::join!(
                manager.run(shutdown.clone(), controllers_term),
                scheduler.run(shutdown.clone(), scheduler_term)
            );
        } else {
            tokio::join!(controllers_term(shutdown.clone()), scheduler_term(shutdown.clone()));
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Waits for the end of a term: what was begun is finished.
async fn end(tasks: &TaskTracker, term: &CancellationToken) {
    term.cancelled().await;
    tasks.close();
    tasks.wait().await;
}

/// Two processes that break ties differently do not fight for one node.
fn seed(identity: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

/// Who is told about changes.
struct Hearers {
    controllers: Arc<Controllers>,
    scheduling: Arc<Scheduling>,
    collector: Arc<Collector>,
    namespaces: Arc<Namespaces>,
}

fn start_informers(
    requests: &Requests,
    caches: &Arc<Caches>,
    hearers: &Hearers,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Vec<watch::Receiver<bool>> {
    let client = || requests.client();
    let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
    let hear = || {
        (
            hearers.controllers.clone(),
            hearers.scheduling.clone(),
            hearers.collector.clone(),
        )
    };
    macro_rules! informer {
        ($api:expr, $config:expr, $cache:ident, $trim:expr, $on_change:expr) => {
            Informer {
                api: $api,
                config: $config,
                caches: caches.clone(),
                cache: |caches| &caches.$cache,
                trim: $trim,
                on_change: Arc::new($on_change),
            }
            .start(tasks, stop)
        };
    }
    let all = Config::default;
    let (c, s, g) = hear();
    let nodes = informer!(Api::all(client()), all(), nodes, trim_node, move |old, new| {
        c.node_changed(old, new);
        s.node_changed(old, new);
        tell(&g, &Resource::NODE, old, new);
    });
    let (c, s, g) = hear();
    let pods = informer!(Api::all(client()), all(), pods, trim_pod, move |old, new| {
        s.pod_changed(old, new);
        c.pod_changed(old, new);
        tell(&g, &Resource::POD, old, new);
    });
    let (c, _, g) = hear();
    let sets = informer!(Api::all(client()), all(), replica_sets, |_| (), move |old, new| {
        c.replica_set_changed(old, new);
        tell(&g, &Resource::REPLICA_SET, old, new);
    });
    let (c, _, g) = hear();
    let deployments = informer!(Api::all(client()), all(), deployments, |_| (), move |old, new| {
        c.deployment_changed(old, new);
        tell(&g, &Resource::DEPLOYMENT, old, new);
    });
    let (c, _, g) = hear();
    let jobs = informer!(Api::all(client()), all(), jobs, |_| (), move |old, new| {
        c.job_changed(old, new);
        tell(&g, &Resource::JOB, old, new);
    });
    let (c, _, g) = hear();
    let cron_jobs = informer!(Api::all(client()), all(), cron_jobs, |_| (), move |old, new| {
        c.cron_job_changed(old, new);
        tell(&g, &Resource::CRON_JOB, old, new);
    });
    let (c, _, _) = hear();
    let leases = informer!(
        Api::namespaced(client(), NODE_LEASES),
        all(),
        leases,
        |_| (),
        move |_, new| {
            c.lease_changed(new);
        }
    );
    let (c, s, g) = hear();
    let n = hearers.namespaces.clone();
    let namespaces = informer!(Api::all(client()), all(), namespaces, |_| (), move |old, new| {
        s.namespace_changed(old, new);
        if let Some(namespace) = new.or(old) {
            let key = ObjectKey::of(&namespace.metadata);
            c.namespace_changed(&key);
            n.changed(&key);
        }
        tell(&g, &Resource::NAMESPACE, old, new);
    });
    let (c, _, _) = hear();
    let accounts = informer!(
        Api::all(client()),
        named(DEFAULT_SERVICE_ACCOUNT),
        service_accounts,
        |_| (),
        move |old, new| {
            if let (Some(old), None) = (old, new) {
                c.namespace_changed(&ObjectKey::cluster(old.metadata.namespace.clone().unwrap_or_default()));
            }
        }
    );
    let (c, _, _) = hear();
    let maps = informer!(
        Api::all(client()),
        named(ROOT_CA_MAP),
        root_ca_maps,
        |_| (),
        move |old, new| {
            if let Some(map) = new.or(old) {
                c.namespace_changed(&ObjectKey::cluster(map.metadata.namespace.clone().unwrap_or_default()));
            }
        }
    );
    vec![
        nodes,
        pods,
        sets,
        deployments,
        jobs,
        cron_jobs,
        leases,
        namespaces,
        accounts,
        maps,
    ]
}

fn tell<K: Metadata<Ty = ObjectMeta>>(
    collector: &Collector,
    resource: &Resource,
    old: Option<&Arc<K>>,
    new: Option<&Arc<K>>,
) {
    collector.changed(resource, old.map(|old| old.metadata()), new.map(|new| new.metadata()));
}
