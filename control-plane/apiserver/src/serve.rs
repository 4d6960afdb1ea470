//! The listener: accept, TLS, HTTP/1.1 or HTTP/2, each step with a deadline and each count with a limit. Goes on in
//! `chain.rs`.

use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{self, Timeouts};
use crate::server::{ApiServer, ServerError};

mod guarded;
#[cfg(test)]
mod tests;

use guarded::Guarded;

/// What is known of a connection.
pub struct Connection {
    /// The verified client certificate chain, leaf first; empty without one.
    pub client_certificates: Vec<CertificateDer<'static>>,
    pub peer: Option<std::net::SocketAddr>,
}

/// Pause after a failed accept: out of file descriptors, most likely, and spinning frees none.
const ACCEPT_ERROR_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Accepts until `shutdown`, then gives running requests `DRAIN_TIMEOUT`.
pub async fn serve(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let acceptor = TlsAcceptor::from(tls);
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
    let tasks = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "did not accept a connection");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        // Small answers and watch lines must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        // A long session of a peer that vanished without a word must not last for ever.
        let _ = keep_alive(&stream);
        let (server, acceptor, handshakes) = (server.clone(), acceptor.clone(), handshakes.clone());
        tasks.spawn(connection(server, acceptor, handshakes, stream, peer, permit));
    }
    drop(listener);
    server.draining.cancel();
    tasks.close();
    let _ = tokio::time::timeout(limits::DRAIN_TIMEOUT, tasks.wait()).await;
    Ok(())
}

/// Has the kernel ask an idle peer for a sign of life.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, limits::KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, limits::KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, limits::KEEP_ALIVE_TRIES)
}

/// One connection from its first byte to its last.
async fn connection(
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    stream: TcpStream,
    peer: std::net::SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let handshake = async {
        let _turn = handshakes.acquire().await;
        tokio::time::timeout(server.timeouts.handshake, acceptor.accept(stream)).await
    };
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let client_certificates = session
        .peer_certificates()
        .map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect())
        .unwrap_or_default();
    let about = Arc::new(Connection {
        client_certificates,
        peer: Some(peer),
    });
    let (draining, timeouts) = (server.draining.clone(), server.timeouts);
    let service = service_fn(move |request| {
        let (server, about) = (server.clone(), about.clone());
        async move { Ok::<_, std::convert::Infallible>(crate::chain::handle(&server, &about, request).await) }
    });
    let awaited = if http2 { guarded::HTTP2_PREFACE_BYTES } else { 1 };
    let io = TokioIo::new(Guarded::new(stream, awaited, timeouts));
    // Spelt out twice: the two connection types share no trait.
    let ended = if http2 {
        let mut connection = pin!(http2_builder().serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut connection = pin!(http1_builder(timeouts).serve_connection(io, service).with_upgrades());
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

fn http1_builder(timeouts: Timeouts) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.header)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HTTP1_BUFFER_MAX)
        .half_close(false);
    builder
}

fn http2_builder() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(limits::HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(limits::HTTP2_ERRORS_MAX)
        .max_header_list_size(limits::HEADER_BYTES_MAX)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER_MAX)
        .keep_alive_interval(limits::HTTP2_PING_INTERVAL)
        .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT);
    builder
}
