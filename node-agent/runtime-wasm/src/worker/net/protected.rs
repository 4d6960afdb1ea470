//! Networks that no pod reaches unless an entry of its egress list lies within them: the node's own (loopback,
//! link-local), what is no single host (multicast, broadcast), clouds' metadata services, and forms of IPv6 that
//! smuggle IPv4 addresses past a check.
//!
//! A node without root gives its pods addresses of 127/8. Such pods reach each other's, but nothing in 127.0.0.0/16,
//! where the node's own services are.

use std::net::IpAddr;
use std::sync::LazyLock;

use skiff_api::pod_settings::Cidr;

/// 127/8, apart from the others: part of it may be the pods'.
static LOOPBACK: LazyLock<Cidr> = LazyLock::new(|| cidr("127.0.0.0/8"));
static NODES_LOOPBACK: LazyLock<[Cidr; 2]> = LazyLock::new(|| [cidr("127.0.0.0/16"), cidr("::1/128")]);

static NETWORKS: LazyLock<Vec<Cidr>> = LazyLock::new(|| {
    [
        "0.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        // Alibaba's metadata service lives in shared address space.
        "100.100.100.200/32",
        "::1/128",
        "fe80::/10",
        "ff00::/8",
        // fd00:ec2::254 and its like: metadata services in unique local space.
        "fd00:ec2::/32",
        // 6to4, NAT64 and v4-compatible.
        "2002::/16",
        "64:ff9b::/32",
        "::/96",
    ]
    .map(cidr)
    .to_vec()
});

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).expect("a constant network")
}

/// The protected network that an address is in. Both are canonical.
pub(super) fn network_of(address: IpAddr, pod: IpAddr) -> Option<Cidr> {
    if LOOPBACK.contains(address) {
        let is_pods = pod.is_loopback() && !is_nodes_loopback(address);
        return Some(*LOOPBACK).filter(|_| !is_pods);
    }
    NETWORKS.iter().find(|network| network.contains(address)).copied()
}

/// True for the addresses that the node's own services and probes have on loopback.
pub(super) fn is_nodes_loopback(address: IpAddr) -> bool {
    NODES_LOOPBACK.iter().any(|network| network.contains(address))
}
