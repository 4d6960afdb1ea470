//! Everything the agent runs, and how it ends.

use std::sync::Arc;

use skiff_runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::checkpoint::Checkpoints;
use crate::config::AgentConfig;
use crate::context::Context;
use crate::error::AgentError;
use crate::events::Events;
use crate::node_status::{self, NodeStatus};
use crate::pod_network::PodNetwork;
use crate::pods::Pods;
use crate::server::Server;
use crate::{files, join, tunnel};

pub(crate) async fn run(
    config: AgentConfig,
    client: kube::Client,
    runtimes: Vec<Arc<dyn Runtime>>,
    mut wake_rx: mpsc::Receiver<String>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    files::create_directory(&config.data_dir)?;
    files::create_directory(&config.log_dir)?;
    let (checkpoints, found) = Checkpoints::open(&config.data_dir)?;
    let events = Events::start(client.clone(), config.node_name.clone());
    let network = PodNetwork::new(&config.data_dir);
    let (node_sender, node) = watch::channel(None);
    let node_status = NodeStatus {
        handlers: runtimes.iter().map(|runtime| runtime.name().to_owned()).collect(),
        config: config.clone(),
        client: client.clone(),
        events: events.clone(),
        network: network.clone(),
        node: node_sender,
    };
    let identity = config.identity.clone();
    let lease = node_status::keep_lease(client.clone(), config.node_name.clone(), node.clone());
    let ctx = Arc::new(Context::new(
        config,
        client,
        runtimes,
        events,
        checkpoints.clone(),
        network,
        node,
    ));
    let pods = Pods::new(ctx.clone(), shutdown.clone());
    info!(pods = found.len(), "the agent starts");
    pods.restore(found);
    let server = Arc::new(Server::new(ctx.clone(), pods.clone()));
    let background = [
        tokio::spawn(node_status.run()),
        tokio::spawn(lease),
        tokio::spawn(join::keep_renewed(identity.clone())),
        tokio::spawn(tunnel::run(identity, server, shutdown.clone())),
        tokio::spawn(pods.clone().run()),
    ];
    loop {
        tokio::select! {
            Some(pod_uid) = wake_rx.recv() => pods.wake(&pod_uid),
            () = shutdown.cancelled() => break,
        }
    }
    pods.wait().await;
    for task in background {
        task.abort();
    }
    let closed = tokio::task::spawn_blocking(move || checkpoints.close()).await;
    info!("the agent ended, its pods go on");
    closed.map_err(|error| AgentError::Unreachable {
        attempted: "write checkpoints",
        why: error.to_string(),
    })
}
