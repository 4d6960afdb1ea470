//! Addresses of this node's pods.
//!
//! Every pod has an address of its own out of the node's podCIDR, without any per-pod setup: one AnyIP route
//! (`local CIDR dev lo`) makes the kernel accept all of them. Without the right to set a route, addresses come from
//! 127.0.0.0/8 instead, which the kernel accepts anyway; such pods are reachable on this node only.
//!
//! Reading order: `range` (which addresses), `pool` (who has which), `route` (the kernel's part).

mod pool;
mod range;
mod route;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use tracing::{info, warn};

pub use pool::Pool;
pub use range::{loopback_range, parse_cidr};

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{text:?} is not a CIDR")]
    Cidr { text: String },
    #[error("no free pod address in {range}")]
    Exhausted { range: IpNet },
    #[error("could not read or write pod addresses in {path:?}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("could not set the route for pod addresses {range}")]
    Route {
        range: IpNet,
        #[source]
        source: std::io::Error,
    },
}

/// The node's pod network. Dropping it leaves the route in place, so that pods outlive the agent; `shutdown` removes it.
pub struct Network {
    pool: Pool,
    routed: Option<IpNet>,
}

impl Network {
    /// Sets the network up for the node's podCIDR. Addresses given out before, kept in `data_dir`, stay as they are.
    pub fn open(pod_cidr: &str, data_dir: &Path) -> Result<Self, NetworkError> {
        let cidr = parse_cidr(pod_cidr)?;
        let (range, routed) = match route::add(cidr) {
            Ok(()) => (cidr, Some(cidr)),
            Err(error) if is_refusal(&error) => {
                let range = loopback_range(cidr);
                warn!(%cidr, %range, "no right to set the pod route, pods get loopback addresses");
                (range, None)
            }
            Err(source) => return Err(NetworkError::Route { range: cidr, source }),
        };
        info!(%range, "set up the pod network");
        Ok(Self {
            pool: Pool::open(range, data_dir.join("pod-addresses.json"))?,
            routed,
        })
    }

    /// The pod's address; the same one each time until it is released.
    pub fn allocate(&mut self, pod_uid: &str) -> Result<IpAddr, NetworkError> {
        self.pool.allocate(pod_uid)
    }

    pub fn release(&mut self, pod_uid: &str) {
        self.pool.release(pod_uid);
    }

    /// Keeps only the addresses of these pods.
    pub fn retain(&mut self, is_here: impl Fn(&str) -> bool) {
        self.pool.retain(is_here);
    }

    /// The addresses that pods get.
    pub fn range(&self) -> IpNet {
        self.pool.range()
    }

    /// Takes the route away: for a clean end of the whole node, not for a restart of the agent.
    pub fn shutdown(&mut self) {
        if let Some(range) = self.routed.take()
            && let Err(error) = route::remove(range)
        {
            warn!(%range, %error, "could not remove the pod route");
        }
    }
}

fn is_refusal(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
