//! What the pods of one node use, as its agent tells the control plane: what `metrics.k8s.io` is made of.

use serde::{Deserialize, Serialize};

/// The agent's path, over its tunnel.
pub const PATH: &str = "/usage";

/// Rates and gauges of one node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// Milliseconds since the epoch.
    pub time: i64,
    pub node: Use,
    /// Pods with a running container.
    pub pods: Vec<PodUsage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    pub namespace: String,
    pub name: String,
    /// Running containers, by name.
    pub containers: Vec<(String, Use)>,
}

/// What somebody uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// CPU time per time, in billionths of a core.
    pub nano_cores: u64,
    /// Over so many nanoseconds.
    pub window: u64,
    /// Bytes of memory that cannot be reclaimed.
    pub memory: u64,
}
