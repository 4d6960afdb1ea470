//! Documents tell the truth: every path that ARCHITECTURE.md names exists, every example has a manifest, every
//! dependency is explained.

use std::path::Path;

use anyhow::{Context, Result};

/// Documents whose back-quoted paths must exist.
const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "README.md"];

pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).with_context(|| format!("read {document}"))?;
        for (index, line) in text.lines().enumerate() {
            for path in line.split('`').skip(1).step_by(2).filter(|word| is_path(word)) {
                if !root.join(path).exists() {
                    complaints.push(format!("{document}:{}: `{path}` does not exist", index + 1));
                }
            }
        }
    }
    complaints.extend(unexplained_dependencies(root)?);
    Ok(complaints)
}

/// A word that reads as a path of the repository: has a slash, no spaces, placeholders or leading slash, and names a
/// Rust, Markdown, TOML or data file or ends in a slash.
fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let known = [".rs", ".md", ".toml", ".tsv", ".json", ".wit", "/"]
        .iter()
        .any(|ending| word.ends_with(ending));
    word.contains('/') && !word.starts_with('/') && !word.starts_with('.') && plain && known
}

/// Workspace dependencies that docs/dependencies.md does not name.
fn unexplained_dependencies(root: &Path) -> Result<Vec<String>> {
    let manifest: toml::Table = std::fs::read_to_string(root.join("Cargo.toml"))
        .context("read Cargo.toml")?
        .parse()
        .context("parse Cargo.toml")?;
    let explained = std::fs::read_to_string(root.join("docs/dependencies.md")).context("read docs/dependencies.md")?;
    let names = manifest["workspace"]["dependencies"]
        .as_table()
        .context("[workspace.dependencies] is a table")?
        .keys();
    Ok(names
        .filter(|name| !name.starts_with("skiff-") && !explained.contains(&format!("`{name}`")))
        .map(|name| format!("docs/dependencies.md: `{name}` is not explained"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::is_path;

    #[test]
    fn paths_are_told_from_other_code() {
        assert!(is_path("control-plane/store/src/lib.rs"));
        assert!(is_path("node-agent/lifecycle/"));
        assert!(!is_path("apps/v1"));
        assert!(!is_path("/registry/pods/"));
        assert!(!is_path("a/{b}.rs"));
    }
}
