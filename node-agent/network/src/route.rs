//! The AnyIP route: `local CIDR dev lo` in the kernel's local table, set over rtnetlink.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const HEADER_BYTES: usize = 16;
/// No such route: removing it is then done.
const ESRCH: i32 = 3;

pub(crate) fn add(range: IpNet) -> io::Result<()> {
    talk(&message(
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        range,
        loopback_index()?,
    ))
}

pub(crate) fn remove(range: IpNet) -> io::Result<()> {
    match talk(&message(RTM_DELROUTE, 0, range, loopback_index()?)) {
        Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(()),
        other => other,
    }
}

fn loopback_index() -> io::Result<u32> {
    let text = std::fs::read_to_string("/sys/class/net/lo/ifindex")?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "ifindex of lo is not a number"))
}

/// A whole netlink message: header, `struct rtmsg`, destination, interface.
fn message(kind: u16, flags: u16, range: IpNet, interface: u32) -> Vec<u8> {
    let (family, address) = match range.network() {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let mut bytes = vec![0; HEADER_BYTES];
    // family, destination length, source length, tos, table, protocol, scope, type, flags (4 bytes)
    bytes.extend([
        family,
        range.prefix_len(),
        0,
        0,
        RT_TABLE_LOCAL,
        RTPROT_STATIC,
        RT_SCOPE_HOST,
        RTN_LOCAL,
        0,
        0,
        0,
        0,
    ]);
    attribute(&mut bytes, RTA_DST, &address);
    attribute(&mut bytes, RTA_OIF, &interface.to_ne_bytes());
    let length = u32::try_from(bytes.len()).expect("a route message is under 100 bytes");
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
    bytes
}

/// Values are 4 or 16 bytes, so no padding is needed.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a value is an address or an index");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
}

/// Sends the request and reads the kernel's acknowledgement.
fn talk(message: &[u8]) -> io::Result<()> {
    // Protocol 0 of AF_NETLINK is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::send(&socket, message, SendFlags::empty())?;
    let mut answer = [0u8; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
    let field = |from: usize| {
        answer[..length]
            .get(from..from + 4)
            .and_then(|bytes| bytes.try_into().ok())
    };
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let code = i32::from_ne_bytes(field(HEADER_BYTES).ok_or_else(malformed)?);
    match (kind, code) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, code) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_message_is_what_the_kernel_expects() {
        let bytes = message(RTM_NEWROUTE, NLM_F_CREATE, "10.42.3.0/24".parse().unwrap(), 1);
        assert_eq!(bytes.len(), 16 + 12 + 8 + 8);
        assert_eq!(bytes[16..28], [2, 24, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0]);
        assert_eq!(bytes[32..36], [10, 42, 3, 0]);
    }

    #[test]
    fn the_kernel_takes_the_route_or_refuses_it_for_lack_of_rights() {
        let range: IpNet = "198.18.77.0/24".parse().unwrap();
        match add(range) {
            Ok(()) => {
                let bound = std::net::TcpListener::bind("198.18.77.9:0");
                remove(range).unwrap();
                assert!(bound.is_ok(), "an address of the range can be bound: {bound:?}");
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
