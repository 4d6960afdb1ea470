//! What every object's metadata must be, in Kubernetes' words, and what the server puts there itself.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::{names, object};

use crate::limits;
use crate::strategy::{NameRule, Strategy};

mod references;
#[cfg(test)]
mod tests;

/// Finalizers that Kubernetes itself knows by a name without a slash.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// The rules of a new object.
pub fn validate(strategy: &dyn Strategy, object: &Value, errors: &mut FieldErrors) {
    let info = strategy.info();
    let path = Path::new("metadata");
    let generate = object::str_at(object, "/metadata/generateName");
    if !generate.is_empty() {
        for problem in name_problems(strategy.name_rule(), generate, true) {
            errors.invalid(&path.child("generateName"), generate, &problem);
        }
    }
    let name = object::name(object);
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        for problem in name_problems(strategy.name_rule(), name, false) {
            errors.invalid(&path.child("name"), name, &problem);
        }
    }
    let namespace = object::namespace(object);
    if info.namespaced {
        if namespace.is_empty() {
            errors.required(&path.child("namespace"), "");
        } else {
            for problem in names::dns1123_label(namespace) {
                errors.invalid(&path.child("namespace"), namespace, &problem);
            }
        }
    } else if !namespace.is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    common(object, &path, errors);
}

/// Everything that is wrong with a changed object's metadata, as often as Kubernetes finds it: its layers check one
/// after the other, and each adds its causes. `checks`: see `Strategy::metadata_checks`.
pub fn validate_change(new: &Value, old: &Value, checks: usize, errors: &mut FieldErrors) {
    let mut found = FieldErrors::new();
    validate_update(new, old, &mut found);
    if found.is_empty() {
        return;
    }
    for check in 0..checks {
        // Two of the layers look at what changed, all of them at the labels and the like.
        if check < 2 {
            errors.extend(found.clone());
        } else {
            common(new, &Path::new("metadata"), errors);
        }
    }
}

/// The rules that hold on create and update alike: labels, annotations, owners, finalizers.
fn common(object: &Value, path: &Path, errors: &mut FieldErrors) {
    labels(object, &path.child("labels"), errors);
    annotations(object, &path.child("annotations"), errors);
    references::validate(object, &path.child("ownerReferences"), errors);
    finalizers(object, &path.child("finalizers"), errors);
}

fn name_problems(rule: NameRule, name: &str, prefix: bool) -> Vec<String> {
    // A generated name goes on after its prefix, so a dash at its end is fine.
    let whole = if prefix && !matches!(rule, NameRule::PathSegment) && name.ends_with('-') {
        format!("{}a", name)
    } else {
        name.to_owned()
    };
    match rule {
        NameRule::DnsSubdomain => names::dns1123_subdomain(&whole),
        NameRule::DnsLabel => names::dns1123_label(&whole),
        NameRule::PathSegment if prefix => names::path_segment_prefix(name),
        NameRule::PathSegment => names::path_segment(name),
    }
}

fn labels(object: &Value, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in object::labels(object) {
        for problem in names::qualified_name(&key) {
            errors.invalid(path, key.as_str(), &problem);
        }
        for problem in names::label_value(&value) {
            errors.invalid(path, value.as_str(), &problem);
        }
    }
}

fn annotations(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in object::annotations(object) {
        for problem in names::qualified_name(&key.to_ascii_lowercase()) {
            errors.invalid(path, key.as_str(), &problem);
        }
        size += key.len() + value.len();
    }
    if size > limits::ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, limits::ANNOTATIONS_BYTES_MAX);
    }
}

fn finalizers(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let finalizers = object::finalizers(object);
    for (i, finalizer) in finalizers.iter().enumerate() {
        for problem in names::qualified_name(finalizer) {
            errors.invalid(path, *finalizer, &problem);
        }
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(finalizer) {
            errors.invalid(
                &path.index(i),
                *finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        errors.invalid(
            path,
            serde_json::json!(finalizers),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// The rules of a changed object.
pub fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let pointer = format!("/metadata/{field}");
        let (now, before) = (new.pointer(&pointer), old.pointer(&pointer));
        if now != before {
            errors.invalid(
                &path.child(field),
                now.cloned().unwrap_or(Value::Null),
                "field is immutable",
            );
        }
    }
    if object::is_terminating(old) {
        let before = object::finalizers(old);
        let added: Vec<&str> = object::finalizers(new)
            .into_iter()
            .filter(|f| !before.contains(f))
            .collect();
        if !added.is_empty() {
            let quoted = added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
            errors.forbidden(
                &path.child("finalizers"),
                &format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{quoted}}}"),
            );
        }
    }
    common(new, &path, errors);
}

/// What a client may not set on a new object.
pub fn reset_for_create(object: &mut Value) {
    let metadata = object::metadata_mut(object);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
        "resourceVersion",
    ] {
        metadata.remove(field);
    }
    drop_empty(metadata);
}

/// What only the server changes comes from the old object.
pub fn carry_over(new: &mut Value, old: &Value) {
    let old_metadata = old.get("metadata").cloned().unwrap_or(Value::Null);
    let metadata = object::metadata_mut(new);
    metadata.remove("selfLink");
    let empty = |value: Option<&Value>| value.is_none_or(|v| v.is_null() || v == "");
    for field in ["uid", "creationTimestamp"] {
        if empty(metadata.get(field))
            && let Some(value) = old_metadata.get(field)
        {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    // Once set these stay as they are, whatever a client sends.
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old_metadata.get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    drop_empty(metadata);
}

/// Fields that Go would not print.
fn drop_empty(metadata: &mut serde_json::Map<String, Value>) {
    for field in [
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "generateName",
        "managedFields",
    ] {
        let empty = match metadata.get(field) {
            Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

/// Letters and digits of generated names: no vowels, so that no words come out; no digits that look like them.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the random part.
const RANDOM_LEN: usize = 5;
/// Longest generated name.
const GENERATED_NAME_LEN_MAX: usize = 63;

/// A name out of `generateName`.
pub fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATED_NAME_LEN_MAX - RANDOM_LEN);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let random = uuid::Uuid::new_v4().into_bytes();
    name.extend(
        random
            .iter()
            .take(RANDOM_LEN)
            .map(|byte| NAME_ALPHABET[*byte as usize % NAME_ALPHABET.len()] as char),
    );
    name
}
