//! Strategic merge patch: a merge patch that knows from the field table which lists are merged and by which key, and that
//! obeys the directives `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…` and `$setElementOrder/…`.

mod lists;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Codec, Field, Message, Type};

const PATCH_DIRECTIVE: &str = "$patch";
const RETAIN_KEYS_DIRECTIVE: &str = "$retainKeys";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";

/// What the field table says of a value's inside.
#[derive(Clone, Copy)]
enum Inside {
    Struct(&'static Message),
    /// Values of a map.
    Map(&'static Type),
    /// Nothing is known: merged as plain JSON.
    Unknown,
}

impl Inside {
    fn of_type(ty: &'static Type) -> Self {
        match ty {
            Type::Message(message) if message.codec == Codec::Struct => Self::Struct(message),
            Type::Map(value) => Self::Map(value),
            _ => Self::Unknown,
        }
    }
    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Struct(message) => message.field(name),
            _ => None,
        }
    }
    fn child(self, name: &str) -> Self {
        match self {
            Self::Struct(_) => self.field(name).map_or(Self::Unknown, |field| Self::of_type(&field.ty)),
            Self::Map(value) => Self::of_type(value),
            Self::Unknown => Self::Unknown,
        }
    }
}

/// `original` with `patch` merged in; `message` describes both.
pub fn apply(original: &Value, patch: &Value, message: &'static Message) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(PatchError::Malformed(
            "a strategic merge patch must be an object".to_owned(),
        ));
    };
    merge_maps(original.clone(), patch.clone(), Inside::Struct(message)).map(Value::Object)
}

fn merge_maps(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    inside: Inside,
) -> Result<Map<String, Value>, PatchError> {
    match patch
        .get(PATCH_DIRECTIVE)
        .map(|directive| directive.as_str().unwrap_or_default().to_owned())
        .as_deref()
    {
        None => {}
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Map::new()),
        Some("merge") => drop(patch.remove(PATCH_DIRECTIVE)),
        Some(other) => return Err(unknown_directive(other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    delete_from_primitive_lists(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, inside)?;
    for (key, value) in patch {
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_maps(old, new, inside.child(&key))?),
            (Some(Value::Array(old)), Value::Array(new)) => match inside.field(&key).filter(|f| f.patch_merge) {
                Some(field) => Value::Array(lists::merge(old, new, None, field)?),
                None => Value::Array(lists::replacement(new)),
            },
            (_, new) => clean(new),
        };
        original.insert(key, merged);
    }
    Ok(original)
}

fn unknown_directive(directive: &str, map: &Map<String, Value>) -> PatchError {
    PatchError::Broken(format!(
        "unknown patch type: {directive} in map: {}",
        go_text(&Value::Object(map.clone()))
    ))
}

/// A value as Go's `%v` prints it: `map[image:x name:q]`, `[a b]`.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Keeps only the keys that the patch names; they must cover all that the patch sets.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS_DIRECTIVE) else {
        return Ok(());
    };
    let malformed = || PatchError::Malformed(format!("{RETAIN_KEYS_DIRECTIVE} must be a list of strings"));
    let retained: Vec<&str> = directive
        .as_array()
        .ok_or_else(malformed)?
        .iter()
        .map(|key| key.as_str().ok_or_else(malformed))
        .collect::<Result<_, _>>()?;
    if let Some(stray) = patch
        .iter()
        .find(|(key, value)| !value.is_null() && !key.starts_with('$') && !retained.contains(&key.as_str()))
    {
        return Err(PatchError::Malformed(format!(
            "{RETAIN_KEYS_DIRECTIVE} does not contain {:?}, which is set",
            stray.0
        )));
    }
    original.retain(|key, _| retained.contains(&key.as_str()));
    Ok(())
}

fn delete_from_primitive_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    for (field, directive) in take_prefixed(patch, DELETE_FROM_PRIMITIVE_LIST) {
        let Value::Array(deleted) = directive else {
            return Err(PatchError::Malformed(format!(
                "{DELETE_FROM_PRIMITIVE_LIST}{field} must be a list"
            )));
        };
        if let Some(Value::Array(items)) = original.get_mut(&field) {
            items.retain(|item| !deleted.contains(item));
        }
    }
    Ok(())
}

/// Lists whose order the patch dictates are merged here, and taken out of the patch.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    inside: Inside,
) -> Result<(), PatchError> {
    for (name, directive) in take_prefixed(patch, SET_ELEMENT_ORDER) {
        let Value::Array(order) = directive else {
            return Err(PatchError::Malformed(format!(
                "{SET_ELEMENT_ORDER}{name} must be a list"
            )));
        };
        let Some(field) = inside.field(&name).filter(|field| field.patch_merge) else {
            continue;
        };
        let new = match patch.remove(&name) {
            None => Vec::new(),
            Some(Value::Array(new)) => new,
            // Null or another type: the plain rules decide.
            Some(other) => {
                patch.insert(name, other);
                continue;
            }
        };
        let old = match original.remove(&name) {
            Some(Value::Array(old)) => old,
            _ => Vec::new(),
        };
        if old.is_empty() && new.is_empty() {
            continue;
        }
        original.insert(name, Value::Array(lists::merge(old, new, Some(&order), field)?));
    }
    Ok(())
}

/// Takes the entries whose key starts with `prefix` out of the patch, by the rest of their key.
fn take_prefixed(patch: &mut Map<String, Value>, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| Some((key[prefix.len()..].to_owned(), patch.remove(&key)?)))
        .collect()
}

/// A value that is new to the object: directives mean nothing in it, and nulls set nothing.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(items) => Value::Array(lists::replacement(items)),
        other => other,
    }
}

fn without_directives(map: Map<String, Value>) -> Map<String, Value> {
    map.into_iter()
        .filter(|(key, value)| {
            !(value.is_null()
                || key == PATCH_DIRECTIVE
                || key == RETAIN_KEYS_DIRECTIVE
                || key.starts_with(SET_ELEMENT_ORDER)
                || key.starts_with(DELETE_FROM_PRIMITIVE_LIST))
        })
        .map(|(key, value)| (key, clean(value)))
        .collect()
}
