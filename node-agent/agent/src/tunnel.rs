//! The one connection over which the control plane reaches this node. The agent opens it, and after the upgrade the roles
//! turn round: the agent is the HTTP/2 server. A dead connection is noticed by pings and opened again.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::error::chain;
use crate::join::Identity;
use crate::server::{STREAMS_MAX, Server, Shared};
use crate::transport::{BoxError, connect};

pub(crate) const PATH: &str = "/skiff/v1/tunnel";
const PROTOCOL: &str = "skiff-tunnel";
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Between tries; doubles up to the maximum, and is scattered so that a thousand nodes do not come back at once.
const RETRY_INITIAL: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A connection that held this long was a good one: the next try comes at once.
const HELD: Duration = Duration::from_secs(30);
/// What one request's body may be ahead of its reader: 5 MB/s over a link of 50 ms. The connection's window is that of all
/// streams together, so that no number of readers that stand still holds up another one.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;
/// What hyper may take of an answer before the control plane has room for it.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// A refusal longer than this is cut.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Keeps the tunnel open until shutdown.
pub(crate) async fn run(identity: Identity, server: Arc<Server>, shutdown: CancellationToken) {
    let mut delay = RETRY_INITIAL;
    let mut told = false;
    loop {
        let opened = tokio::time::Instant::now();
        let result = tokio::select! {
            result = once(&identity, &server) => result,
            () = shutdown.cancelled() => return,
        };
        match result {
            Ok(()) => {
                info!("the tunnel was closed");
                told = false;
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                warn!(error = chain(&*error), "the tunnel is not open, trying again");
            }
            Err(error) => debug!(error = chain(&*error), "the tunnel is not open, trying again"),
        }
        if opened.elapsed() >= HELD {
            delay = RETRY_INITIAL;
        }
        tokio::select! {
            () = tokio::time::sleep(scatter(delay)) => {}
            () = shutdown.cancelled() => return,
        }
        delay = (delay * 2).min(RETRY_MAX);
    }
}

/// Half to all of the delay. The clock's last digits are random enough to spread nodes.
fn scatter(delay: Duration) -> Duration {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    delay / 2 + delay.mul_f64(f64::from(nanos % 1000) / 2000.0)
}

/// Opens the tunnel and serves it until it ends.
async fn once(identity: &Identity, server: &Arc<Server>) -> Result<(), BoxError> {
    let uri: Uri = identity.server_url.parse()?;
    let stream = connect(identity.tls_config(&[b"http/1.1"])?, &uri).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection.with_upgrades());
    let request = Request::get(PATH)
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, PROTOCOL)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        connection.abort();
        return Err(format!("the server answered {status}: {}", String::from_utf8_lossy(&body)).into());
    }
    let upgraded = hyper::upgrade::on(response).await?;
    info!("the tunnel is open");
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // Guards against hostile clients, which the control plane is not: sessions that were broken off add up over the
        // life of a tunnel, and must not end it.
        .max_pending_accept_reset_streams(STREAMS_MAX)
        .max_local_error_reset_streams(None)
        .serve_connection(upgraded, Shared(server.clone()))
        .await?;
    Ok(())
}
