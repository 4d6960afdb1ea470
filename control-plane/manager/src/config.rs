//! Configuration of the manager. Every default is a constant with its reason; the binary's flags fill the rest.

use std::time::Duration;

use crate::error::ManagerError;

/// kube-controller-manager's `--leader-elect-lease-duration`.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// kube-controller-manager's `--leader-elect-renew-deadline`.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// kube-controller-manager's `--leader-elect-retry-period`.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// `--node-monitor-grace-period`: a node that has not renewed its lease for so long is Unknown.
pub const NODE_GRACE: Duration = Duration::from_secs(40);
/// kube-apiserver's `--event-ttl`.
pub const EVENT_TTL: Duration = Duration::from_secs(3600);
/// `--terminated-pod-gc-threshold`.
pub const TERMINATED_PODS_MAX: usize = 12_500;
/// `--node-cidr-mask-size`.
pub const NODE_MASK_SIZE: u8 = 24;

/// The handles to the API: one for each identity, so that audit and RBAC can tell them apart.
#[derive(Clone)]
pub struct Clients {
    /// `system:kube-controller-manager`.
    pub controllers: kube::Client,
    /// `system:kube-scheduler`.
    pub scheduler: kube::Client,
}

/// When a lease is lost and how often it is renewed: `retry < renew_deadline < duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    pub duration: Duration,
    pub renew_deadline: Duration,
    pub retry: Duration,
}

impl LeaseTimes {
    /// Kubernetes' own: 15 s, 10 s, 2 s.
    pub const KUBERNETES: LeaseTimes = LeaseTimes {
        duration: LEASE_DURATION,
        renew_deadline: RENEW_DEADLINE,
        retry: RETRY_PERIOD,
    };
}

/// Waiting times of single controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerTimes {
    /// Age of a node's heartbeat after which its conditions become Unknown.
    pub node_grace: Duration,
    /// Age at which Events are deleted.
    pub event_ttl: Duration,
    /// How many finished pods are kept in the cluster before the oldest are deleted.
    pub terminated_pods_max: usize,
}

impl ControllerTimes {
    /// Kubernetes' own.
    pub const KUBERNETES: ControllerTimes = ControllerTimes {
        node_grace: NODE_GRACE,
        event_ttl: EVENT_TTL,
        terminated_pods_max: TERMINATED_PODS_MAX,
    };
}

/// What [`crate::run`] needs to know.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// Holder identity in the leases, unique per process: `<host name>_<uuid>`.
    pub identity: String,
    /// Off: this process works at once and holds no lease (one control plane only).
    pub leader_elect: bool,
    pub lease: LeaseTimes,
    /// `--pod-cidr`: the range out of which each node gets a /24, e.g. `10.42.0.0/16`. Empty: no addresses are given out.
    pub pod_cidr: String,
    /// `--service-cluster-ip-range`, kept out of the node ranges when both overlap. Empty: none.
    pub service_cidr: String,
    /// PEM of the cluster's CA, published as ConfigMap `kube-root-ca.crt` in each namespace. Empty: not published.
    pub cluster_ca_pem: String,
    pub times: ControllerTimes,
}

impl ManagerConfig {
    /// Kubernetes' times, no leader election, nothing published.
    pub fn new(identity: impl Into<String>) -> Self {
        ManagerConfig {
            identity: identity.into(),
            leader_elect: false,
            lease: LeaseTimes::KUBERNETES,
            pod_cidr: String::new(),
            service_cidr: String::new(),
            cluster_ca_pem: String::new(),
            times: ControllerTimes::KUBERNETES,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ManagerError> {
        if self.lease.retry >= self.lease.renew_deadline || self.lease.renew_deadline >= self.lease.duration {
            return Err(ManagerError::LeaseTimes);
        }
        if !self.pod_cidr.is_empty() && !is_ipv4_network(&self.pod_cidr) {
            return Err(ManagerError::PodCidr {
                cidr: self.pod_cidr.clone(),
            });
        }
        Ok(())
    }
}

fn is_ipv4_network(cidr: &str) -> bool {
    cidr.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<std::net::Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= NODE_MASK_SIZE)
    })
}
