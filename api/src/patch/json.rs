//! JSON patch (RFC 6902) with budgets: an operation costs nothing until it copies.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// kube-apiserver's own limit.
pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes that `copy` operations may duplicate in one patch. Nested copies double a document each time; an object at rest
/// is at most 3 MiB anyway.
pub const COPIED_BYTES_MAX: usize = 3 << 20;
/// What Kubernetes says when an operation fails, without detail.
const DOES_NOT_APPLY: &str = "the server rejected our request due to an error in our request";

/// `document` with the operations of `patch` (JSON text) performed in order, all or none.
pub fn apply(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: Patch = serde_json::from_slice(patch)
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    if patch.0.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            patch.0.len()
        )));
    }
    let mut patched = document.clone();
    let mut copied = 0;
    for operation in &patch.0 {
        if let PatchOperation::Copy(copy) = operation {
            copied += patched.pointer(copy.from.as_str()).map_or(0, size);
            if copied > COPIED_BYTES_MAX {
                return Err(PatchError::TooLarge(format!(
                    "the copy operations of a JSON patch may duplicate at most {COPIED_BYTES_MAX} bytes"
                )));
            }
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation))
            .map_err(|_| PatchError::DoesNotApply(DOES_NOT_APPLY.to_owned()))?;
    }
    Ok(patched)
}

/// Roughly the bytes of a value as text; exact enough for a budget.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, item)| key.len() + 4 + size(item)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_operation_leaves_nothing_changed_and_says_what_kubernetes_says() {
        let patch = br#"[{"op":"add","path":"/b","value":1},{"op":"test","path":"/a","value":2}]"#;
        let error = apply(&json!({"a": 1}), patch).unwrap_err();
        assert_eq!(error, PatchError::DoesNotApply(DOES_NOT_APPLY.to_owned()));
    }

    #[test]
    fn doubling_copies_run_into_the_budget() {
        let document = json!({"a": {"x": "0123456789".repeat(1000)}});
        let operations: Vec<String> = (0..64)
            .map(|i| format!(r#"{{"op":"copy","from":"/a","path":"/a/c{i}"}}"#))
            .collect();
        let error = apply(&document, format!("[{}]", operations.join(",")).as_bytes()).unwrap_err();
        assert!(matches!(error, PatchError::TooLarge(_)), "{error:?}");
    }

    #[test]
    fn too_many_operations_are_refused_and_garbage_is_malformed() {
        let one = r#"{"op":"add","path":"/b","value":1}"#;
        let many = format!("[{}]", vec![one; OPERATIONS_MAX + 1].join(","));
        assert!(matches!(
            apply(&json!({}), many.as_bytes()),
            Err(PatchError::TooLarge(_))
        ));
        assert!(matches!(apply(&json!({}), b"{}"), Err(PatchError::Malformed(_))));
    }
}
