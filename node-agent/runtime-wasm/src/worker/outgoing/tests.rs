//! Where an outgoing call goes: names are looked up once, every address is checked, the checked one is connected to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use skiff_api::pod_settings::settings_of;

use super::*;
use crate::worker::net::{Lookup, PodNet};

/// A pod's network whose names resolve by turns to these addresses, and how often one was looked up.
fn net(pod: &str, egress: &str, answers: &'static [&'static str]) -> (ContainerNet, Arc<AtomicUsize>) {
    let annotations = BTreeMap::from([("skiff.dev/egress".to_owned(), egress.to_owned())]);
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = asked.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let turn = count.fetch_add(1, Ordering::Relaxed);
        let address = answers[turn % answers.len()].parse().expect("address");
        async move { Ok(vec![address]) }.boxed()
    });
    let pod = Arc::new(PodNet::new(pod.parse().expect("address"), vec![[10, 9, 9, 9].into()]));
    let net = ContainerNet::new(pod, &settings_of(&annotations, "c"), lookup, Arc::default());
    (net, asked)
}

/// FAULTS.md G12: the name has an innocent address when it is asked first, and the node's own from then on.
#[tokio::test]
async fn a_rebound_name_is_checked_where_it_points_and_pinned_there() {
    let server = tokio::net::TcpListener::bind("127.66.10.9:0").await.expect("a server");
    let port = server.local_addr().expect("address").port();
    for egress in ["default", "rebinds.example", "*.example:1-65535"] {
        let (net, asked) = net("127.66.10.2", egress, &["127.66.10.9", "127.0.0.1"]);
        let stream = connect(&net, "rebinds.example", port).await.expect("connected");
        assert_eq!(stream.peer_addr().expect("a peer").ip().to_string(), "127.66.10.9");
        assert_eq!(stream.local_addr().expect("an address").ip().to_string(), "127.66.10.2");
        assert_eq!(
            asked.load(Ordering::Relaxed),
            1,
            "the address that was checked is the one connected to"
        );
        let again = connect(&net, "rebinds.example", port).await;
        assert!(
            matches!(again, Err(Error::DestinationIpProhibited)),
            "{egress}: {again:?}"
        );
    }
}

/// FAULTS.md G13, for wasi:http; `net::tests` and `sockets::tests` have it for wasi:sockets.
#[tokio::test]
async fn protected_addresses_are_refused_by_number_and_by_name() {
    for address in crate::worker::net::tests::PROTECTED {
        let (by_number, asked) = net("10.42.0.7", "default, 0.0.0.0/0, ::/0", &["192.0.2.1"]);
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        let refused = connect(&by_number, &host, 80).await;
        assert!(
            matches!(refused, Err(Error::DestinationIpProhibited)),
            "{address}: {refused:?}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        let answers: &'static [&'static str] = Box::leak(Box::new([address]));
        let (by_name, _) = net("10.42.0.7", "*.example, ::/0, 0.0.0.0/0", answers);
        let refused = connect(&by_name, "a.example", 80).await;
        assert!(
            matches!(refused, Err(Error::DestinationIpProhibited)),
            "{address}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn names_that_are_not_granted_are_not_even_looked_up() {
    let (net, asked) = net("127.66.11.2", "api.example:443", &["127.66.11.9"]);
    let refused = connect(&net, "evil.example", 443).await;
    assert!(matches!(refused, Err(Error::HttpRequestDenied)));
    assert_eq!(
        asked.load(Ordering::Relaxed),
        0,
        "a look-up is a message to the outside"
    );
    let other_port = connect(&net, "api.example", 80).await;
    assert!(matches!(other_port, Err(Error::DestinationIpProhibited)));
}
