//! What several kinds share: the row of the resource table, table cells, and small edits of JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use skiff_api::object;
use skiff_api::time;

use crate::strategy::Column;

/// `fn info` of a strategy: the row of the resource table, looked up once.
macro_rules! resource {
    ($group:literal, $version:literal, $resource:literal) => {
        fn info(&self) -> &'static skiff_api::kind::ResourceInfo {
            static INFO: std::sync::LazyLock<&'static skiff_api::kind::ResourceInfo> = std::sync::LazyLock::new(|| {
                skiff_api::kind::find($group, $version, $resource, "").expect("a row of the resource table")
            });
            *INFO
        }
    };
}
pub(crate) use resource;

/// What the four RBAC kinds have in common besides: loose names, PUT creates, validated wholly on update.
macro_rules! rbac_rules {
    () => {
        fn name_rule(&self) -> crate::strategy::NameRule {
            crate::strategy::NameRule::PathSegment
        }
        fn allows_create_on_update(&self) -> bool {
            true
        }
        fn metadata_checks(&self) -> usize {
            4
        }
    };
}
pub(crate) use rbac_rules;

pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
};
pub(crate) const AGE: Column = text("Age");

/// A column of texts.
pub(crate) const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority: 0,
    }
}
/// A column that only wide output shows.
pub(crate) const fn wide(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority: 1,
    }
}
pub(crate) const fn integer(name: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        priority: 0,
    }
}
pub(crate) const fn date(name: &'static str) -> Column {
    Column {
        name,
        kind: "date",
        format: "",
        priority: 0,
    }
}

/// How long ago an RFC 3339 time was, as tables show it; `<unknown>` when there is none.
pub(crate) fn since(timestamp: &str, now: i64) -> String {
    match time::parse_rfc3339(timestamp) {
        Some(then) => time::human_duration(now - then),
        None => "<unknown>".to_owned(),
    }
}

/// The cell `Age`.
pub(crate) fn age(value: &Value, now: i64) -> Value {
    since(object::str_at(value, "/metadata/creationTimestamp"), now).into()
}

/// The cell `Name`.
pub(crate) fn name(value: &Value) -> Value {
    object::name(value).into()
}

/// The text, or a placeholder when it is empty.
pub(crate) fn or<'a>(text: &'a str, placeholder: &'a str) -> &'a str {
    if text.is_empty() { placeholder } else { text }
}

/// Names and images of containers, each joined by commas, as wide output shows them.
pub(crate) fn container_cells(containers: &[Value]) -> (String, String) {
    let join = |key: &str| {
        containers
            .iter()
            .map(|c| object::str_at(c, key))
            .collect::<Vec<_>>()
            .join(",")
    };
    (join("/name"), join("/image"))
}

/// Calls `edit` on every map in the list at `key`.
pub(crate) fn each_mut(parent: &mut Map<String, Value>, key: &str, mut edit: impl FnMut(&mut Map<String, Value>)) {
    for item in parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(item) = item {
            edit(item);
        }
    }
}

/// The map at `key`, if it is one.
pub(crate) fn sub_mut<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.get_mut(key).and_then(Value::as_object_mut)
}

/// Removes a top-level field.
pub(crate) fn drop_field(value: &mut Value, key: &str) {
    object::as_map(value).remove(key);
}

/// Puts `old`'s field back into `new` (or removes it), because this request may not change it.
pub(crate) fn keep_field(new: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(field) => new[key] = field.clone(),
        None => drop_field(new, key),
    }
}

/// The condition of a type in `status.conditions`.
pub(crate) fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    object::list_at(value, "/status/conditions")
        .iter()
        .find(|c| object::str_at(c, "/type") == kind)
}

/// Whether a condition's status is `True`.
pub(crate) fn condition_is_true(value: &Value, kind: &str) -> bool {
    condition(value, kind).is_some_and(|c| object::str_at(c, "/status") == "True")
}

/// What a column's definition says of it: users read it in `kubectl get -o json` of a Table only, but clients compare.
/// A line is resource, column, text; `*` stands for every resource, `\n` in a text for a line break.
static DESCRIPTIONS: LazyLock<HashMap<(&'static str, &'static str), String>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let mut cells = line.splitn(3, '\t');
        Some(((cells.next()?, cells.next()?), cells.next()?.replace("\\n", "\n")))
    };
    include_str!("columns.tsv").lines().filter_map(line).collect()
});

/// The description of a resource's column, or nothing.
pub(crate) fn column_description(resource: &str, column: &str) -> String {
    // A map of borrowed keys may be asked with shorter-lived ones.
    let table: &HashMap<(&str, &str), String> = &DESCRIPTIONS;
    let text = table.get(&(resource, column)).or_else(|| table.get(&("*", column)));
    text.cloned().unwrap_or_default()
}
