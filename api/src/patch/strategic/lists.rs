//! Merging lists: items meet by merge key (or by value), directives on items, and the order of the result.

use serde_json::{Map, Value};

use super::{Inside, PATCH_DIRECTIVE, PatchError, clean, go_text, merge_maps};
use crate::schema::Field;

/// Merges `patch` into `original`. `order` is the list of `$setElementOrder`, if the patch has one: then the items that
/// it names come in its order, and the server's other items keep their places between them.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    order: Option<&[Value]>,
    field: &'static Field,
) -> Result<Vec<Value>, PatchError> {
    let key = field.patch_merge_key;
    let server_order: Vec<Value> = original.iter().map(|item| identity(item, key)).collect();
    let sent = if order.is_some() { patch.clone() } else { Vec::new() };
    let (merged, patch_order) = if key.is_empty() {
        let patch_order = patch.clone();
        let mut merged = original;
        for item in patch {
            if !merged.contains(&item) {
                merged.push(item);
            }
        }
        (merged, patch_order)
    } else {
        match merge_by_key(original, patch, field)? {
            Merged::Replaced(items) => return Ok(items),
            Merged::Items { items, patched } => (items, patched),
        }
    };
    let named: Vec<Value> = match order {
        Some(directive) => {
            let order: Vec<Value> = directive.iter().map(|item| identity(item, key)).collect();
            if patch_order.iter().any(|item| !order.contains(&identity(item, key))) {
                return Err(PatchError::Broken(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go_text(&Value::Array(sent)),
                    go_text(&Value::Array(directive.to_vec()))
                )));
            }
            order
        }
        None => patch_order.iter().map(|item| identity(item, key)).collect(),
    };
    Ok(arrange(merged, key, &named, &server_order))
}

/// A list that takes another's place; items that only carried directives are left out.
pub(super) fn replacement(items: Vec<Value>) -> Vec<Value> {
    items
        .into_iter()
        .filter(|item| {
            item.get(PATCH_DIRECTIVE)
                .is_none_or(|directive| directive != "delete" && directive != "replace")
        })
        .map(clean)
        .collect()
}

/// What tells items apart: the value of the merge key, or the item itself.
fn identity(item: &Value, key: &str) -> Value {
    match item {
        Value::Object(map) if !key.is_empty() => map.get(key).cloned().unwrap_or(Value::Null),
        other => other.clone(),
    }
}

enum Merged {
    /// `$patch: replace` stood in the list.
    Replaced(Vec<Value>),
    Items {
        items: Vec<Value>,
        patched: Vec<Value>,
    },
}

fn merge_by_key(original: Vec<Value>, patch: Vec<Value>, field: &'static Field) -> Result<Merged, PatchError> {
    let key = field.patch_merge_key;
    let inside = Inside::of_type(&field.ty);
    let mut items = original;
    let mut replace = false;
    let mut normal: Vec<Map<String, Value>> = Vec::new();
    for item in patch {
        let Value::Object(map) = item else {
            return Err(PatchError::Malformed(format!(
                "an item of the list {:?} is not an object",
                field.json
            )));
        };
        match map.get(PATCH_DIRECTIVE).and_then(Value::as_str) {
            None => normal.push(map),
            Some("replace") => replace = true,
            Some("delete") => {
                let doomed = required_key(&map, key)?;
                items.retain(|item| item.get(key) != Some(&doomed));
            }
            Some("merge") => {
                return Err(PatchError::Broken(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some(other) => return Err(super::unknown_directive(other, &map)),
        }
    }
    if replace {
        return Ok(Merged::Replaced(
            normal.into_iter().map(|map| clean(Value::Object(map))).collect(),
        ));
    }
    let mut patched = Vec::with_capacity(normal.len());
    for map in normal {
        let wanted = required_key(&map, key)?;
        let position = items.iter().position(|item| item.get(key) == Some(&wanted));
        patched.push(Value::Object(Map::from_iter([(key.to_owned(), wanted)])));
        match position {
            Some(at) => {
                let old = match items[at].take() {
                    Value::Object(old) => old,
                    _ => Map::new(),
                };
                items[at] = Value::Object(merge_maps(old, map, inside)?);
            }
            None => items.push(clean(Value::Object(map))),
        }
    }
    Ok(Merged::Items { items, patched })
}

fn required_key(map: &Map<String, Value>, key: &str) -> Result<Value, PatchError> {
    map.get(key).cloned().ok_or_else(|| {
        let shown = Value::Object(map.clone());
        PatchError::Broken(format!(
            "map: {} does not contain declared merge key: {key}",
            go_text(&shown)
        ))
    })
}

/// Items that the patch names stand in its order; the others keep the server's order. Of one of each, the server's order
/// decides which comes first if it knows both; otherwise the patch's item does.
fn arrange(items: Vec<Value>, key: &str, named: &[Value], server_order: &[Value]) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| *other == identity(item, key));
    let (mut ours, theirs): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| place(named, item).is_some());
    ours.sort_by_key(|item| place(named, item));
    let mut arranged = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let ours_first = match (ours.peek(), theirs.peek()) {
            (None, None) => return arranged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(a), Some(b)) => match (place(server_order, a), place(server_order, b)) {
                (Some(a), Some(b)) => a < b,
                _ => true,
            },
        };
        arranged.extend(if ours_first { ours.next() } else { theirs.next() });
    }
}
