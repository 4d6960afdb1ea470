//! `skiff up`: a control plane in this process and a node agent as its child, restarted when it dies.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use skiff_control_plane::ControlPlane;
use skiff_node_agent::EvictionHard;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::server::ServerArgs;
use crate::{logging, paths};

/// A node that is not Ready after this long has a problem worth saying; `up` goes on waiting.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// How often the Node is looked at while it is not Ready. It is ready within a second, so this costs little.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// Pause before a dead agent is started again, so that one that cannot start does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// The agent gets this long to end its pods; their own grace periods are at most 30 s by default.
const AGENT_STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Life of the token with which the child joins.
const TOKEN_HOURS: u32 = 1;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Name of the Node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Most pods on the node
    #[arg(long, value_name = "N")]
    max_pods: Option<u32>,
    /// Available memory and disk below which the node takes no further pods [default: memory.available<100Mi,nodefs.available<10%]
    #[arg(long, value_name = "THRESHOLDS", value_parser = eviction_hard)]
    eviction_hard: Option<String>,
    /// Merge the kubeconfig into ~/.kube/config without asking
    #[arg(long)]
    merge_kubeconfig: bool,
}

pub fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    logging::init(&args.server.log_level, args.server.log_format);
    crate::idle::watch();
    super::block_on(super::server_threads(), up(args, started))
}

async fn up(args: Args, started: Instant) -> Result<()> {
    let node_name = args.node_name.clone().unwrap_or_else(paths::host_name);
    let kubeconfig = args.server.kubeconfig();
    let plane = ControlPlane::start(args.server.config()?).await?;
    let client = plane.client();
    let agent = AgentProcess {
        server: plane.url.clone(),
        token: super::token::create(&client, plane.ca_pem(), TOKEN_HOURS)
            .await
            .context("make a join token")?,
        data_dir: args.server.data_dir().join("agent"),
        node_name: node_name.clone(),
        max_pods: args.max_pods,
        eviction_hard: args.eviction_hard.clone(),
        log_level: args.server.log_level.clone(),
    };
    let stop = CancellationToken::new();
    let supervising = tokio::spawn(supervise(agent, stop.clone()));
    let url = plane.url.clone();
    let announce = async move {
        wait_for_node(client, &node_name, started).await;
        println!("Skiff is ready in {:.1} s", started.elapsed().as_secs_f64());
        println!("  API server   {url}");
        println!("  node         {node_name}");
        println!("  kubeconfig   {}", kubeconfig.display());
        println!();
        if args.merge_kubeconfig {
            let into = paths::home().join(".kube/config");
            match super::kubeconfig::merge(&kubeconfig, &into, false) {
                Ok(context) => println!("kubectl --context {context} get nodes"),
                Err(error) => eprintln!("warning: kubeconfig not merged: {}", crate::output::chain(&error)),
            }
        } else {
            println!("In another terminal:");
            println!("  export KUBECONFIG={}", kubeconfig.display());
            println!("  kubectl get nodes");
            println!("  skiff run FILE.wasm");
            println!(
                "To keep the cluster in ~/.kube/config: skiff kubeconfig merge --from {}",
                kubeconfig.display()
            );
        }
        if std::io::stdout().is_terminal() {
            println!("\nCtrl-C stops everything; the data stays.");
        }
        std::future::pending::<()>().await;
    };
    let stopping = stop.clone();
    let outcome = plane
        .run_until(async move {
            tokio::select! {
                () = super::stop_signal() => {}
                () = announce => {}
            }
            // The agent reports its pods' end while the API server still listens.
            stopping.cancel();
            if let Err(error) = supervising.await.context("join the agent's supervisor").flatten() {
                tracing::warn!("the agent did not end cleanly: {}", crate::output::chain(&error));
            }
        })
        .await;
    stop.cancel();
    outcome
}

/// The agent's own flag, checked before anything is started.
fn eviction_hard(text: &str) -> Result<String, String> {
    match text.parse::<EvictionHard>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns when the Node is Ready; says so once when that takes long, and why it will take no pods.
async fn wait_for_node(client: kube::Client, name: &str, started: Instant) {
    let nodes: Api<Node> = Api::all(client);
    let mut warned = false;
    loop {
        let node = nodes.get_opt(name).await.ok().flatten();
        let conditions = node.and_then(|node| node.status?.conditions).unwrap_or_default();
        let is = |type_: &str| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        if is("Ready") {
            for (pressure, what) in [("MemoryPressure", "memory"), ("DiskPressure", "disk space")] {
                if is(pressure) {
                    eprintln!(
                        "warning: node {name} is short of {what} and takes no pods; free some, or lower --eviction-hard"
                    );
                }
            }
            return;
        }
        if !warned && started.elapsed() > READY_PATIENCE {
            warned = true;
            eprintln!("warning: node {name} is not Ready yet; restart with --log-level info to see why");
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

/// How the child is started.
struct AgentProcess {
    server: String,
    token: String,
    data_dir: PathBuf,
    node_name: String,
    max_pods: Option<u32>,
    eviction_hard: Option<String>,
    log_level: String,
}

impl AgentProcess {
    fn spawn(&self) -> Result<Child> {
        let executable = std::env::current_exe().context("find this program's own file")?;
        let mut command = Command::new(executable);
        command
            .arg("agent")
            .args([
                "--server",
                &self.server,
                "--node-name",
                &self.node_name,
                "--log-level",
                &self.log_level,
            ])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--with-parent")
            // In the environment and not in the arguments, which every user of the machine can read.
            .env("SKIFF_TOKEN", &self.token)
            // A group of its own: Ctrl-C reaches `up` alone, which then ends things in order.
            .process_group(0)
            .stdin(Stdio::null());
        if let Some(max_pods) = self.max_pods {
            command.args(["--max-pods", &max_pods.to_string()]);
        }
        if let Some(thresholds) = &self.eviction_hard {
            command.args(["--eviction-hard", thresholds]);
        }
        command.spawn().context("start the node agent")
    }
}

/// Keeps one agent running until `stop`, then ends it.
async fn supervise(agent: AgentProcess, stop: CancellationToken) -> Result<()> {
    loop {
        let mut child = agent.spawn()?;
        tokio::select! {
            status = child.wait() => {
                let status = status.context("wait for the node agent")?;
                tracing::warn!(%status, "the node agent ended; starting it again");
                tokio::select! {
                    () = tokio::time::sleep(RESTART_PAUSE) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
            () = stop.cancelled() => return end(&mut child).await,
        }
    }
}

async fn end(child: &mut Child) -> Result<()> {
    if let Some(pid) = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
    {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("stop the node agent")?;
    }
    match tokio::time::timeout(AGENT_STOP_TIMEOUT, child.wait()).await {
        Ok(_) => Ok(()),
        Err(_) => {
            child.kill().await.context("kill the node agent")?;
            bail!(
                "the node agent did not end within {} s and was killed",
                AGENT_STOP_TIMEOUT.as_secs()
            )
        }
    }
}
