//! The node agent as one function: joins, picks the runtimes, starts the agent. The only place that names a concrete
//! runtime.

mod addresses;
mod compile_service;
mod registry;

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use skiff_agent::AgentConfig;
pub use skiff_agent::EvictionHard;
use skiff_runtime::Runtime;
use skiff_runtime_wasm::{Compile, OciSource, WasmConfig, WasmLimits, WasmRuntime};
use tokio_util::sync::CancellationToken;

use compile_service::ControlPlaneCompiler;

/// Wakes waiting for the agent. A full channel loses nothing: a wake only says "look again", and a look is due anyway.
const WAKES_MAX: usize = 1024;

/// What becomes of the pods when the agent is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// They go on; the next agent on this data directory adopts them. For restarts and upgrades.
    KeepPods,
    /// Their workers are ended. For `skiff up`, whose Ctrl-C must leave nothing behind.
    StopPods,
}

/// Who compiles modules for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileBy {
    /// The control plane's compile service only.
    Service,
    /// A limited child of this node.
    Local,
    /// The compile service; a limited child of this node when the service cannot.
    Auto,
}

/// Everything that a node agent is told.
#[derive(Clone, Debug)]
pub struct NodeAgentConfig {
    pub server_url: String,
    /// Needed until the node has a certificate.
    pub token: Option<String>,
    pub data_dir: PathBuf,
    pub node_name: String,
    /// The Node's InternalIP; by default the address towards the control plane.
    pub node_ip: Option<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub max_pods: Option<u32>,
    /// Below these the node is under pressure; kubelet's defaults if none are given.
    pub eviction_hard: Option<EvictionHard>,
    /// Registries (`HOST[:PORT]`) that are spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// The `skiff` program, started again for workers and compilers.
    pub executable: PathBuf,
    pub on_exit: OnExit,
    pub compile: CompileBy,
}

/// Runs the agent until `stop`.
pub async fn run(config: NodeAgentConfig, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    let shutdown = CancellationToken::new();
    let stopped = shutdown.clone();
    tokio::spawn(async move {
        stop.await;
        stopped.cancel();
    });
    let joining = skiff_agent::join::load_or_join(
        &config.server_url,
        config.token.as_deref(),
        &config.data_dir,
        &config.node_name,
    );
    let identity = tokio::select! {
        joined = joining => joined.context("join the control plane")?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let client = skiff_agent::client(&identity).context("make a client for the control plane")?;
    let (wake, wake_rx) = tokio::sync::mpsc::channel(WAKES_MAX);
    let node_ip = config.node_ip.unwrap_or_else(|| address_towards(&config.server_url));
    let service = || Arc::new(ControlPlaneCompiler::new(client.clone(), identity.clone()));
    let compile = match config.compile {
        CompileBy::Service => Compile::Service(service()),
        CompileBy::Local => Compile::Local,
        CompileBy::Auto => Compile::Auto(service()),
    };
    let wasm = WasmRuntime::new(WasmConfig {
        data_dir: config.data_dir.clone(),
        exe: config.executable.clone(),
        sources: vec![
            Arc::new(registry::ControlPlaneSource::new(client.clone())),
            Arc::new(OciSource::new(config.insecure_registries.clone())),
        ],
        wake,
        limits: WasmLimits {
            denied: addresses::of_node_and_server(node_ip, &config.server_url),
            ..WasmLimits::of_this_node()
        },
        compile,
    })
    .await
    .context("start the WebAssembly runtime")?;
    let wasm = Arc::new(wasm);

    let mut agent = AgentConfig::new(identity, config.data_dir.clone(), node_ip);
    agent.labels = config.labels;
    agent.pods_end_with_agent = config.on_exit == OnExit::StopPods;
    if let Some(max_pods) = config.max_pods {
        agent.max_pods = max_pods;
    }
    if let Some(eviction_hard) = config.eviction_hard {
        agent.eviction_hard = eviction_hard;
    }
    let runtimes: Vec<Arc<dyn Runtime>> = vec![wasm.clone()];
    let outcome = skiff_agent::run(agent, runtimes, wake_rx, shutdown)
        .await
        .context("run the node agent");
    if config.on_exit == OnExit::StopPods {
        wasm.stop_workers();
    }
    outcome
}

/// The local address of a connection to the control plane. Connecting a UDP socket sends nothing.
fn address_towards(server_url: &str) -> IpAddr {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let Ok(uri) = server_url.parse::<hyper::Uri>() else {
        return loopback;
    };
    let host = uri.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']).to_owned();
    let Ok(mut addresses) = (host.as_str(), uri.port_u16().unwrap_or(443)).to_socket_addrs() else {
        return loopback;
    };
    let Some(target) = addresses.next() else {
        return loopback;
    };
    let any: IpAddr = if target.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()))
        .map_or(loopback, |local| local.ip())
}
