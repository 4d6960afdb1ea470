//! One file per command; each has `Args` (its flags) and `run`.

pub mod agent;
pub mod completions;
pub mod hidden;
pub mod inspect;
pub mod kubeconfig;
pub mod push;
pub mod run;
pub mod server;
pub mod token;
pub mod up;
pub mod version;

use anyhow::{Context, Result};

/// Worker threads of a client command: it only waits for one server.
pub const CLIENT_THREADS: usize = 1;

/// Runs `future` on a runtime with `threads` workers.
pub fn block_on<T>(threads: usize, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("start the async runtime")?
        .block_on(future)
}

/// Worker threads of a server: one per core.
pub fn server_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Resolves on Ctrl-C or SIGTERM.
pub async fn stop_signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be caught; only Ctrl-C stops this process cleanly");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
