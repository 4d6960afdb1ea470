//! `wasi:sockets` as a pod sees it: a bind to every address means the pod's own, connections come from it, names are
//! looked up as the egress list allows, and sockets are counted. All else is the library's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp, udp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::counts::Taken;
use super::net::ContainerNet;

/// Names being looked up, by the stream that their addresses come from.
pub(super) type Lookups = HashMap<u32, String>;

/// The library's view with the pod's place in the network.
pub(super) struct PodSockets<'a> {
    pub(super) view: WasiSocketsCtxView<'a>,
    pub(super) net: &'a Arc<ContainerNet>,
    pub(super) taken: &'a Taken,
    pub(super) lookups: &'a mut Lookups,
}

pub(super) struct HasPodSockets;

impl HasData for HasPodSockets {
    type Data<'a> = PodSockets<'a>;
}

impl PodSockets<'_> {
    /// `0.0.0.0:80` → `10.42.0.7:80`; `[::]:80` likewise on a pod with an IPv6 address.
    pub(super) fn own(&self, address: SocketAddr) -> SocketAddr {
        let same_family = address.is_ipv4() == self.net.ip.is_ipv4();
        match address.ip().is_unspecified() && same_family {
            true => SocketAddr::new(self.net.ip, address.port()),
            false => address,
        }
    }

    /// Any port of the pod's own address; of every address when it has none of this family.
    pub(super) fn any_own(&self, v4: bool) -> SocketAddr {
        let every: IpAddr = match v4 {
            true => std::net::Ipv4Addr::UNSPECIFIED.into(),
            false => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        self.own(SocketAddr::new(every, 0))
    }
}

fn plain(address: network::IpAddress) -> IpAddr {
    match address {
        network::IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        network::IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
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
pub(super) use forward;

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
        let address = self.own(address.into()).into();
        tcp::HostTcpSocket::start_bind(&mut self.view, socket, network, address).await
    }

    async fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        tcp::HostTcpSocket::start_listen(&mut self.view, socket).await
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        // From the pod's own address, so that others can tell it. A socket that is bound already stays as it is. The
        // check of an address never waits.
        let own = self.any_own(SocketAddr::from(to).is_ipv4());
        let (same, network_too) = (Resource::new_borrow(socket.rep()), Resource::new_borrow(network.rep()));
        let bound = tcp::HostTcpSocket::start_bind(&mut self.view, same, network_too, own.into()).now_or_never();
        if matches!(bound, Some(Ok(()))) {
            tcp::HostTcpSocket::finish_bind(&mut self.view, Resource::new_borrow(socket.rep()))?;
        }
        tcp::HostTcpSocket::start_connect(&mut self.view, socket, network, to)
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<()> {
        tcp::HostTcpSocket::drop(&mut self.view, socket)?;
        self.taken.socket_closed();
        Ok(())
    }

    forward! { tcp::HostTcpSocket;
        finish_bind(socket: Resource<TcpSocket>) -> SocketResult<()>;
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
        let address = self.own(address.into()).into();
        udp::HostUdpSocket::start_bind(&mut self.view, socket, network, address).await
    }

    async fn stream(&mut self, socket: Resource<UdpSocket>, to: Option<IpSocketAddress>) -> SocketResult<Datagrams> {
        udp::HostUdpSocket::stream(&mut self.view, socket, to).await
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<()> {
        udp::HostUdpSocket::drop(&mut self.view, socket)?;
        self.taken.socket_closed();
        Ok(())
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
    }
}

impl tcp_create_socket::Host for PodSockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if !self.taken.socket() {
            return Err(ErrorCode::NewSocketLimit.into());
        }
        let socket = tcp_create_socket::Host::create_tcp_socket(&mut self.view, family);
        self.kept(socket)
    }
}

impl udp_create_socket::Host for PodSockets<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        if !self.taken.socket() {
            return Err(ErrorCode::NewSocketLimit.into());
        }
        let socket = udp_create_socket::Host::create_udp_socket(&mut self.view, family).await;
        self.kept(socket)
    }
}

impl ip_name_lookup::Host for PodSockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        if !self.net.may_look_up(&name) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let kept = self.net.learns_names().then(|| name.clone());
        let stream = ip_name_lookup::Host::resolve_addresses(&mut self.view, network, name)?;
        if let Some(name) = kept {
            self.lookups.insert(stream.rep(), name);
        }
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for PodSockets<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<network::IpAddress>> {
        let rep = stream.rep();
        let address = ip_name_lookup::HostResolveAddressStream::resolve_next_address(&mut self.view, stream)?;
        if let (Some(address), Some(name)) = (address, self.lookups.get(&rep)) {
            self.net.learn(name, plain(address));
        }
        Ok(address)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.lookups.remove(&stream.rep());
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.view, stream)
    }

    forward! { ip_name_lookup::HostResolveAddressStream;
        subscribe(stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>>;
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
mod tests;
