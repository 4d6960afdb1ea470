//! Our Node object: registered at start, its status reported on change and every five minutes, watched for the podCIDR;
//! and the Lease whose renewal says that we live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use skiff_lifecycle::EventKind;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::config::AgentConfig;
use crate::error::chain;
use crate::events::Events;
use crate::machine::{self, Machine, Pressure};
use crate::pod_network::PodNetwork;

/// Kubelet's nodeLeaseDurationSeconds, and a quarter of it between renewals.
const LEASE_DURATION_SECONDS: i32 = 40;
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Kubelet's nodeStatusReportFrequency.
const STATUS_INTERVAL: Duration = Duration::from_secs(300);
/// How often pressure on memory and disk is looked at.
const PRESSURE_INTERVAL: Duration = Duration::from_secs(10);
/// Between tries while the server does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct NodeStatus {
    pub(crate) config: AgentConfig,
    pub(crate) handlers: Vec<String>,
    pub(crate) client: kube::Client,
    pub(crate) events: Events,
    pub(crate) network: PodNetwork,
    pub(crate) node: watch::Sender<Option<Arc<Node>>>,
}

impl NodeStatus {
    /// Registers the node and keeps its status true.
    pub(crate) async fn run(self) {
        let machine = machine::describe(&self.config);
        let api: Api<Node> = Api::all(self.client.clone());
        let mut told = false;
        let mut failures = Failures::default();
        loop {
            let pressure = machine::pressure(&self.config);
            match self.register(&api, &machine, &pressure).await {
                Ok(node) => {
                    failures.forget();
                    if !std::mem::replace(&mut told, true) {
                        info!(node = self.config.node_name, "registered the node");
                        self.tell_started(&node);
                    }
                    self.take(node);
                    self.follow(&api, &machine, pressure).await;
                    warn!(node = self.config.node_name, "our Node is gone, registering again");
                }
                Err(error) => {
                    failures.tell("could not register the node yet", &chain(&error));
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn tell_started(&self, node: &Node) {
        let name = &self.config.node_name;
        self.events
            .node(node, EventKind::Normal, "Starting", "Starting kubelet.".to_owned());
        for reason in [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
            "NodeReady",
        ] {
            self.events.node(
                node,
                EventKind::Normal,
                reason,
                format!("Node {name} status is now: {reason}"),
            );
        }
    }

    /// What others need of a Node that we saw.
    fn take(&self, node: Node) {
        let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
        if let Some(cidr) = cidr.filter(|cidr| !cidr.is_empty())
            && let Err(error) = self.network.set_cidr(&cidr)
        {
            warn!(error = chain(&error), "could not write down the podCIDR");
        }
        self.node.send_replace(Some(Arc::new(node)));
    }

    async fn register(&self, api: &Api<Node>, machine: &Machine, pressure: &Pressure) -> Result<Node, kube::Error> {
        let labels = self.labels(machine);
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": self.config.node_name, "labels": labels },
            "status": self.status(machine, pressure, &[]),
        }))
        .map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(answer)) if answer.code == 409 => {}
            other => return other,
        }
        let patch = json!({ "metadata": { "labels": labels } });
        api.patch(&self.config.node_name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        self.report(api, machine, pressure).await
    }

    async fn report(&self, api: &Api<Node>, machine: &Machine, pressure: &Pressure) -> Result<Node, kube::Error> {
        let old = self.node.borrow().clone();
        let old = match old {
            Some(node) => node,
            None => Arc::new(api.get(&self.config.node_name).await?),
        };
        let conditions = old
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        let patch = json!({ "status": self.status(machine, pressure, &conditions) });
        api.patch_status(
            &self.config.node_name,
            &PatchParams::default(),
            &Patch::Strategic(&patch),
        )
        .await
    }

    /// Watches the Node and reports until the Node is gone.
    async fn follow(&self, api: &Api<Node>, machine: &Machine, mut pressure: Pressure) {
        let mut seen = watcher::watch_object(api.clone(), &self.config.node_name).boxed();
        let mut look = tokio::time::interval(PRESSURE_INTERVAL);
        let mut reported = tokio::time::Instant::now();
        let mut failed = false;
        loop {
            tokio::select! {
                node = seen.next() => match node {
                    Some(Ok(Some(node))) => self.take(node),
                    Some(Ok(None)) => return,
                    // The watch tries again by itself on the next poll; this keeps it from spinning.
                    Some(Err(_)) | None => tokio::time::sleep(RETRY_INTERVAL).await,
                },
                _ = look.tick() => {
                    let now = machine::pressure(&self.config);
                    if now == pressure && reported.elapsed() < STATUS_INTERVAL && !failed {
                        continue;
                    }
                    pressure = now;
                    reported = tokio::time::Instant::now();
                    match tokio::time::timeout(REQUEST_TIMEOUT, self.report(api, machine, &pressure)).await {
                        Ok(Ok(node)) => { failed = false; self.take(node) }
                        Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => return,
                        Ok(Err(error)) => { failed = true; warn!(error = chain(&error), "could not report the node's status") }
                        Err(_) => { failed = true; warn!("reporting the node's status took too long") }
                    }
                }
            }
        }
    }

