//! Sockets of a pod: where they listen, from where they connect, how many there are, which names are looked up.

use std::collections::BTreeMap;

use ip_name_lookup::{Host as _, HostResolveAddressStream as _};
use skiff_api::pod_settings::settings_of;
use tcp::HostTcpSocket;
use tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::instance_network;
use wasmtime_wasi::p2::subscribe;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder};

use super::*;
use crate::worker::bounds::Bounds;
use crate::worker::counts::Counts;
use crate::worker::net::{PodNet, restrict, system_lookup};

/// One instance of a pod.
struct Instance {
    wasi: WasiCtx,
    table: ResourceTable,
    net: Arc<ContainerNet>,
    taken: Arc<Taken>,
    lookups: Lookups,
}

impl Instance {
    fn new(ip: &str, annotations: &[(&str, &str)]) -> Self {
        let annotations: BTreeMap<_, _> = annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let settings = settings_of(&annotations, "c");
        let pod = Arc::new(PodNet::new(ip.parse().expect("address"), Vec::new()));
        let net = Arc::new(ContainerNet::new(pod, &settings, system_lookup(), Arc::default()));
        let taken = Arc::new(Taken::new(Arc::new(Counts::new(
            &Bounds::of(&settings),
            Arc::default(),
        ))));
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true);
        restrict(&mut wasi, &net, &taken);
        Self {
            wasi: wasi.build(),
            table: ResourceTable::new(),
            net,
            taken,
            lookups: Lookups::new(),
        }
    }

    fn sockets(&mut self) -> PodSockets<'_> {
        PodSockets {
            view: WasiSocketsCtxView {
                ctx: self.wasi.sockets(),
                table: &mut self.table,
            },
            net: &self.net,
            taken: &self.taken,
            lookups: &mut self.lookups,
        }
    }

    fn network(&mut self) -> Resource<Network> {
        instance_network::Host::instance_network(&mut self.sockets().view).expect("a network")
    }

    async fn listen(&mut self, address: &str) -> SocketResult<(Resource<TcpSocket>, SocketAddr)> {
        let network = self.network();
        let mut pod = self.sockets();
        let socket = pod.create_tcp_socket(IpAddressFamily::Ipv4)?;
        let address: SocketAddr = address.parse().expect("address");
        pod.start_bind(own(&socket), network, address.into()).await?;
        pod.finish_bind(own(&socket))?;
        pod.start_listen(own(&socket)).await?;
        pod.finish_listen(own(&socket))?;
        let bound = pod.local_address(own(&socket))?.into();
        Ok((socket, bound))
    }

    /// Connects and tells the connection's own address. Errors: the guest's.
    async fn connect(&mut self, to: SocketAddr) -> SocketResult<SocketAddr> {
        let network = self.network();
        let family = if to.is_ipv4() {
            IpAddressFamily::Ipv4
        } else {
            IpAddressFamily::Ipv6
        };
        let socket = self.sockets().create_tcp_socket(family)?;
        self.sockets().start_connect(own(&socket), network, to.into())?;
        loop {
            match self.sockets().finish_connect(own(&socket)) {
                Ok(_) => return Ok(self.sockets().local_address(own(&socket))?.into()),
                Err(error) => match error.downcast().expect("no trap") {
                    ErrorCode::WouldBlock => {}
                    code => return Err(code.into()),
                },
            }
            self.until_ready(own(&socket)).await;
        }
    }

    async fn until_ready<T: wasmtime_wasi::p2::Pollable>(&mut self, resource: Resource<T>) {
        let pollable = subscribe(&mut self.table, resource).expect("a pollable");
        wasmtime_wasi::p2::bindings::io::poll::HostPollable::block(
            &mut self.table,
            Resource::new_borrow(pollable.rep()),
        )
        .await
        .expect("ready");
        self.table.delete(pollable).expect("there");
    }

    /// Addresses of a name. Errors: the guest's.
    async fn look_up(&mut self, name: &str) -> SocketResult<Vec<IpAddr>> {
        let network = self.network();
        let stream = self.sockets().resolve_addresses(network, name.to_owned())?;
        let mut found = Vec::new();
        loop {
            match self.sockets().resolve_next_address(own(&stream)) {
                Ok(Some(address)) => found.push(plain(address)),
                Ok(None) => return Ok(found),
                Err(error) => match error.downcast().expect("no trap") {
                    ErrorCode::WouldBlock => {}
                    code => return Err(code.into()),
                },
            }
            self.until_ready(own(&stream)).await;
        }
    }
}

fn own<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

fn code<T>(result: SocketResult<T>) -> ErrorCode {
    match result {
        Ok(_) => panic!("refused was expected"),
        Err(error) => error.downcast().expect("no trap"),
    }
}

