//! What a guest may reach, where it may listen and who may reach it. Nothing beyond this exists for it.
//!
//! - listening: on the pod's own address only; `0.0.0.0` and `::` mean the pod's address;
//! - connecting: what `skiff.dev/egress` grants; without it anywhere but [`protected`] addresses. The check is on the
//!   resolved address, IPv4 within IPv6 unwrapped, and the connection is made to the address that was checked;
//! - being connected to: by whom `skiff.dev/ingress` grants, and by the node itself, whose probes must get through.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use skiff_api::pod_settings::network::Protected;
use skiff_api::pod_settings::{ContainerSettings, EgressPolicy, IngressPolicy};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::counts::Taken;
use super::hits::{Hits, Limit};
use super::names::Names;

mod protected;

/// A pod's place in the network.
pub(crate) struct PodNet {
    pub(crate) ip: IpAddr,
    /// The node's own addresses and the control plane's.
    denied: Vec<IpAddr>,
}

impl PodNet {
    pub(crate) fn new(ip: IpAddr, denied: Vec<IpAddr>) -> Self {
        Self { ip, denied }
    }

    fn protected(&self, address: IpAddr) -> Option<Protected> {
        if address == self.ip {
            return None;
        }
        match self.denied.contains(&address) {
            true => Some(Protected::Exactly),
            false => protected::network_of(address, self.ip).map(Protected::In),
        }
    }
}

/// Looks a name up: its addresses.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// As the node does.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip().to_canonical()).collect())
        }
        .boxed()
    })
}

/// One container's place in the network.
pub(crate) struct ContainerNet {
    pub(crate) ip: IpAddr,
    pod: Arc<PodNet>,
    egress: EgressPolicy,
    ingress: Option<IngressPolicy>,
    /// Kept only when the list has names.
    names: Option<Names>,
    pub(crate) lookup: Lookup,
    hits: Arc<Hits>,
}

impl ContainerNet {
    pub(crate) fn new(pod: Arc<PodNet>, settings: &ContainerSettings, lookup: Lookup, hits: Arc<Hits>) -> Self {
        let egress = settings.egress.clone().unwrap_or_default();
        Self {
            ip: pod.ip,
            pod,
            names: egress.has_names().then(Names::default),
            egress,
            ingress: settings.ingress.clone(),
            lookup,
            hits,
        }
    }

    fn counted(&self, allowed: bool) -> bool {
        if !allowed {
            self.hits.count(Limit::Network);
        }
        allowed
    }

    /// True if the container may send to this address, which it has not from a name, or from one that it looked up itself.
    fn may_reach(&self, address: SocketAddr, now: Instant) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let protected = self.pod.protected(ip);
        let by_name = || protected.is_none() && self.names.as_ref().is_some_and(|names| names.grant(ip, port, now));
        ip == self.ip || self.egress.allows_address(ip, port, protected) || by_name()
    }

    /// True if the container may look this name up. Counts a refusal.
    pub(crate) fn may_look_up(&self, name: &str) -> bool {
        self.counted(self.egress.allows_name(name))
    }

    /// Of the addresses that a host resolved to, those that may be connected to; None when it has some and none of them
    /// may. Counts that.
    pub(crate) fn reachable(&self, host: &str, resolved: Vec<IpAddr>, port: u16) -> Option<Vec<SocketAddr>> {
        let by_name = self.names.is_some() && self.egress.allows_name_on(host, port);
        let empty = resolved.is_empty();
        let allowed = |ip: &IpAddr| {
            let protected = self.pod.protected(ip.to_canonical());
            by_name && protected.is_none() || self.may_reach(SocketAddr::new(*ip, port), Instant::now())
        };
        let addresses: Vec<_> = resolved
            .into_iter()
            .filter(allowed)
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        (empty || self.counted(!addresses.is_empty())).then_some(addresses)
    }

    /// A guest is told that a name has this address.
    pub(crate) fn learn(&self, name: &str, address: IpAddr) {
        if let Some(names) = &self.names {
            names.learn(address.to_canonical(), self.egress.ports_of_name(name), Instant::now());
        }
    }

    /// True if names have to be [learned](Self::learn).
    pub(crate) fn learns_names(&self) -> bool {
        self.names.is_some()
    }

    /// True if this address may connect to the container. Counts a refusal.
    pub(crate) fn admits(&self, peer: IpAddr) -> bool {
        let Some(ingress) = &self.ingress else { return true };
        let peer = peer.to_canonical();
        let is_node = || peer == self.ip || self.pod.denied.contains(&peer) || protected::is_nodes_loopback(peer);
        self.counted(ingress.allows(peer) || is_node())
    }

    fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let is_own = || address.ip().to_canonical() == self.ip;
        match purpose {
            // An implicit bind before a connect or send is to any port of the wildcard address.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                let implicit = address.ip().is_unspecified() && address.port() == 0;
                self.counted(implicit || is_own())
            }
            SocketAddrUse::TcpListen => self.counted(is_own()),
            SocketAddrUse::TcpAccept | SocketAddrUse::UdpReceive => self.admits(address.ip()),
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => self.counted(self.may_reach(address, Instant::now())),
        }
    }
}

/// Puts the rules into a guest's sockets. A connection that it accepts is one more socket of it.
pub(crate) fn restrict(wasi: &mut WasiCtxBuilder, net: &Arc<ContainerNet>, taken: &Arc<Taken>) {
    let (net, taken) = (net.clone(), taken.clone());
    wasi.socket_addr_check(move |address, purpose| {
        let accepts = matches!(purpose, SocketAddrUse::TcpAccept);
        let allowed = net.allows(address, purpose) && (!accepts || taken.socket());
        Box::pin(std::future::ready(allowed))
    });
}

#[cfg(test)]
pub(crate) mod tests;
