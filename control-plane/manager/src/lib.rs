//! The controller manager and the scheduler as one task tree: it drives the pure crates `skiff-controllers` and
//! `skiff-scheduler` through `kube::Client`, over the API server's own service in process or over HTTPS.
//!
//! **Invariant:** everything goes through the API like everyone else's requests; nothing here knows a store.
//!
//! Reading order: `config`, `wiring` (what exists), `informers` (watches fill caches), `controllers` (which change wakes
//! which key), `queue`, `written`, `runner`, `executor`, `collector` and `namespaces` (deletion), `scheduling`,
//! `recorder`, `election`.

mod collector;
mod config;
mod controllers;
mod discovery;
mod election;
mod error;
mod events;
mod executor;
mod informers;
mod namespaces;
mod queue;
mod recorder;
mod requests;
mod runner;
mod scheduling;
#[cfg(test)]
mod testing;
mod wiring;
mod written;

pub use config::{Clients, ControllerTimes, LeaseTimes, ManagerConfig};
pub use error::ManagerError;

use tokio_util::sync::CancellationToken;

/// Runs the controllers and the scheduler until `shutdown` is cancelled; leases are then given back.
///
/// Returns an error only for a configuration that cannot work; an API server that cannot be reached is retried.
pub async fn run(clients: Clients, config: ManagerConfig, shutdown: CancellationToken) -> Result<(), ManagerError> {
    config.check()?;
    wiring::run(clients, config, shutdown).await;
    Ok(())
}
