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
    complaints.extend(bare_examples(root)?);
    complaints.extend(unlinked_documents(root)?);
    Ok(complaints)
}

/// Endings of an example's source files.
const SOURCES: [&str; 3] = ["rs", "c", "ts"];

/// Folders of wasm-examples that have a source, but not all that an example needs.
fn bare_examples(root: &Path) -> Result<Vec<String>> {
    let examples = root.join("wasm-examples");
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(&examples).context("read wasm-examples")? {
        let folder = entry.context("read wasm-examples")?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "target" || !(has_source(&folder) || has_source(&folder.join("src"))) {
            continue;
        }
        let needs = [
            format!("wasm-examples/{name}/README.md"),
            format!("wasm-examples/{name}/manifest.yaml"),
            format!("wasm-examples/prebuilt/{name}.wasm"),
        ];
        complaints.extend(
            needs
                .iter()
                .filter(|need| !root.join(need).is_file())
                .map(|need| format!("{need}: is missing; every example has one")),
        );
    }
    Ok(complaints)
}

fn has_source(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.path().extension()?.to_str().map(str::to_owned))
        .any(|ending| SOURCES.contains(&ending.as_str()))
}

/// Documents for users that the README does not link.
fn unlinked_documents(root: &Path) -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(root.join("README.md")).context("read README.md")?;
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(root.join("docs")).context("read docs")? {
        let name = entry.context("read docs")?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && !readme.contains(&format!("(docs/{name})")) {
            complaints.push(format!("README.md: does not link docs/{name}"));
        }
    }
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
