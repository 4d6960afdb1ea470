//! A pod as the scheduler sees it: what filters and scores ask for, read once.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, Toleration};

use crate::resources::{Resources, pod_requests};

/// A port on the node that a container wants: address (`""` is all), protocol, number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub(crate) address: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
}

impl HostPort {
    /// Two wishes collide when protocol and number are equal and the addresses overlap.
    pub(crate) fn collides(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty() || other.address.is_empty() || self.address == other.address)
    }
}

#[derive(Debug)]
pub struct PodInfo {
    /// The whole object, while a node is looked for.
    pod: Option<Arc<Pod>>,
    uid: String,
    name: String,
    namespace: String,
    labels: Option<BTreeMap<String, String>>,
    is_terminating: bool,
    anti_affinity: Vec<PodAffinityTerm>,
    pub requests: Resources,
    pub(crate) for_comparison: (i64, i64),
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) owner_uid: Option<String>,
}

impl PodInfo {
    /// A pod that a node is looked for.
    pub fn new(pod: Arc<Pod>) -> Self {
        PodInfo {
            pod: Some(pod.clone()),
            ..PodInfo::placed(&pod)
        }
    }

    /// A pod that has its node: only what other pods' searches ask for is kept.
    pub fn placed(pod: &Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let requests = pod_requests(spec);
        let meta = &pod.metadata;
        let mut owners = meta.owner_references.iter().flatten();
        let owner_uid = owners
            .find(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.clone());
        let anti_affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
            .and_then(|anti| anti.required_during_scheduling_ignored_during_execution.clone());
        PodInfo {
            pod: None,
            uid: meta.uid.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            labels: meta.labels.clone(),
            is_terminating: meta.deletion_timestamp.is_some(),
            anti_affinity: anti_affinity.unwrap_or_default(),
            for_comparison: requests.for_comparison(),
            requests,
            host_ports: host_ports(spec),
            owner_uid,
        }
    }

    pub fn uid(&self) -> &str {
        &self.uid
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    pub(crate) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.labels.as_ref()
    }
    pub(crate) fn spec(&self) -> Option<&PodSpec> {
        self.pod.as_ref()?.spec.as_ref()
    }
    pub(crate) fn tolerations(&self) -> &[Toleration] {
        self.spec()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default()
    }
    pub(crate) fn is_terminating(&self) -> bool {
        self.is_terminating
    }
    /// Names of the claims that it mounts.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &str> {
        let volumes = self.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        volumes
            .iter()
            .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
    }
    /// The pods that it must be near to.
    pub(crate) fn required_affinity(&self) -> &[PodAffinityTerm] {
        self.spec()
            .and_then(|spec| {
                spec.affinity
                    .as_ref()?
                    .pod_affinity
                    .as_ref()?
                    .required_during_scheduling_ignored_during_execution
                    .as_deref()
            })
            .unwrap_or_default()
    }

    /// The pods that it must not be near to.
    pub(crate) fn required_anti_affinity(&self) -> &[PodAffinityTerm] {
        &self.anti_affinity
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let address = port
                .host_ip
                .clone()
                .filter(|address| address != "0.0.0.0")
                .unwrap_or_default();
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(HostPort {
                address,
                protocol,
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}
