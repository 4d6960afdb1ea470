//! What the agent is told at start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::eviction::EvictionHard;
use crate::join::Identity;

/// Kubernetes' own default for pods on one node.
pub const MAX_PODS_DEFAULT: u32 = 110;
/// `nodeInfo.kubeletVersion`: the Kubernetes release whose behaviour this agent follows.
pub const KUBELET_VERSION: &str = "v1.36.2+skiff";

/// Settings of one agent. `AgentConfig::new` fills the defaults.
#[derive(Clone)]
pub struct AgentConfig {
    pub server_url: String,
    pub identity: Identity,
    pub node_name: String,
    pub data_dir: PathBuf,
    /// Where pod logs go: `<log_dir>/<namespace>_<name>_<uid>/<container>/<restart count>.log`.
    pub log_dir: PathBuf,
    /// The node's InternalIP.
    pub node_ip: IpAddr,
    /// Extra labels for the Node.
    pub labels: BTreeMap<String, String>,
    pub max_pods: u32,
    /// Below these the node is under pressure.
    pub eviction_hard: EvictionHard,
    /// For `nodeInfo.containerRuntimeVersion`, such as `wasmtime://48.0.8`.
    pub container_runtime_version: String,
    /// RuntimeClass handler of pods that name none.
    pub default_handler: String,
    /// Whether the end of this agent is the end of its pods (`skiff up`): the pod route is then removed too.
    pub pods_end_with_agent: bool,
}

impl AgentConfig {
    pub fn new(identity: Identity, data_dir: PathBuf, node_ip: IpAddr) -> Self {
        Self {
            server_url: identity.server_url.clone(),
            node_name: identity.node_name.clone(),
            identity,
            log_dir: data_dir.join("logs").join("pods"),
            data_dir,
            node_ip,
            labels: BTreeMap::new(),
            max_pods: MAX_PODS_DEFAULT,
            eviction_hard: EvictionHard::default(),
            container_runtime_version: "wasmtime://48.0.8".to_owned(),
            default_handler: "wasm".to_owned(),
            pods_end_with_agent: false,
        }
    }
}
