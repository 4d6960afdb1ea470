//! Files stay readable in one sitting, and each says first what it is.

use std::path::Path;

use anyhow::{Context, Result};

/// No source file is longer.
const LINES_MAX: usize = 500;

pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for file in super::tracked_files(root)? {
        if file.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&file)).with_context(|| format!("read {}", file.display()))?;
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.display()));
        }
        if !text.starts_with("//!") && !text.starts_with("#![") {
            complaints.push(format!("{}: does not open with `//!` and what it is", file.display()));
        }
        for (index, line) in text.lines().enumerate() {
            let marker = ["TO", "DO"].concat();
            if line.contains(&format!("{marker}:"))
                || line.contains(&format!("{marker} "))
                || line.contains("FIXME") && !file.starts_with("xtask")
            {
                complaints.push(format!(
                    "{}:{}: unfinished work is an issue, not a comment",
                    file.display(),
                    index + 1
                ));
            }
        }
    }
    Ok(complaints)
}
