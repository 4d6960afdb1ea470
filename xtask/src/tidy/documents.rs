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
    complaints.extend(drifted_limits(root)?);
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

const LIMITS: &str = "node-agent/runtime-wasm/src/limits.rs";

/// Rows of the table of limits in docs/wasm.md, `| … | `NAME` = VALUE | … |`, that are not what the code says. The value
/// is the constant's text, with `_` left out.
fn drifted_limits(root: &Path) -> Result<Vec<String>> {
    let code = std::fs::read_to_string(root.join(LIMITS)).with_context(|| format!("read {LIMITS}"))?;
    let document = std::fs::read_to_string(root.join("docs/wasm.md")).context("read docs/wasm.md")?;
    Ok(limit_complaints(&code, &document))
}

fn limit_complaints(code: &str, document: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    // What the module's own table says of pod fields, the document repeats word for word.
    for row in code.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        if row.contains("`resources.") && !document.contains(row) {
            complaints.push(format!("docs/wasm.md: lacks the row of {LIMITS}: | {row}"));
        }
    }
    let mut stated = 0;
    for (index, line) in document.lines().enumerate() {
        for (name, value) in statements(line) {
            stated += 1;
            if constant(code, name).as_deref() != Some(value) {
                let actual = constant(code, name).unwrap_or_else(|| "no such constant".to_owned());
                complaints.push(format!(
                    "docs/wasm.md:{}: `{name} = {value}`, but {LIMITS} says: {actual}",
                    index + 1
                ));
            }
        }
    }
    if stated == 0 {
        complaints.push("docs/wasm.md: states no limit as `NAME = VALUE`".to_owned());
    }
    complaints
}

/// `NAME = VALUE` in back quotes.
fn statements(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.split_once(" = "))
        .filter(|(name, _)| {
            name.chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
}

/// The value of a constant as its source has it, `_` between digits left out and `Duration::from_` shortened away.
fn constant(code: &str, name: &str) -> Option<String> {
    let (_, rest) = code.split_once(&format!("pub const {name}: "))?;
    let (value, _) = rest.split_once(" = ")?.1.split_once(';')?;
    Some(
        value
            .replace('_', "")
            .replace("Duration::from", "")
            .trim_matches('"')
            .to_owned(),
    )
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
    use super::{constant, is_path, limit_complaints};

    #[test]
    fn paths_are_told_from_other_code() {
        assert!(is_path("control-plane/store/src/lib.rs"));
        assert!(is_path("node-agent/lifecycle/"));
        assert!(!is_path("apps/v1"));
        assert!(!is_path("/registry/pods/"));
        assert!(!is_path("a/{b}.rs"));
    }

    #[test]
    fn limits_that_drifted_are_found() {
        let code = "//! | memory | `resources.limits.memory` | ended |\n\
                    pub const A_MAX: u64 = 256 << 20;\npub const WAIT: Duration = Duration::from_secs(1_0);\n";
        assert_eq!(constant(code, "WAIT").as_deref(), Some("secs(10)"));
        let row = "| memory | `resources.limits.memory` | ended |";
        assert!(limit_complaints(code, &format!("{row}\n`A_MAX = 256 << 20` `WAIT = secs(10)`")).is_empty());
        assert_eq!(limit_complaints(code, &format!("{row}\n`A_MAX = 1`")).len(), 1);
        assert_eq!(limit_complaints(code, &format!("{row}\n`B_MAX = 1`")).len(), 1);
        assert_eq!(
            limit_complaints(code, "`A_MAX = 256 << 20`").len(),
            1,
            "the row is missing"
        );
    }
}
