//! `wasi:sockets` as a pod sees it: a bind to every address means the pod's own. All else is the library's.

use std::net::{IpAddr, SocketAddr};

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::udp;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

/// The library's view with the pod's address.
pub(super) struct PodSockets<'a> {
    pub(super) view: WasiSocketsCtxView<'a>,
    pub(super) ip: IpAddr,
}

pub(super) struct HasPodSockets;

impl HasData for HasPodSockets {
    type Data<'a> = PodSockets<'a>;
}

impl PodSockets<'_> {
    /// `0.0.0.0:80` → `10.42.0.7:80`; `[::]:80` likewise on a pod with an IPv6 address.
    fn own(&self, address: IpSocketAddress) -> IpSocketAddress {
        let address = SocketAddr::from(address);
        let same_family = address.is_ipv4() == self.ip.is_ipv4();
        match address.ip().is_unspecified() && same_family {
            true => SocketAddr::new(self.ip, address.port()).into(),
            false => address.into(),
        }
    }
}

/// Methods that go straight to the library.
macro_rules! forward {
    ($api:path; $($name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self $(, $argument: $kind)*) -> $result {
            <WasiSocketsCtxView<'_> as $api>::$name(&mut self.view $(, $argument)*)
        })*
    };
}

impl network::Host for PodSockets<'_> {
    forward! { network::Host;
        convert_error_code(error: SocketError) -> wasmtime::Result<ErrorCode>;
        network_error_code(error: Resource<wasmtime_wasi::p2::IoError>) -> wasmtime::Result<Option<ErrorCode>>;
    }
}

impl network::HostNetwork for PodSockets<'_> {
    forward! { network::HostNetwork;
        drop(network: Resource<Network>) -> wasmtime::Result<()>;
    }
}

impl tcp::Host for PodSockets<'_> {}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);
type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);