#[tokio::test]
async fn listening_on_every_address_is_listening_on_the_pods() {
    let mut pod = Instance::new("127.66.1.2", &[]);
    let (_, bound) = pod.listen("0.0.0.0:0").await.expect("bound");
    assert_eq!(bound.ip().to_string(), "127.66.1.2");
    assert!(pod.listen("127.66.1.3:0").await.is_err());
}

#[tokio::test]
async fn connections_come_from_the_pods_own_address() {
    let server = tokio::net::TcpListener::bind("127.66.2.9:0").await.expect("a server");
    let to = server.local_addr().expect("address");
    let mut pod = Instance::new("127.66.2.2", &[]);
    let from = pod.connect(to).await.expect("connected");
    let (_, peer) = server.accept().await.expect("accepted");
    assert_eq!((peer.ip().to_string().as_str(), peer), ("127.66.2.2", from));
}

#[tokio::test]
async fn protected_and_foreign_addresses_are_refused_before_a_packet_is_sent() {
    // A real server that must not be reached.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a server");
    let port = server.local_addr().expect("address").port();
    let mut pod = Instance::new("127.66.3.2", &[("skiff.dev/egress", "default,0.0.0.0/0,::/0")]);
    for address in [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.1",
        "::1",
        "fe80::1",
        "64:ff9b::a9fe:a9fe",
    ] {
        let to = SocketAddr::new(address.parse().expect("address"), port);
        assert_eq!(code(pod.connect(to).await), ErrorCode::AccessDenied, "{address}");
    }
    let mut narrow = Instance::new("127.66.3.3", &[("skiff.dev/egress", "127.66.3.9:1-9")]);
    let to = "127.66.3.9:10".parse().expect("address");
    assert_eq!(code(narrow.connect(to).await), ErrorCode::AccessDenied);
    // Allowed, though nobody is there.
    let to = "127.66.3.9:9".parse().expect("address");
    assert_eq!(code(narrow.connect(to).await), ErrorCode::ConnectionRefused);
    let mut granted = Instance::new("127.66.3.4", &[("skiff.dev/egress", &format!("127.0.0.1:{port}"))]);
    granted
        .connect(server.local_addr().expect("address"))
        .await
        .expect("granted by name");
}

#[tokio::test]
async fn only_granted_names_are_looked_up_and_they_grant_nothing_protected() {
    let mut pod = Instance::new("127.66.4.2", &[("skiff.dev/egress", "localhost")]);
    assert_eq!(code(pod.look_up("example.com").await), ErrorCode::AccessDenied);
    // DNS rebinding: a granted name that resolves to the node itself (FAULTS.md G12).
    let found = pod.look_up("localhost").await.expect("looked up");
    assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    for ip in found {
        assert_eq!(
            code(pod.connect(SocketAddr::new(ip, 80)).await),
            ErrorCode::AccessDenied,
            "{ip}"
        );
    }
    assert!(pod.lookups.len() == 1, "the stream is still open");
}

#[tokio::test]
async fn sockets_are_counted_over_all_instances_accepted_ones_too() {
    let mut pod = Instance::new("127.66.5.2", &[("skiff.dev/sockets", "2")]);
    let (listener, bound) = pod.listen("0.0.0.0:0").await.expect("bound");
    let second = pod
        .sockets()
        .create_tcp_socket(IpAddressFamily::Ipv4)
        .expect("room for two");
    assert_eq!(
        code(pod.sockets().create_tcp_socket(IpAddressFamily::Ipv4)),
        ErrorCode::NewSocketLimit
    );
    // An accepted one too many is closed unserved.
    let mut client = tokio::net::TcpStream::connect(bound).await.expect("connected");
    assert_eq!(code(pod.sockets().accept(own(&listener))), ErrorCode::WouldBlock);
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut client, &mut byte).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    tcp::HostTcpSocket::drop(&mut pod.sockets(), second).expect("dropped");
    let _client = tokio::net::TcpStream::connect(bound).await.expect("connected");
    pod.until_ready(own(&listener)).await;
    pod.sockets().accept(own(&listener)).expect("room again");
}

#[tokio::test]
async fn ingress_is_enforced_where_a_guest_accepts() {
    let mut pod = Instance::new("127.66.6.2", &[("skiff.dev/ingress", "127.66.6.0/30")]);
    let (listener, bound) = pod.listen("0.0.0.0:0").await.expect("bound");
    let from = |ip: &str| {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::new(ip.parse().expect("address"), 0))
            .expect("bound");
        socket.connect(bound)
    };
    let mut stranger = from("127.66.6.9").await.expect("the kernel accepts");
    assert_eq!(code(pod.sockets().accept(own(&listener))), ErrorCode::WouldBlock);
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut stranger, &mut byte).await;
    assert!(matches!(read, Ok(0) | Err(_)), "closed");
    let _friend = from("127.66.6.1").await.expect("connected");
    pod.until_ready(own(&listener)).await;
    pod.sockets().accept(own(&listener)).expect("accepted");
}
