//! Which addresses a podCIDR holds.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::NetworkError;

pub fn parse_cidr(text: &str) -> Result<IpNet, NetworkError> {
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| NetworkError::Cidr { text: text.to_owned() })
}

/// The part of 127.0.0.0/8 that stands in for a podCIDR: the same last three bytes, so that nodes on one machine do not
/// collide. An IPv6 range maps to 127.42.0.0/16.
pub fn loopback_range(cidr: IpNet) -> IpNet {
    match cidr {
        IpNet::V4(net) => {
            let [_, b, c, d] = net.network().octets();
            let prefix = net.prefix_len().max(8);
            // 127.0.x is where the machine's own servers listen.
            let b = if b == 0 { 42 } else { b };
            let net = Ipv4Net::new(Ipv4Addr::new(127, b, c, d), prefix).expect("a prefix of 8 to 32 is valid");
            IpNet::V4(net.trunc())
        }
        IpNet::V6(_) => IpNet::V4(Ipv4Net::new(Ipv4Addr::new(127, 42, 0, 0), 16).expect("16 is a valid prefix")),
    }
}

/// How many addresses pods may have: without the network's own address, the first (by custom the gateway's) and the
/// broadcast address.
pub(crate) fn capacity(range: IpNet) -> u128 {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    let all = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    all.saturating_sub(3)
}

/// The `index`-th pod address of the range.
pub(crate) fn nth(range: IpNet, index: u128) -> IpAddr {
    let offset = index + 2;
    match range {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).wrapping_add(offset as u32))),
        IpNet::V6(net) => IpAddr::V6(u128::from(net.network()).wrapping_add(offset).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_24_has_253_pod_addresses_from_2_to_254() {
        let range = parse_cidr("10.42.3.7/24").unwrap();
        assert_eq!(capacity(range), 253);
        assert_eq!(nth(range, 0).to_string(), "10.42.3.2");
        assert_eq!(nth(range, 252).to_string(), "10.42.3.254");
    }

    #[test]
    fn loopback_ranges_of_two_nodes_do_not_meet() {
        let of = |cidr: &str| loopback_range(parse_cidr(cidr).unwrap()).to_string();
        assert_eq!(of("10.42.0.0/24"), "127.42.0.0/24");
        assert_eq!(of("10.42.1.0/24"), "127.42.1.0/24");
        assert_eq!(of("10.0.1.0/24"), "127.42.1.0/24");
        assert_eq!(of("fd00::/64"), "127.42.0.0/16");
    }
}
