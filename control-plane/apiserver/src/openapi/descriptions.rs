//! Short descriptions of the kinds and fields that people look up, in our own words, and the values that some fields may
//! have. The field table has neither.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What is said of a message or field.
#[derive(Clone, Copy, Debug)]
struct Entry {
    text: &'static str,
    /// Possible values, separated by commas; empty when anything goes.
    values: &'static str,
}

/// `Message` or `Message.field`; `*.field` for a field of any message. A line: name, text and maybe values, by tabs.
static ENTRIES: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let entry = |line: &'static str| {
        let (name, rest) = line.split_once('\t')?;
        let (text, values) = rest.split_once('\t').unwrap_or((rest, ""));
        Some((name, Entry { text, values }))
    };
    include_str!("descriptions.tsv").lines().filter_map(entry).collect()
});

pub(super) fn of_message(message: &str) -> Option<&'static str> {
    ENTRIES.get(message).map(|entry| entry.text)
}

pub(super) fn of_field(message: &str, field: &str) -> Option<&'static str> {
    let own = ENTRIES.get(format!("{message}.{field}").as_str());
    own.or_else(|| ENTRIES.get(format!("*.{field}").as_str()))
        .map(|entry| entry.text)
}

/// The values that a field may have, in order; empty when anything goes.
pub(super) fn values_of_field(message: &str, field: &str) -> Vec<&'static str> {
    let values = ENTRIES
        .get(format!("{message}.{field}").as_str())
        .map_or("", |entry| entry.values);
    values.split(',').filter(|value| !value.is_empty()).collect()
}
