//! `skiff kubeconfig merge`: puts the local cluster into ~/.kube/config under the context name `skiff`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use kube::config::Kubeconfig;

use crate::paths;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add the cluster to ~/.kube/config (an entry of the same name is replaced, all else is kept)
    Merge {
        /// Kubeconfig to merge
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// File to merge into
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        /// Make it the current context
        #[arg(long)]
        set_current: bool,
    },
    /// Print the path of the kubeconfig that `skiff up` writes
    Path,
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Path => println!("{}", paths::default_kubeconfig().display()),
        Command::Merge {
            from,
            into,
            set_current,
        } => {
            let from = from.clone().unwrap_or_else(paths::default_kubeconfig);
            let into = into.clone().unwrap_or_else(|| paths::home().join(".kube/config"));
            let context = merge(&from, &into, *set_current)?;
            println!(
                "context {context:?} is in {}; use it with: kubectl --context {context}",
                into.display()
            );
        }
    }
    Ok(())
}

/// Merges `from` into `into` and returns the context's name. The file is replaced whole or not at all, mode 0600.
pub fn merge(from: &Path, into: &Path, set_current: bool) -> Result<String> {
    let ours = Kubeconfig::read_from(from).with_context(|| format!("read {}", from.display()))?;
    let mut target = if into.exists() {
        Kubeconfig::read_from(into).with_context(|| format!("read {}", into.display()))?
    } else {
        Kubeconfig {
            api_version: Some("v1".into()),
            kind: Some("Config".into()),
            ..Kubeconfig::default()
        }
    };
    let context = ours
        .current_context
        .clone()
        .context("the kubeconfig has no current context")?;
    target
        .clusters
        .retain(|c| ours.clusters.iter().all(|o| o.name != c.name));
    target
        .contexts
        .retain(|c| ours.contexts.iter().all(|o| o.name != c.name));
    target
        .auth_infos
        .retain(|c| ours.auth_infos.iter().all(|o| o.name != c.name));
    target.clusters.extend(ours.clusters);
    target.contexts.extend(ours.contexts);
    target.auth_infos.extend(ours.auth_infos);
    if set_current || target.current_context.is_none() {
        target.current_context = Some(context.clone());
    }
    let text = serde_saphyr::to_string(&target).context("write the merged kubeconfig")?;
    let directory = into.parent().context("the target has no directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let temporary = into.with_extension("skiff-new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("create {}", temporary.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .context("write the merged kubeconfig")?;
    std::fs::rename(&temporary, into).with_context(|| format!("replace {}", into.display()))?;
    Ok(context)
}
