//! JSON merge patch (RFC 7396): maps are merged, null removes, everything else replaces.

use serde_json::Value;

/// `document` with `patch` merged in.
pub fn apply(document: &Value, patch: &Value) -> Value {
    let mut merged = document.clone();
    json_patch::merge(&mut merged, patch);
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::apply;

    #[test]
    fn null_removes_and_lists_are_replaced() {
        let document = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        let patch = json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [3]});
        assert_eq!(
            apply(&document, &patch),
            json!({"a": {"c": 2, "d": {"f": 1}}, "l": [3]})
        );
    }
}
