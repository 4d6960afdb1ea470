//! docs/cli.md and the binary name the same commands and flags.

use std::collections::BTreeSet;
use std::process::Command;

fn help(command: &[&str]) -> String {
    let output = Command::new(skiff_tests::skiff_binary())
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Words that start with two dashes.
fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| {
            word.starts_with("--")
                && word[2..].starts_with(|c: char| c.is_ascii_lowercase())
                && *word != "--help"
                && *word != "--version"
        })
        .map(str::to_owned)
        .collect()
}

/// The commands that a help text lists.
fn commands(text: &str) -> Vec<String> {
    let list = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    list.filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_and_flag_is_documented_and_no_other() {
    let document = std::fs::read_to_string(skiff_tests::root().join("docs/cli.md")).unwrap();
    let mut known = BTreeSet::new();
    for command in commands(&help(&[])) {
        assert!(
            document.contains(&format!("`skiff {command}")),
            "docs/cli.md lacks skiff {command}"
        );
        let text = help(&[&command]);
        known.extend(flags(&text));
        for inner in commands(&text) {
            let name = format!("`skiff {command} {inner}");
            assert!(document.contains(&name), "docs/cli.md lacks {name}`");
            known.extend(flags(&help(&[&command, &inner])));
        }
    }
    assert_eq!(
        flags(&document),
        known,
        "flags of docs/cli.md (left) and of the binary (right)"
    );
}