    fn labels(&self, machine: &Machine) -> BTreeMap<String, String> {
        let mut labels = self.config.labels.clone();
        for prefix in ["beta.kubernetes.io", "kubernetes.io"] {
            labels.insert(format!("{prefix}/arch"), machine.architecture.clone());
            labels.insert(format!("{prefix}/os"), "linux".to_owned());
        }
        labels.insert("kubernetes.io/hostname".to_owned(), self.config.node_name.clone());
        labels
    }

    fn status(&self, machine: &Machine, pressure: &Pressure, old: &[NodeCondition]) -> Value {
        let now = Timestamp::now();
        let condition = |type_: &str, status: bool, reason: &str, message: &str| {
            let status = if status { "True" } else { "False" };
            let since = old
                .iter()
                .find(|condition| condition.type_ == type_ && condition.status == status)
                .and_then(|condition| condition.last_transition_time.clone())
                .unwrap_or(Time(now));
            json!({
                "type": type_, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": Time(now), "lastTransitionTime": since,
            })
        };
        let memory = match pressure.memory {
            true => (
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
            false => ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        };
        let disk = match pressure.disk {
            true => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            false => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        };
        let handlers: Vec<Value> = self
            .handlers
            .iter()
            .map(|name| json!({ "name": name, "features": { "recursiveReadOnlyMounts": false, "userNamespaces": false } }))
            .collect();
        json!({
            "capacity": machine.capacity,
            "allocatable": machine.allocatable,
            "addresses": [
                { "type": "InternalIP", "address": self.config.node_ip.to_string() },
                { "type": "Hostname", "address": self.config.node_name },
            ],
            "nodeInfo": machine.info,
            "runtimeHandlers": handlers,
            "conditions": [
                condition("MemoryPressure", pressure.memory, memory.0, memory.1),
                condition("DiskPressure", pressure.disk, disk.0, disk.1),
                condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
            ],
        })
    }
}

/// Tells of the first failure of a row only: a server that is away for a day is one line.
#[derive(Default)]
struct Failures {
    last: Option<String>,
}

impl Failures {
    fn tell(&mut self, what: &'static str, why: &str) {
        if self.last.as_deref() == Some(why) {
            return debug!(error = why, what);
        }
        warn!(error = why, what);
        self.last = Some(why.to_owned());
    }

    fn forget(&mut self) {
        self.last = None;
    }
}

/// Renews the node's Lease for as long as the agent lives.
pub(crate) async fn keep_lease(client: kube::Client, node_name: String, mut node: watch::Receiver<Option<Arc<Node>>>) {
    // The Lease belongs to the Node, so that it goes with it.
    if node.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let api: Api<Lease> = Api::namespaced(client, LEASE_NAMESPACE);
    let mut failures = Failures::default();
    loop {
        let renewed = tokio::time::timeout(REQUEST_TIMEOUT, renew(&api, &node_name, &node)).await;
        let failure = match renewed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("it took too long".to_owned()),
        };
        let wait = match failure {
            None => {
                failures.forget();
                LEASE_INTERVAL
            }
            Some(failure) => {
                failures.tell("could not renew the node's lease", &failure);
                RETRY_INTERVAL
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew(
    api: &Api<Lease>,
    node_name: &str,
    node: &watch::Receiver<Option<Arc<Node>>>,
) -> Result<(), kube::Error> {
    let now = MicroTime(Timestamp::now());
    let patch = json!({ "spec": { "holderIdentity": node_name, "renewTime": now } });
    match api
        .patch(node_name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {}
        other => return other.map(|_| ()),
    }
    let owner = node
        .borrow()
        .as_ref()
        .and_then(|node| node.metadata.uid.clone())
        .map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node_name.to_owned(),
            uid,
            ..OwnerReference::default()
        });
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node_name.to_owned()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node_name.to_owned()),
            lease_duration_seconds: Some(LEASE_DURATION_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(|_| ())
}
