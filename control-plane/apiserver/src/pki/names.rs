//! Which names and addresses the serving certificate must carry.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// DNS names under which pods know the API server.
const CLUSTER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Sorted and without repeats: the fixed names, loopback, the host's name, the address listened on (for a wildcard: the
/// host's own address), the first address of the service range, and whatever else was asked for.
pub fn serving_names(listen: IpAddr, service_address: Option<IpAddr>, extra: &[String]) -> Vec<String> {
    let mut names: Vec<String> = CLUSTER_NAMES.map(String::from).to_vec();
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(host_name());
    if listen.is_unspecified() {
        names.extend(primary_address().map(|a| a.to_string()));
    } else {
        names.push(listen.to_string());
    }
    names.extend(service_address.map(|a| a.to_string()));
    names.extend(extra.iter().filter(|n| !n.is_empty()).cloned());
    names.sort();
    names.dedup();
    names
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()?
        .trim()
        .to_lowercase();
    let usable = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    usable.then_some(name)
}

/// The address from which this host would reach others. Connecting a UDP socket sends nothing.
fn primary_address() -> Option<IpAddr> {
    /// TEST-NET-1 (RFC 5737): routed like any far address, belongs to nobody.
    const FAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((FAR_ADDRESS, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|a| !a.is_unspecified())
}
