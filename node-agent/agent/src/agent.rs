//! Everything the agent runs, and how it ends.

use std::sync::Arc;

use skiff_runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
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
use crate::telemetry::Telemetry;
use crate::{files, image_gc, join, tunnel};

/// A started agent.
pub(crate) struct Agent {
    checkpoints: Checkpoints,
    pods: Arc<Pods>,
    /// To be shut down with the agent.
    network: Option<PodNetwork>,
    #[cfg(test)]
    server: Arc<Server>,
    background: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
}

impl Agent {
    /// Takes up the pods from before, and starts everything that runs beside them.
    pub(crate) fn start(
        config: AgentConfig,
        client: kube::Client,
        runtimes: Vec<Arc<dyn Runtime>>,
        shutdown: CancellationToken,
    ) -> Result<Self, AgentError> {
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
        let ends = config.pods_end_with_agent.then(|| network.clone());
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
        let image_gc = image_gc::run(pods.clone());
        let telemetry = Arc::new(Telemetry::new(ctx.clone(), pods.clone()));
        let server = Arc::new(Server::new(ctx, pods.clone(), telemetry.clone()));
        let background = vec![
            tokio::spawn(node_status.run()),
            tokio::spawn(lease),
            tokio::spawn(join::keep_renewed(identity.clone())),
            tokio::spawn(tunnel::run(identity, server.clone(), shutdown.clone())),
            tokio::spawn(pods.clone().run()),
            tokio::spawn(telemetry.run()),
            tokio::spawn(image_gc),
        ];
        Ok(Self {
            network: ends,
            checkpoints,
            pods,
            #[cfg(test)]
            server,
            background,
            shutdown,
        })
    }

    #[cfg(test)]
    pub(crate) fn pods(&self) -> &Pods {
        &self.pods
    }

    /// What the control plane can ask of this node.
    #[cfg(test)]
    pub(crate) fn server(&self) -> Arc<Server> {
        self.server.clone()
    }
}

/// Hands on the runtimes' wakes until shutdown, and ends in order.
pub(crate) async fn drive(agent: &Agent, wake_rx: &mut mpsc::Receiver<String>) -> Result<(), AgentError> {
    loop {
        tokio::select! {
            Some(pod_uid) = wake_rx.recv() => agent.pods.wake(&pod_uid),
            () = agent.shutdown.cancelled() => break,
        }
    }
    agent.pods.wait().await;
    for task in &agent.background {
        task.abort();
    }
    if let Some(network) = &agent.network {
        network.shutdown();
    }
    let checkpoints = agent.checkpoints.clone();
    let closed = tokio::task::spawn_blocking(move || checkpoints.close()).await;
    info!("the agent ended, its pods go on");
    closed.map_err(|error| AgentError::Unreachable {
        attempted: "write checkpoints",
        why: error.to_string(),
    })
}
