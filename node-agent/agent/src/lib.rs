//! The node agent: makes the pods bound to this node run on whatever `dyn Runtime` it was given.
//!
//! **Invariant:** it never names a concrete runtime, and decides nothing about a pod: `skiff_lifecycle::step` does.
//! **Invariant:** the control plane never dials this node; everything goes through connections opened from here.
//!
//! Reading order: `config`, `join` (who we are), `transport` (how we talk), `agent` (what runs), `node_status` (our Node),
//! `pods` → `worker` → `perform` (one pod), `images`, `env`, `volumes`, `probe`, `hooks` (what performing needs),
//! `status_writer`, `events` (what is told), `checkpoint` (what survives), `tunnel` → `server` → `logs`, `telemetry`,
//! `streams`, `forward` (who asks us).

mod agent;
mod checkpoint;
pub mod config;
mod context;
mod env;
pub mod error;
mod events;
pub mod eviction;
mod files;
mod forward;
mod guest_config;
mod hooks;
mod image_gc;
mod images;
pub mod join;
mod logs;
mod machine;
mod node_status;
mod objects;
mod observe;
mod perform;
mod pod_network;
mod pods;
mod probe;
mod server;
mod signature;
mod status_writer;
mod streams;
mod telemetry;
mod tokens;
pub mod transport;
mod tunnel;
mod volumes;
mod worker;

use std::sync::Arc;

use skiff_runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use config::AgentConfig;
pub use error::AgentError;
pub use eviction::EvictionHard;
pub use join::Identity;

/// A client for the API server that presents the node's certificate.
pub fn client(identity: &Identity) -> Result<kube::Client, AgentError> {
    let transport = transport::Transport::new(&identity.server_url, identity.tls_config(&[b"h2", b"http/1.1"])?)?;
    Ok(kube::Client::new(transport, "default"))
}

/// Runs the agent until `shutdown`. Pods go on running afterwards; a later `run` on the same data directory adopts them.
///
/// `wake_rx` is the receiving end of the wake senders that the runtimes were built with.
pub async fn run(
    config: AgentConfig,
    runtimes: Vec<Arc<dyn Runtime>>,
    mut wake_rx: mpsc::Receiver<String>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let client = client(&config.identity)?;
    let agent = agent::Agent::start(config, client, runtimes, shutdown)?;
    agent::drive(&agent, &mut wake_rx).await
}

#[cfg(test)]
mod tests;
