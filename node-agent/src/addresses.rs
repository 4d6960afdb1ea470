//! The node's own addresses, which no guest may connect to unless its pod is granted them: those of its interfaces, and
//! those of the control plane.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

/// The kernel's tables of local addresses.
const V4: &str = "/proc/net/fib_trie";
const V6: &str = "/proc/net/if_inet6";

/// Sorted, each once. What cannot be read or resolved is left out; loopback and link-local addresses are refused anyway.
pub(crate) fn of_node_and_server(node_ip: IpAddr, server_url: &str) -> Vec<IpAddr> {
    let mut addresses = vec![node_ip];
    addresses.extend(of_interfaces());
    addresses.extend(of_server(server_url));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn of_interfaces() -> Vec<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = v4_hosts(&read(V4)).into_iter().map(IpAddr::V4);
    v4.chain(v6_hosts(&read(V6)).into_iter().map(IpAddr::V6)).collect()
}

/// Every address that the URL's host has.
fn of_server(server_url: &str) -> Vec<IpAddr> {
    let Ok(uri) = server_url.parse::<hyper::Uri>() else {
        return Vec::new();
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let found = (host.as_str(), uri.port_u16().unwrap_or(443)).to_socket_addrs();
    found
        .into_iter()
        .flatten()
        .map(|address| address.ip().to_canonical())
        .collect()
}

/// Single addresses of the routing table that are the host's: a line `|-- ADDRESS`, then one `/32 host LOCAL`. Whole
/// networks, such as the pods', are routes and no addresses of the node.
fn v4_hosts(trie: &str) -> Vec<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut hosts = Vec::new();
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            hosts.extend(last);
        }
    }
    hosts
}

/// The first column, 32 hexadecimal digits, of each line.
fn v6_hosts(table: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| {
        let digits = line.split_whitespace().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from_bits)
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_networks() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.42.0.0\n        /24 host LOCAL\n     |-- 192.0.2.7\n        \
                    /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(v4_hosts(trie), [Ipv4Addr::new(192, 0, 2, 7)]);
        let table = "20010db8000000000000000000000002 04 40 00 82     eth0\nnonsense\n";
        assert_eq!(v6_hosts(table), ["2001:db8::2".parse::<Ipv6Addr>().expect("address")]);
    }

    #[test]
    fn this_machine_has_addresses_and_the_servers_are_among_them() {
        let node: IpAddr = [192, 0, 2, 1].into();
        let found = of_node_and_server(node, "https://[2001:db8::5]:6443");
        for address in ["192.0.2.1", "2001:db8::5", "127.0.0.1"] {
            assert!(
                found.contains(&address.parse().expect("address")),
                "{address} in {found:?}"
            );
        }
    }
}
