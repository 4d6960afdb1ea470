//! `cargo xtask tidy`: rules of the repository that no compiler checks. Each rule is a function that returns complaints.

mod documents;
mod layers;
mod sizes;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell;

pub fn run() -> Result<()> {
    let root = shell::root();
    let mut complaints = Vec::new();
    complaints.extend(layers::check(&root)?);
    complaints.extend(sizes::check(&root)?);
    complaints.extend(documents::check(&root)?);
    complaints.extend(crate::docs::check(&root)?);
    if complaints.is_empty() {
        eprintln!("tidy: nothing to complain about");
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    bail!("tidy found {} problems", complaints.len())
}

/// Every file that git tracks or would track, relative to the root.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let list = shell::output(std::process::Command::new("git").args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    Ok(list
        .lines()
        .map(PathBuf::from)
        .filter(|file| root.join(file).is_file())
        .collect())
}
