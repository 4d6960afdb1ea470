//! `skiff inspect FILE`: what a module is, imports, exports and needs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use skiff_runtime_wasm::Kind;

#[derive(clap::Args)]
pub struct Args {
    /// The .wasm file
    file: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let module = std::fs::read(&args.file).with_context(|| format!("read {}", args.file.display()))?;
    let inspection = skiff_runtime_wasm::inspect(&module).with_context(|| format!("read {}", args.file.display()))?;
    println!("{}", args.file.display());
    println!(
        "  kind     {}",
        inspection.kind.map_or("nothing that can be run", Kind::describe)
    );
    println!("  size     {} bytes", module.len());
    println!("  digest   {}", crate::artifact::digest(&module));
    list("imports", &inspection.imports);
    list("exports", &inspection.exports);
    match inspection.refusal() {
        None => println!("  runs     on every node of this version: all imports are provided"),
        Some(why) => println!("  refused  {why}"),
    }
    Ok(())
}

fn list(title: &str, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        println!("  {:<8} {name}", if index == 0 { title } else { "" });
    }
}
