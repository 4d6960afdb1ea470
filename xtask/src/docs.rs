//! `cargo xtask docs`: the tables of docs/wasm.md, out of the code that enforces them.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::limits_table::{FAULTS, OF_PODS, OF_THE_RUNTIME, Row};
use crate::shell;

const DOCUMENT: &str = "docs/wasm.md";

pub fn run() -> Result<()> {
    let path = shell::root().join(DOCUMENT);
    let old = std::fs::read_to_string(&path).with_context(|| format!("read {DOCUMENT}"))?;
    let new = generated(&old)?;
    std::fs::write(&path, new).with_context(|| format!("write {DOCUMENT}"))
}

/// What is not as the code says: the tables, and tests that do not exist.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let document = std::fs::read_to_string(root.join(DOCUMENT)).with_context(|| format!("read {DOCUMENT}"))?;
    let mut complaints = Vec::new();
    if generated(&document)? != document {
        complaints.push(format!("{DOCUMENT}: is not what the code says; run `cargo xtask docs`"));
    }
    let rows = OF_PODS.iter().chain(OF_THE_RUNTIME).map(|row| row.test);
    let faults = FAULTS.iter().flat_map(|fault| fault.tests.iter().copied());
    for test in rows.chain(faults).filter(|test| !test.is_empty()) {
        if !exists(root, test) {
            complaints.push(format!("node-agent/runtime-wasm/src/limits_table.rs: no test {test}"));
        }
    }
    Ok(complaints)
}

fn exists(root: &Path, test: &str) -> bool {
    let Some((file, function)) = test.split_once("::") else {
        return false;
    };
    std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(&format!("fn {function}()")))
}

/// The document with every table between its markers written anew.
fn generated(document: &str) -> Result<String> {
    let tables = [
        ("limits-of-pods", limits(OF_PODS)),
        ("limits-of-the-runtime", limits(OF_THE_RUNTIME)),
        ("faults", faults()),
    ];
    let mut document = document.to_owned();
    for (name, table) in tables {
        let (start, end) = (
            format!("<!-- {name}: written by cargo xtask docs -->\n"),
            format!("<!-- end of {name} -->\n"),
        );
        let found = document.find(&start).zip(document.find(&end));
        let Some((from, to)) = found.filter(|(from, to)| from < to) else {
            bail!("{DOCUMENT} lacks the markers of {name}");
        };
        document.replace_range(from + start.len()..to, &table);
    }
    Ok(document)
}

fn limits(rows: &[Row]) -> String {
    let set = rows.iter().any(|row| !row.set_by.is_empty());
    let mut table = match set {
        true => "| what | set by | without it | over it | `limit` | test |\n|---|---|---|---|---|---|\n",
        false => "| what | value | over it | `limit` | test |\n|---|---|---|---|---|\n",
    }
    .to_owned();
    for row in rows {
        let set_by = if set {
            format!("`{}` | ", row.set_by)
        } else {
            String::new()
        };
        let metric = if row.metric.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", row.metric)
        };
        table += &format!(
            "| {} | {set_by}{} | {} | {metric} | {} |\n",
            row.what,
            (row.default)(),
            row.over,
            linked(row.test)
        );
    }
    table
}

/// A link to a test's file.
fn linked(test: &str) -> String {
    match test.split_once("::") {
        Some((file, function)) => format!("[{}](../{file})", function.replace('_', " ")),
        None => "–".to_owned(),
    }
}

fn faults() -> String {
    let mut table = "| | hostile guest | tests |\n|---|---|---|\n".to_owned();
    for fault in FAULTS {
        let tests: Vec<_> = fault.tests.iter().map(|test| linked(test)).collect();
        table += &format!("| {} | {} | {} |\n", fault.id, fault.what, tests.join(", "));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_markers_is_the_codes_and_the_rest_is_not_touched() {
        let marker =
            |name: &str| format!("<!-- {name}: written by cargo xtask docs -->\nold\n<!-- end of {name} -->\n");
        let names = ["limits-of-pods", "limits-of-the-runtime", "faults"];
        let document = format!("before\n{}after\n", names.map(marker).concat());
        let new = generated(&document).expect("a document");
        assert!(new.starts_with("before\n") && new.ends_with("after\n") && !new.contains("old\n"));
        assert!(new.contains("`resources.limits.memory`") && new.contains("`skiff.dev/egress`"));
        assert_eq!(generated(&new).expect("a document"), new);
        assert!(generated("no markers").is_err());
    }

    #[test]
    fn a_test_that_is_gone_is_missed() {
        let root = shell::root();
        assert!(exists(&root, "xtask/src/docs.rs::a_test_that_is_gone_is_missed"));
        assert!(!exists(&root, "xtask/src/docs.rs::another") && !exists(&root, "nowhere.rs::x") && !exists(&root, "x"));
    }
}
