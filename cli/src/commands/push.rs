//! `skiff push FILE NAME:TAG`: puts a module into the control plane's registry.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use skiff_runtime_wasm::Inspection;

use crate::artifact::{self, Reference};
use crate::client::ClusterArgs;

#[derive(clap::Args)]
pub struct Args {
    /// The .wasm file
    file: PathBuf,
    /// Name and tag to push to, such as hello:v1
    #[arg(value_name = "NAME:TAG")]
    reference: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub fn run(args: Args) -> Result<()> {
    let reference = Reference::parse(&args.reference)?;
    let (module, inspection) = read_module(&args.file)?;
    super::block_on(super::CLIENT_THREADS, async {
        let cluster = args.cluster.connect().await?;
        let digest = artifact::push(&cluster.client, &module, &inspection, &reference).await?;
        eprintln!(
            "pushed {} ({} bytes, manifest {digest})",
            args.file.display(),
            module.len()
        );
        println!("{}", reference.pullable());
        Ok(())
    })
}

/// Reads a module and looks into it; a file that no node could run is refused here, with the reason.
pub fn read_module(path: &Path) -> Result<(Vec<u8>, Inspection)> {
    let module = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let inspection = skiff_runtime_wasm::inspect(&module).with_context(|| format!("read {}", path.display()))?;
    if let Some(why) = inspection.refusal() {
        bail!("{} cannot run: {why}", path.display());
    }
    Ok((module, inspection))
}
