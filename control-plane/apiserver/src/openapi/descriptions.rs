//! Short descriptions of the kinds and fields that people look up, in our own words. The field table has none.

use std::collections::HashMap;
use std::sync::LazyLock;

/// `Message` or `Message.field` → text; `*.field` for a field of any message.
static TEXTS: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| include_str!("descriptions.tsv").lines().filter_map(|line| line.split_once('\t')).collect());

pub(super) fn of_message(message: &str) -> Option<&'static str> {
    TEXTS.get(message).copied()
}

pub(super) fn of_field(message: &str, field: &str) -> Option<&'static str> {
    let own = TEXTS.get(format!("{message}.{field}").as_str());
    own.or_else(|| TEXTS.get(format!("*.{field}").as_str())).copied()
}
