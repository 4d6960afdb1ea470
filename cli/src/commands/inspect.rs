//! `skiff inspect FILE`: what a module is, imports, exports and needs.

use std::path::PathBuf;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {
    /// The .wasm file
    file: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let (module, inspection) = super::push::read_module(&args.file)?;
    println!("{}", args.file.display());
    println!("  kind     {}", inspection.kind);
    println!("  size     {} bytes", module.len());
    println!("  digest   {}", crate::artifact::digest(&module));
    list("imports", &inspection.imports);
    list("exports", &inspection.exports);
    if inspection.missing.is_empty() {
        println!("  runs on  every node of this version: all imports are provided");
    } else {
        list("missing", &inspection.missing);
    }
    Ok(())
}

fn list(title: &str, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        println!("  {:<8} {name}", if index == 0 { title } else { "" });
    }
}
