//! `skiff agent`: makes this machine a node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use skiff_node_agent::{CompileBy, EvictionHard, NodeAgentConfig, OnExit};

use crate::logging::{self, LogFormat};
use crate::paths;

#[derive(clap::Args)]
pub struct Args {
    /// URL of the control plane
    #[arg(long, value_name = "URL", env = "SKIFF_SERVER")]
    server: String,
    /// Join token from `skiff token create`; needed the first time only
    #[arg(long, value_name = "TOKEN", env = "SKIFF_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Directory for all state [default: <skiff's data directory>/agent]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the Node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Address that the Node reports [default: the one towards the control plane]
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<IpAddr>,
    /// Labels for the Node, k=v, separated by commas
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    node_labels: Vec<String>,
    /// Registries spoken to without TLS, HOST[:PORT], separated by commas
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    insecure_registries: Vec<String>,
    /// Most pods on this node
    #[arg(long, value_name = "N")]
    max_pods: Option<u32>,
    /// Available memory and disk below which the node takes no further pods [default: memory.available<100Mi,nodefs.available<10%]
    #[arg(long, value_name = "THRESHOLDS")]
    eviction_hard: Option<EvictionHard>,
    /// Who compiles modules: the control plane's compile service, this node, or this node when the service cannot
    #[arg(long, value_enum, value_name = "WHO", default_value = "auto")]
    compile: CompileWho,
    /// End all pods when the agent is stopped, and end with the process that started it (as `skiff up` does)
    #[arg(long, hide = true)]
    with_parent: bool,
    /// Log level or filter
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
    /// Log format
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompileWho {
    Service,
    Local,
    Auto,
}

pub fn run(args: Args) -> Result<()> {
    logging::init(&args.log_level, args.log_format);
    crate::idle::watch();
    if args.compile == CompileWho::Local && !cfg!(feature = "compiler") {
        bail!("--compile local: this program was built without a compiler");
    }
    if args.with_parent {
        end_with_parent()?;
    }
    let config = NodeAgentConfig {
        labels: labels(&args.node_labels)?,
        server_url: args.server,
        token: args.token,
        data_dir: args.data_dir.unwrap_or_else(|| paths::default_data_dir().join("agent")),
        node_name: args.node_name.unwrap_or_else(paths::host_name),
        node_ip: args.node_ip,
        max_pods: args.max_pods,
        eviction_hard: args.eviction_hard,
        insecure_registries: args.insecure_registries,
        compile: match args.compile {
            CompileWho::Service => CompileBy::Service,
            CompileWho::Local => CompileBy::Local,
            CompileWho::Auto => CompileBy::Auto,
        },
        executable: std::env::current_exe().context("find this program's own file")?,
        on_exit: if args.with_parent {
            OnExit::StopPods
        } else {
            OnExit::KeepPods
        },
    };
    super::block_on(
        super::server_threads(),
        skiff_node_agent::run(config, super::stop_signal()),
    )
}

/// Asks the kernel to end this process when its parent dies: an agent without its `skiff up` would fight the next one's.
fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("bind this agent's life to its parent's")?;
    if rustix::process::getppid().is_none_or(|parent| parent.as_raw_nonzero().get() == 1) {
        bail!("the process that started this agent is gone");
    }
    Ok(())
}

fn labels(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    pairs
        .iter()
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("--node-labels: {pair:?} is not k=v"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
