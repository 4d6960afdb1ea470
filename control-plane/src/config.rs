//! What can be chosen for a control plane. Flags are parsed by the command line; this is the checked result.

use std::path::PathBuf;

use ipnet::IpNet;

/// Where objects rest.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A file below the data directory.
    Embedded,
    Etcd(EtcdConfig),
}

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    pub endpoints: Vec<String>,
    /// PEM files; all optional. Certificate and key go together.
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// Whether several control planes may share the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderElection {
    /// One process owns the store (embedded): controllers start at once.
    Off,
    On,
}

/// Everything that a control plane is told.
#[derive(Clone, Debug)]
pub struct ControlPlaneConfig {
    pub data_dir: PathBuf,
    /// `HOST:PORT` to listen on; port 0 takes a free one.
    pub listen: String,
    /// Where the administrator's kubeconfig is written, 0600.
    pub kubeconfig: PathBuf,
    pub store: StoreConfig,
    /// First part of every key, without slashes: `registry`.
    pub etcd_prefix: String,
    pub token_auth_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
    pub service_cidr: IpNet,
    pub pod_cidr: IpNet,
    /// Further names and addresses in the serving certificate.
    pub extra_names: Vec<String>,
    pub leader_election: LeaderElection,
    /// Program whose `wasm-compile` compiles modules for the nodes, if any.
    pub compiler: Option<PathBuf>,
}