impl tcp::HostTcpSocket for PodSockets<'_> {
    async fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let address = self.own(address);
        tcp::HostTcpSocket::start_bind(&mut self.view, socket, network, address).await
    }

    async fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        tcp::HostTcpSocket::start_listen(&mut self.view, socket).await
    }

    forward! { tcp::HostTcpSocket;
        finish_bind(socket: Resource<TcpSocket>) -> SocketResult<()>;
        start_connect(socket: Resource<TcpSocket>, network: Resource<Network>, to: IpSocketAddress) -> SocketResult<()>;
        finish_connect(socket: Resource<TcpSocket>) -> SocketResult<Streams>;
        finish_listen(socket: Resource<TcpSocket>) -> SocketResult<()>;
        accept(socket: Resource<TcpSocket>) -> SocketResult<Accepted>;
        local_address(socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress>;
        remote_address(socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress>;
        is_listening(socket: Resource<TcpSocket>) -> wasmtime::Result<bool>;
        address_family(socket: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily>;
        set_listen_backlog_size(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        keep_alive_enabled(socket: Resource<TcpSocket>) -> SocketResult<bool>;
        set_keep_alive_enabled(socket: Resource<TcpSocket>, value: bool) -> SocketResult<()>;
        keep_alive_idle_time(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_keep_alive_idle_time(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        keep_alive_interval(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_keep_alive_interval(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        keep_alive_count(socket: Resource<TcpSocket>) -> SocketResult<u32>;
        set_keep_alive_count(socket: Resource<TcpSocket>, value: u32) -> SocketResult<()>;
        hop_limit(socket: Resource<TcpSocket>) -> SocketResult<u8>;
        set_hop_limit(socket: Resource<TcpSocket>, value: u8) -> SocketResult<()>;
        receive_buffer_size(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_receive_buffer_size(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        send_buffer_size(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_send_buffer_size(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        subscribe(socket: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>>;
        shutdown(socket: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()>;
        drop(socket: Resource<TcpSocket>) -> wasmtime::Result<()>;
    }
}

impl udp::Host for PodSockets<'_> {}

type Datagrams = (
    Resource<udp::IncomingDatagramStream>,
    Resource<udp::OutgoingDatagramStream>,
);

impl udp::HostUdpSocket for PodSockets<'_> {
    async fn start_bind(
        &mut self,
        socket: Resource<UdpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let address = self.own(address);
        udp::HostUdpSocket::start_bind(&mut self.view, socket, network, address).await
    }

    async fn stream(&mut self, socket: Resource<UdpSocket>, to: Option<IpSocketAddress>) -> SocketResult<Datagrams> {
        udp::HostUdpSocket::stream(&mut self.view, socket, to).await
    }

    forward! { udp::HostUdpSocket;
        finish_bind(socket: Resource<UdpSocket>) -> SocketResult<()>;
        local_address(socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress>;
        remote_address(socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress>;
        address_family(socket: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily>;
        unicast_hop_limit(socket: Resource<UdpSocket>) -> SocketResult<u8>;
        set_unicast_hop_limit(socket: Resource<UdpSocket>, value: u8) -> SocketResult<()>;
        receive_buffer_size(socket: Resource<UdpSocket>) -> SocketResult<u64>;
        set_receive_buffer_size(socket: Resource<UdpSocket>, value: u64) -> SocketResult<()>;
        send_buffer_size(socket: Resource<UdpSocket>) -> SocketResult<u64>;
        set_send_buffer_size(socket: Resource<UdpSocket>, value: u64) -> SocketResult<()>;
        subscribe(socket: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>>;
        drop(socket: Resource<UdpSocket>) -> wasmtime::Result<()>;
    }
}

impl udp::HostIncomingDatagramStream for PodSockets<'_> {
    forward! { udp::HostIncomingDatagramStream;
        receive(stream: Resource<udp::IncomingDatagramStream>, most: u64) -> SocketResult<Vec<udp::IncomingDatagram>>;
        subscribe(stream: Resource<udp::IncomingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>>;
        drop(stream: Resource<udp::IncomingDatagramStream>) -> wasmtime::Result<()>;
    }
}

impl udp::HostOutgoingDatagramStream for PodSockets<'_> {
    forward! { udp::HostOutgoingDatagramStream;
        check_send(stream: Resource<udp::OutgoingDatagramStream>) -> SocketResult<u64>;
        send(stream: Resource<udp::OutgoingDatagramStream>, datagrams: Vec<udp::OutgoingDatagram>) -> SocketResult<u64>;
        subscribe(stream: Resource<udp::OutgoingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>>;
    }

    async fn drop(&mut self, stream: Resource<udp::OutgoingDatagramStream>) -> wasmtime::Result<()> {
        udp::HostOutgoingDatagramStream::drop(&mut self.view, stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcp::HostTcpSocket;
    use wasmtime_wasi::p2::bindings::sockets::{instance_network, tcp_create_socket};
    use wasmtime_wasi::{ResourceTable, WasiCtxBuilder};

    async fn bind(pod: &str, address: &str) -> SocketResult<SocketAddr> {
        let ip = pod.parse().expect("address");
        let net = std::sync::Arc::new(super::super::net::PodNet::new(ip, Vec::new()));
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_tcp(true);
        super::super::net::restrict(&mut wasi, &net, &std::sync::Arc::default());
        let (mut wasi, mut table) = (wasi.build(), ResourceTable::new());
        let view = WasiSocketsCtxView {
            ctx: wasi.sockets(),
            table: &mut table,
        };
        let mut pod = PodSockets { view, ip };
        let network = instance_network::Host::instance_network(&mut pod.view).expect("a network");
        let socket = tcp_create_socket::Host::create_tcp_socket(&mut pod.view, IpAddressFamily::Ipv4)?;
        let address: SocketAddr = address.parse().expect("address");
        let own = |socket: &Resource<TcpSocket>| Resource::new_borrow(socket.rep());
        pod.start_bind(own(&socket), network, address.into()).await?;
        pod.finish_bind(own(&socket))?;
        pod.start_listen(own(&socket)).await?;
        pod.finish_listen(own(&socket))?;
        Ok(pod.local_address(own(&socket))?.into())
    }

    #[tokio::test]
    async fn listening_on_every_address_is_listening_on_the_pods() {
        let bound = bind("127.66.1.2", "0.0.0.0:0").await.expect("bound");
        assert_eq!(bound.ip().to_string(), "127.66.1.2");
        assert!(bind("127.66.1.2", "127.66.1.3:0").await.is_err());
    }
}
