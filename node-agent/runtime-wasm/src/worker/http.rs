//! Serving a `wasi:http` component on the pod's address: a fresh instance per request, no instance while idle.
//!
//! A request waits for one of `Bounds::requests` turns, or is answered 503. Its guest runs in a task of its own, so it
//! may go on after the head of the response; it ends with the deadline, with the client's connection, or with the
//! container. A guest that traps costs its request (500); one that runs out of memory ends the container, since the
//! limit is the container's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p3::bindings::Service;

use super::container::{Container, Stop};
use super::executor::Executor;
use super::exit::Exit;
use super::guest::Surroundings;
use super::hits::Limit;
use super::request;
use super::traffic::Counted;
use super::warm::Warm;
use crate::limits;
use crate::protocol::WireError;

/// Pause after a failed accept (out of descriptors): without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 1024;

/// What all connections of one container share.
pub(super) struct Server {
    pub(super) container: Arc<Container>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    pub(super) warm: Warm<Proxy>,
    pub(super) warm_p3: Warm<Service>,
    connections: TaskTracker,
    /// No new requests; connections end after the one at hand.
    draining: CancellationToken,
    /// Everything ends now.
    pub(super) killed: CancellationToken,
    /// An end of the whole container that a request led to.
    pub(super) fatal: mpsc::Sender<Exit>,
}

/// Opens the container's port. The address need not be configured on an interface.
pub(super) fn listen(container: &Container) -> Result<std::net::TcpListener, WireError> {
    let port = container.spec().ports.first().copied().unwrap_or(8080);
    let address = SocketAddr::new(container.surroundings.net.ip, port);
    let open = || -> std::io::Result<std::net::TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv4() {
            socket.set_freebind_v4(true)?;
        } else {
            socket.set_freebind_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| WireError::Start(format!("listen on {address}: {error}")))
}

/// Serves until stopped.
pub(super) async fn run(container: Arc<Container>, listener: std::net::TcpListener, executor: Executor) -> Exit {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return Exit::host_failed(&error.to_string()),
    };
    let (fatal, mut fatal_rx) = mpsc::channel(1);
    let server = Arc::new(Server {
        container: container.clone(),
        turns: Arc::new(Semaphore::new(container.surroundings.bounds.requests)),
        waiting: AtomicUsize::new(0),
        warm: Warm::new(container.surroundings.bounds.requests_per_instance),
        warm_p3: Warm::new(container.surroundings.bounds.requests_per_instance),
        connections: TaskTracker::new(),
        draining: CancellationToken::new(),
        killed: CancellationToken::new(),
        fatal,
    });
    let _kill = server.killed.clone().drop_guard();
    let mut stop = container.stop.subscribe();
    let mut exit = tokio::select! {
        () = accept(&server, &listener, &executor) => Exit::code(0),
        () = server.warm.expire() => Exit::code(0),
        () = server.warm_p3.expire() => Exit::code(0),
        Some(exit) = fatal_rx.recv() => exit,
        _ = stop.wait_for(|stop| *stop != Stop::No) => Exit::code(0),
    };
    // The port is free for the container's successor from here on.
    drop(listener);
    server.draining.cancel();
    server.connections.close();
    if exit == Exit::code(0) {
        exit = drain(&server, &mut stop, &mut fatal_rx).await;
    }
    server.killed.cancel();
    server.connections.wait().await;
    // Each guest gives its turn back when it is gone; an error would mean that turns are closed, which they never are.
    let _ = server
        .turns
        .acquire_many(container.surroundings.bounds.requests as u32)
        .await;
    exit
}

/// Lets the requests at hand finish, up to the end of the grace period.
async fn drain(
    server: &Server,
    stop: &mut tokio::sync::watch::Receiver<Stop>,
    fatal: &mut mpsc::Receiver<Exit>,
) -> Exit {
    loop {
        let Stop::By(deadline) = *stop.borrow_and_update() else {
            return Exit::code(0);
        };
        tokio::select! {
            () = server.connections.wait() => return Exit::code(0),
            Some(exit) = fatal.recv() => return exit,
            () = sleep_until(deadline) => return Exit::killed(),
            // The grace was shortened.
            Ok(()) = stop.changed() => {}
        }
    }
}

async fn accept(server: &Arc<Server>, listener: &TcpListener, executor: &Executor) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Surroundings { net, bounds, .. } = &server.container.surroundings;
        if !net.admits(peer.ip()) {
            continue;
        }
        if server.connections.len() >= bounds.connections {
            server.container.surroundings.hits.count(Limit::Connections);
            continue;
        }
        // Connections are spread over the server threads; each stays where it is.
        let Ok(stream) = stream.into_std() else { continue };
        let connection = serve(server.clone(), stream);
        executor.server().spawn(server.connections.track_future(connection));
    }
}

async fn serve(server: Arc<Server>, stream: std::net::TcpStream) {
    let killed = server.killed.clone();
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    let _ = stream.set_nodelay(true);
    // The protocol detection that follows has no deadline of its own.
    let first_byte = timeout(limits::HEADER_DEADLINE, stream.readable());
    tokio::select! {
        ready = first_byte => if !matches!(ready, Ok(Ok(()))) { return },
        () = server.draining.cancelled() => return,
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_DEADLINE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(server.container.surroundings.bounds.requests as u32)
        .keep_alive_interval(limits::HEADER_DEADLINE)
        .keep_alive_timeout(limits::HEADER_DEADLINE);
    let service = hyper::service::service_fn(|request| {
        let server = server.clone();
        async move {
            let traffic = server.container.surroundings.traffic.clone();
            let response = answer(server, request).await;
            traffic.answered(response.status());
            Ok::<_, Infallible>(response)
        }
    });
    let stream = Counted::new(stream, server.container.surroundings.traffic.clone());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = killed.cancelled() => return,
            () = server.draining.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Response<WasiBody> {
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return plain(StatusCode::BAD_REQUEST, "the request names no host\n");
    }
    let Some(turn) = turn(&server).await else {
        server.container.surroundings.hits.count(Limit::Requests);
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n");
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static(limits::RETRY_AFTER_SECONDS));
        return response;
    };
    request::handle(server, request, turn).await
}

/// A turn to run, or None when too many wait for one.
async fn turn(server: &Server) -> Option<OwnedSemaphorePermit> {
    if let Ok(turn) = server.turns.clone().try_acquire_owned() {
        return Some(turn);
    }
    struct Waiting<'a>(&'a AtomicUsize);
    impl Drop for Waiting<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let before = server.waiting.fetch_add(1, Ordering::Relaxed);
    let _waiting = Waiting(&server.waiting);
    let bounds = &server.container.surroundings.bounds;
    if before >= bounds.request_queue {
        return None;
    }
    match timeout(bounds.request_deadline, server.turns.clone().acquire_owned()).await {
        Ok(Ok(turn)) => Some(turn),
        _ => None,
    }
}

/// A response of the host's own.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
