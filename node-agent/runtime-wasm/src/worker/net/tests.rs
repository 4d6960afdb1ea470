//! Which addresses a container reaches, and who reaches it.

use std::collections::BTreeMap;

use skiff_api::pod_settings::settings_of;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// A container of a pod with this address, on the node 10.9.9.9.
fn net(pod: &str, annotations: &[(&str, &str)]) -> ContainerNet {
    let annotations: BTreeMap<_, _> = annotations
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let pod = Arc::new(PodNet::new(ip(pod), vec![ip("10.9.9.9")]));
    ContainerNet::new(pod, &settings_of(&annotations, "c"), system_lookup(), Arc::default())
}

fn reaches(net: &ContainerNet, address: &str) -> bool {
    net.allows(SocketAddr::new(ip(address), 80), SocketAddrUse::TcpConnect)
}

/// What is never reached unless granted (FAULTS.md G13).
pub(crate) const PROTECTED: [&str; 17] = [
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
];

#[test]
fn metadata_loopback_and_node_addresses_cannot_be_reached() {
    let everything = [(
        "skiff.dev/egress",
        "default, 0.0.0.0/0, ::/0, 127.0.0.1.nip.io, *.example.com",
    )];
    for net in [net("10.42.0.7", &[]), net("10.42.0.7", &everything)] {
        for address in PROTECTED {
            assert!(!reaches(&net, address), "{address}");
            net.learn("a.example.com", ip(address));
            assert!(!reaches(&net, address), "{address}, though a granted name has it");
        }
        for address in ["10.42.0.7", "10.42.1.9", "1.1.1.1", "2606:4700::1111"] {
            assert!(reaches(&net, address), "{address}");
        }
    }
}

#[test]
fn what_is_protected_can_be_granted_by_its_name() {
    let granted = [("skiff.dev/egress", "127.0.0.0/8:80,10.9.9.9,169.254.169.254,[::1]:80")];
    let net = net("10.42.0.7", &granted);
    for address in ["127.0.0.1", "::ffff:127.0.0.1", "10.9.9.9", "169.254.169.254", "::1"] {
        assert!(reaches(&net, address), "{address}");
    }
    assert!(!net.allows(SocketAddr::new(ip("127.0.0.1"), 81), SocketAddrUse::UdpSend));
    assert!(!reaches(&net, "1.1.1.1") && !reaches(&net, "169.254.169.253"));
    assert_eq!(net.hits.get(Limit::Network), 3);
}

#[test]
fn a_list_is_all_that_is_reached_beside_the_pod_itself() {
    let net = net(
        "10.42.0.7",
        &[("egress.skiff.dev/c", "none"), ("skiff.dev/egress", "default")],
    );
    assert!(reaches(&net, "10.42.0.7") && !reaches(&net, "10.42.0.8") && !reaches(&net, "1.1.1.1"));
    assert!(!net.may_look_up("example.com") && net.may_look_up("10.42.0.8"));
}

#[test]
fn a_granted_name_grants_the_addresses_that_it_was_found_to_have() {
    let net = net("10.42.0.7", &[("skiff.dev/egress", "api.example.com:80")]);
    assert!(net.may_look_up("API.example.com") && !net.may_look_up("example.com"));
    assert!(!reaches(&net, "192.0.2.1"));
    net.learn("api.example.com", ip("192.0.2.1"));
    assert!(reaches(&net, "192.0.2.1") && !net.allows(SocketAddr::new(ip("192.0.2.1"), 81), SocketAddrUse::TcpConnect));
    let found = net.reachable("api.example.com", vec![ip("127.0.0.1"), ip("192.0.2.9")], 80);
    assert_eq!(found, Some(vec![SocketAddr::new(ip("192.0.2.9"), 80)]));
    assert_eq!(net.reachable("api.example.com", vec![ip("::1")], 80), None);
    assert_eq!(net.reachable("api.example.com", vec![ip("192.0.2.9")], 443), None);
}

#[test]
fn pods_of_a_node_without_root_reach_each_other_but_not_the_node() {
    let net = net("127.42.0.7", &[]);
    assert!(reaches(&net, "127.42.0.8"));
    assert!(!reaches(&net, "127.0.0.1") && !reaches(&net, "127.0.1.1"));
}

#[test]
fn only_the_pods_own_address_can_be_listened_on() {
    let net = net("10.42.0.7", &[]);
    let at = |text: &str| text.parse::<SocketAddr>().expect("address");
    assert!(net.allows(at("10.42.0.7:80"), SocketAddrUse::TcpListen));
    assert!(!net.allows(at("0.0.0.0:80"), SocketAddrUse::TcpListen));
    assert!(!net.allows(at("0.0.0.0:53"), SocketAddrUse::UdpBind));
    assert!(net.allows(at("0.0.0.0:0"), SocketAddrUse::UdpBind));
    assert!(!net.allows(at("10.42.0.8:80"), SocketAddrUse::TcpBind));
}

#[test]
fn ingress_admits_whom_it_names_and_the_node() {
    let open = net("10.42.0.7", &[]);
    assert!(open.admits(ip("203.0.113.5")));
    let narrow = net("10.42.0.7", &[("skiff.dev/ingress", "10.42.1.0/24")]);
    for peer in ["10.42.1.3", "::ffff:10.42.1.3", "127.0.0.1", "10.9.9.9", "10.42.0.7"] {
        assert!(narrow.admits(ip(peer)), "{peer}");
    }
    for peer in ["10.42.0.8", "127.42.0.8", "203.0.113.5"] {
        assert!(!narrow.admits(ip(peer)), "{peer}");
        assert!(
            !narrow.allows(SocketAddr::new(ip(peer), 9), SocketAddrUse::UdpReceive),
            "{peer}"
        );
    }
}
