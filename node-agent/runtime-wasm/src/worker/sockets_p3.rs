//! `wasi:sockets` 0.3 as a pod sees it: the same rules as for 0.2 ([`super::sockets`]). All else is the library's.

use std::net::SocketAddr;

use futures::FutureExt;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime::{AsContextMut, Result};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup, types};
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};
use wasmtime_wasi::sockets::{TcpSocket, UdpSocket, WasiSockets, WasiSocketsCtxView, WasiSocketsView};

use super::guest::{Guest, Linker};
use super::sockets::{HasPodSockets, PodSockets, forward};

type Address = types::IpSocketAddress;
type Family = types::IpAddressFamily;
/// How a stream ends.
type Ended = FutureReader<std::result::Result<(), types::ErrorCode>>;

/// In place of the library's.
pub(super) fn add_to_linker(linker: &mut Linker) -> Result<()> {
    types::add_to_linker::<Guest, HasPodSockets>(linker, Guest::pod_sockets)?;
    ip_name_lookup::add_to_linker::<Guest, HasPodSockets>(linker, Guest::pod_sockets)
}

fn library(accessor: &Accessor<Guest, HasPodSockets>) -> Accessor<Guest, WasiSockets> {
    accessor.with_getter::<WasiSockets>(|guest| guest.sockets())
}

fn too_many() -> SocketError {
    types::ErrorCode::OutOfMemory.into()
}

impl PodSockets<'_> {
    fn own_p3(&self, address: Address) -> Address {
        self.own(SocketAddr::from(address)).into()
    }
}

impl types::Host for PodSockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<types::ErrorCode> {
        types::Host::convert_error_code(&mut self.view, error)
    }
}

impl types::HostTcpSocketWithStore<Guest> for HasPodSockets {
    async fn connect(accessor: &Accessor<Guest, Self>, socket: Resource<TcpSocket>, to: Address) -> SocketResult<()> {
        // From the pod's own address, so that others can tell it. A socket that is bound already stays as it is.
        accessor.with(|mut store| {
            let mut pod = store.get();
            let own = pod.any_own(SocketAddr::from(to).is_ipv4());
            let binding = types::HostTcpSocket::bind(&mut pod.view, borrowed(&socket), own.into());
            // The checks of an address never wait.
            drop(binding.now_or_never());
        });
        <WasiSockets as types::HostTcpSocketWithStore<Guest>>::connect(&library(accessor), socket, to).await
    }

    async fn listen(
        mut store: Access<'_, Guest, Self>,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<StreamReader<Resource<TcpSocket>>> {
        let library = Access::new(store.as_context_mut(), |guest: &mut Guest| guest.sockets());
        <WasiSockets as types::HostTcpSocketWithStore<Guest>>::listen(library, socket).await
    }

    fn send(mut store: Access<'_, Guest, Self>, socket: Resource<TcpSocket>, data: StreamReader<u8>) -> Result<Ended> {
        let library = Access::new(store.as_context_mut(), |guest: &mut Guest| guest.sockets());
        <WasiSockets as types::HostTcpSocketWithStore<Guest>>::send(library, socket, data)
    }

    fn receive(mut store: Access<'_, Guest, Self>, socket: Resource<TcpSocket>) -> Result<(StreamReader<u8>, Ended)> {
        let library = Access::new(store.as_context_mut(), |guest: &mut Guest| guest.sockets());
        <WasiSockets as types::HostTcpSocketWithStore<Guest>>::receive(library, socket)
    }
}

fn borrowed<T>(socket: &Resource<T>) -> Resource<T>
where
    T: 'static,
{
    Resource::new_borrow(socket.rep())
}

