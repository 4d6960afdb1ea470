//! What a guest may reach and where it may listen. Nothing beyond this exists for it.
//!
//! - listening: on the pod's own address only; `0.0.0.0` and `::` mean the pod's address;
//! - connecting: anywhere but loopback, link-local (cloud metadata included), multicast, unspecified and the addresses
//!   that the node denies. The check is on the resolved address, IPv4 within IPv6 unwrapped.
//! - A node without root gives its pods addresses of 127/8. There, other pods' addresses may be reached, but nothing
//!   in 127.0.0.0/16, where the node's own services are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::hits::{Hits, Limit};

/// A pod's place in the network.
pub(crate) struct PodNet {
    pub(crate) ip: IpAddr,
    denied: Vec<IpAddr>,
}

impl PodNet {
    pub(crate) fn new(ip: IpAddr, denied: Vec<IpAddr>) -> Self {
        Self { ip, denied }
    }

    /// True if the pod may send to this address.
    pub(crate) fn may_reach(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address == self.ip {
            return true;
        }
        if self.denied.contains(&address) {
            return false;
        }
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => self.ip.is_loopback() && v4.octets()[1] != 0,
            IpAddr::V4(v4) => {
                !(v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0)
                    // Alibaba's metadata service lives in shared address space.
                    && v4 != Ipv4Addr::new(100, 100, 100, 200)
            }
            IpAddr::V6(v6) => {
                !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
                    // fd00:ec2::254 and its like: metadata services in unique local space.
                    && v6.segments()[..2] != [0xfd00, 0x0ec2]
                    // 6to4, NAT64 and v4-compatible forms smuggle IPv4 addresses past the check.
                    && v6.segments()[0] != 0x2002
                    && v6.segments()[..2] != [0x64, 0xff9b]
                    && v6.segments()[..6] != [0, 0, 0, 0, 0, 0]
            }
        }
    }

    fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        match purpose {
            // An implicit bind before a connect or send is to any port of the wildcard address.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                let implicit = address.ip().is_unspecified() && address.port() == 0;
                implicit || address.ip().to_canonical() == self.ip
            }
            SocketAddrUse::TcpListen => address.ip().to_canonical() == self.ip,
            SocketAddrUse::TcpAccept | SocketAddrUse::UdpReceive => true,
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => self.may_reach(address.ip()),
        }
    }
}

/// Puts the rules into a guest's sockets.
pub(crate) fn restrict(wasi: &mut WasiCtxBuilder, net: &Arc<PodNet>, hits: &Arc<Hits>) {
    let (net, hits) = (net.clone(), hits.clone());
    wasi.socket_addr_check(move |address, purpose| {
        let allowed = net.allows(address, purpose);
        if !allowed {
            hits.count(Limit::Network);
        }
        Box::pin(async move { allowed })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(pod: &str, address: &str) -> bool {
        let denied = vec!["10.9.9.9".parse().expect("address")];
        PodNet::new(pod.parse().expect("address"), denied).may_reach(address.parse().expect("address"))
    }

    #[test]
    fn metadata_loopback_and_denied_addresses_cannot_be_reached() {
        for address in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "10.9.9.9",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.9.9.9",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "::7f00:1",
        ] {
            assert!(!reaches("10.42.0.7", address), "{address}");
        }
        for address in ["10.42.0.7", "10.42.1.9", "1.1.1.1", "2606:4700::1111"] {
            assert!(reaches("10.42.0.7", address), "{address}");
        }
    }

    #[test]
    fn pods_of_a_node_without_root_reach_each_other_but_not_the_node() {
        assert!(reaches("127.42.0.7", "127.42.0.8"));
        assert!(!reaches("127.42.0.7", "127.0.0.1") && !reaches("127.42.0.7", "127.0.1.1"));
    }

    #[test]
    fn only_the_pods_own_address_can_be_listened_on() {
        let net = PodNet::new("10.42.0.7".parse().expect("address"), Vec::new());
        let at = |text: &str| text.parse::<SocketAddr>().expect("address");
        assert!(net.allows(at("10.42.0.7:80"), SocketAddrUse::TcpListen));
        assert!(!net.allows(at("0.0.0.0:80"), SocketAddrUse::TcpListen));
        assert!(!net.allows(at("0.0.0.0:53"), SocketAddrUse::UdpBind));
        assert!(net.allows(at("0.0.0.0:0"), SocketAddrUse::UdpBind));
        assert!(!net.allows(at("10.42.0.8:80"), SocketAddrUse::TcpBind));
    }
}
