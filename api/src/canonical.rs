//! The bytes at rest: one compact JSON text per object, made once at the write and served by get, list and watch.
//!
//! It starts `{"kind":…,"apiVersion":…,"metadata":{` and goes on sorted by key. `metadata.resourceVersion` is not stored,
//! because the store decides it at commit; [`with_resource_version`] splices it in.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

const METADATA: &[u8] = br#""metadata":{"#;

/// The canonical bytes of an object. `metadata` is always written, empty if the object has none.
pub fn to_bytes(object: &Value) -> Bytes {
    let empty = Map::new();
    let map = object.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        if let Some(value) = map.get(key) {
            write_entry(&mut out, key, value);
            out.push(b',');
        }
    }
    out.extend_from_slice(METADATA);
    let metadata = map.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut first = true;
    for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_entry(&mut out, key, value);
    }
    out.push(b'}');
    for (key, value) in map {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            out.push(b',');
            write_entry(&mut out, key, value);
        }
    }
    out.push(b'}');
    out.into()
}

/// Canonical bytes with `"resourceVersion":"N"` as the first field of metadata. Bytes that are not canonical (no metadata
/// object) come back as they are.
pub fn with_resource_version(canonical: &Bytes, revision: u64) -> Bytes {
    // Quotes inside strings are escaped, so the first match is the key itself.
    let Some(at) = canonical.windows(METADATA.len()).position(|window| window == METADATA) else {
        return canonical.clone();
    };
    let (head, tail) = canonical.split_at(at + METADATA.len());
    let mut out = Vec::with_capacity(canonical.len() + 44);
    out.extend_from_slice(head);
    out.extend_from_slice(br#""resourceVersion":""#);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if tail.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(tail);
    out.into()
}

fn write_entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    write(out, key);
    out.push(b':');
    write(out, value);
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a JSON value always has a JSON text and a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn kind_api_version_and_metadata_come_first_and_resource_version_is_left_out() {
        let pod = json!({"spec": {"b": 1, "a": 2}, "metadata": {"name": "x", "resourceVersion": "7"}, "kind": "Pod",
            "apiVersion": "v1", "data": null});
        let bytes = to_bytes(&pod);
        assert_eq!(
            text(&bytes),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"data":null,"spec":{"a":2,"b":1}}"#
        );
        assert_eq!(
            text(&with_resource_version(&bytes, 12)),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"12","name":"x"},"data":null,"spec":{"a":2,"b":1}}"#
        );
    }

    #[test]
    fn an_object_without_metadata_gets_an_empty_one() {
        let bytes = to_bytes(&json!({"kind": "K\"metadata\":{"}));
        assert_eq!(text(&bytes), r#"{"kind":"K\"metadata\":{","metadata":{}}"#);
        assert_eq!(
            text(&with_resource_version(&bytes, 1)),
            r#"{"kind":"K\"metadata\":{","metadata":{"resourceVersion":"1"}}"#
        );
    }
}