impl types::HostTcpSocket for PodSockets<'_> {
    async fn bind(&mut self, socket: Resource<TcpSocket>, address: Address) -> SocketResult<()> {
        let address = self.own_p3(address);
        types::HostTcpSocket::bind(&mut self.view, socket, address).await
    }

    fn create(&mut self, family: Family) -> SocketResult<Resource<TcpSocket>> {
        if !self.taken.socket() {
            return Err(too_many());
        }
        let socket = types::HostTcpSocket::create(&mut self.view, family);
        self.kept(socket)
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> Result<()> {
        types::HostTcpSocket::drop(&mut self.view, socket)?;
        self.taken.socket_closed();
        Ok(())
    }

    forward! { types::HostTcpSocket;
        get_local_address(socket: Resource<TcpSocket>) -> SocketResult<Address>;
        get_remote_address(socket: Resource<TcpSocket>) -> SocketResult<Address>;
        get_is_listening(socket: Resource<TcpSocket>) -> Result<bool>;
        get_address_family(socket: Resource<TcpSocket>) -> Result<Family>;
        set_listen_backlog_size(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        get_keep_alive_enabled(socket: Resource<TcpSocket>) -> SocketResult<bool>;
        set_keep_alive_enabled(socket: Resource<TcpSocket>, value: bool) -> SocketResult<()>;
        get_keep_alive_idle_time(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_keep_alive_idle_time(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        get_keep_alive_interval(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_keep_alive_interval(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        get_keep_alive_count(socket: Resource<TcpSocket>) -> SocketResult<u32>;
        set_keep_alive_count(socket: Resource<TcpSocket>, value: u32) -> SocketResult<()>;
        get_hop_limit(socket: Resource<TcpSocket>) -> SocketResult<u8>;
        set_hop_limit(socket: Resource<TcpSocket>, value: u8) -> SocketResult<()>;
        get_receive_buffer_size(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_receive_buffer_size(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
        get_send_buffer_size(socket: Resource<TcpSocket>) -> SocketResult<u64>;
        set_send_buffer_size(socket: Resource<TcpSocket>, value: u64) -> SocketResult<()>;
    }
}

impl types::HostUdpSocketWithStore<Guest> for HasPodSockets {
    async fn send(
        accessor: &Accessor<Guest, Self>,
        socket: Resource<UdpSocket>,
        data: Vec<u8>,
        to: Option<Address>,
    ) -> SocketResult<()> {
        if let Some(to) = to {
            accessor.with(|mut store| store.get().bind_udp_p3(&socket, to));
        }
        <WasiSockets as types::HostUdpSocketWithStore<Guest>>::send(&library(accessor), socket, data, to).await
    }

    async fn receive(
        accessor: &Accessor<Guest, Self>,
        socket: Resource<UdpSocket>,
    ) -> SocketResult<(Vec<u8>, Address)> {
        <WasiSockets as types::HostUdpSocketWithStore<Guest>>::receive(&library(accessor), socket).await
    }
}

impl PodSockets<'_> {
    /// Binds to the pod's own address, unless the socket is bound.
    fn bind_udp_p3(&mut self, socket: &Resource<UdpSocket>, to: Address) {
        let own = self.any_own(SocketAddr::from(to).is_ipv4());
        let binding = types::HostUdpSocket::bind(&mut self.view, borrowed(socket), own.into());
        // The checks of an address never wait.
        drop(binding.now_or_never());
    }

    /// Gives the socket back to the container's count if it was not made.
    pub(super) fn kept<T, E>(&self, socket: std::result::Result<T, E>) -> std::result::Result<T, E> {
        if socket.is_err() {
            self.taken.socket_closed();
        }
        socket
    }
}

impl types::HostUdpSocket for PodSockets<'_> {
    async fn bind(&mut self, socket: Resource<UdpSocket>, address: Address) -> SocketResult<()> {
        let address = self.own_p3(address);
        types::HostUdpSocket::bind(&mut self.view, socket, address).await
    }

    async fn connect(&mut self, socket: Resource<UdpSocket>, to: Address) -> SocketResult<()> {
        self.bind_udp_p3(&socket, to);
        types::HostUdpSocket::connect(&mut self.view, socket, to).await
    }

    async fn create(&mut self, family: Family) -> SocketResult<Resource<UdpSocket>> {
        if !self.taken.socket() {
            return Err(too_many());
        }
        let socket = types::HostUdpSocket::create(&mut self.view, family).await;
        self.kept(socket)
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> Result<()> {
        types::HostUdpSocket::drop(&mut self.view, socket)?;
        self.taken.socket_closed();
        Ok(())
    }

    forward! { types::HostUdpSocket;
        disconnect(socket: Resource<UdpSocket>) -> SocketResult<()>;
        get_local_address(socket: Resource<UdpSocket>) -> SocketResult<Address>;
        get_remote_address(socket: Resource<UdpSocket>) -> SocketResult<Address>;
        get_address_family(socket: Resource<UdpSocket>) -> Result<Family>;
        get_unicast_hop_limit(socket: Resource<UdpSocket>) -> SocketResult<u8>;
        set_unicast_hop_limit(socket: Resource<UdpSocket>, value: u8) -> SocketResult<()>;
        get_receive_buffer_size(socket: Resource<UdpSocket>) -> SocketResult<u64>;
        set_receive_buffer_size(socket: Resource<UdpSocket>, value: u64) -> SocketResult<()>;
        get_send_buffer_size(socket: Resource<UdpSocket>) -> SocketResult<u64>;
        set_send_buffer_size(socket: Resource<UdpSocket>, value: u64) -> SocketResult<()>;
    }
}

impl ip_name_lookup::Host for PodSockets<'_> {}

impl ip_name_lookup::HostWithStore<Guest> for HasPodSockets {
    async fn resolve_addresses(
        accessor: &Accessor<Guest, Self>,
        name: String,
    ) -> Result<std::result::Result<Vec<types::IpAddress>, ip_name_lookup::ErrorCode>> {
        let net = accessor.with(|mut store| store.get().net.clone());
        if !net.may_look_up(&name) {
            return Ok(Err(ip_name_lookup::ErrorCode::AccessDenied));
        }
        let found =
            <WasiSockets as ip_name_lookup::HostWithStore<Guest>>::resolve_addresses(&library(accessor), name.clone())
                .await?;
        for address in found.iter().flatten() {
            net.learn(&name, (*address).into());
        }
        Ok(found)
    }
}
