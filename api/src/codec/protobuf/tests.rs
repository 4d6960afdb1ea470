//! The fixtures of Kubernetes' own serializers, both ways, and hostile bytes.

use std::io::Read;
use std::path::PathBuf;

use super::*;
use crate::codec::{DEPTH_MAX, json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/roundtrip")
}

/// Name, JSON, protobuf and message of every fixture pair.
fn pairs() -> Vec<(String, Value, Vec<u8>, &'static Message)> {
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let bytes = std::fs::read(path.with_extension("pb")).unwrap();
            let kind = name.rsplit('.').next().unwrap();
            let api_version = crate::object::api_version(&value);
            // The WatchEvent's envelope names no kind.
            let api_version = if api_version.is_empty() { "v1" } else { api_version };
            let message = Schema::get().message_for_api_version(api_version, kind);
            pairs.push((name.clone(), value, bytes, message.unwrap_or_else(|| panic!("{name}"))));
        }
    }
    assert_eq!(pairs.len(), 189);
    pairs
}

/// Name, JSON, protobuf and (where it differs) the protobuf that the JSON gives.
fn sparse() -> Vec<(String, Value, Vec<u8>, Vec<u8>)> {
    let file = std::fs::read(folder().join("sparse.jsonl.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    let lines: Vec<_> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap_or("").to_owned();
            let pb = STANDARD.decode(text("pb")).unwrap();
            let reencoded = line["reencoded"]
                .as_str()
                .map_or(pb.clone(), |pb| STANDARD.decode(pb).unwrap());
            (
                format!("{}/{} {}", text("apiVersion"), text("kind"), line["n"]),
                line["json"].clone(),
                pb,
                reencoded,
            )
        })
        .collect();
    assert_eq!(lines.len(), 1023);
    lines
}

/// Floats that are whole count as integers, as JSON texts they are the same number.
fn whole(value: &Value) -> Value {
    match value {
        Value::Number(number) => json::number_from_text(&number.to_string()).unwrap(),
        Value::Array(items) => items.iter().map(whole).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), whole(value))).collect()),
        other => other.clone(),
    }
}

#[test]
fn protobuf_to_json_gives_what_kubernetes_prints() {
    for (name, value, bytes, message) in pairs() {
        assert_eq!(
            decode_with_default(&bytes, Some(message)).unwrap(),
            whole(&value),
            "{name}"
        );
    }
    for (name, value, bytes, _) in sparse() {
        assert_eq!(
            decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}")),
            whole(&value),
            "{name}"
        );
    }
}

#[test]
fn json_to_protobuf_gives_the_bytes_that_kubernetes_writes() {
    for (name, value, bytes, message) in pairs() {
        assert_same(&name, &encode_as(&value, message).unwrap(), &bytes);
    }
    for (name, value, _, bytes) in sparse() {
        assert_same(&name, &encode(&value).unwrap_or_else(|e| panic!("{name}: {e}")), &bytes);
    }
}

#[test]
fn the_strict_json_decoder_changes_nothing_in_the_fixtures() {
    for (name, value, _, message) in pairs() {
        let decoded = json::decode_value(&value, message).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded.problems, Vec::<String>::new(), "{name}");
        assert_eq!(decoded.value, whole(&value), "{name}");
    }
    // Reading JSON loses what those with other bytes afterwards had: a present, empty raw extension, printed as null.
    for (name, value, _, _) in sparse()
        .into_iter()
        .filter(|(_, _, bytes, reencoded)| bytes == reencoded)
    {
        let message =
            message_of(crate::object::api_version(&value), crate::object::kind(&value)).expect("a known kind");
        let decoded = json::decode_value(&value, message).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded.value, whole(&value), "{name}");
    }
}

fn assert_same(name: &str, ours: &[u8], theirs: &[u8]) {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let around =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned();
    assert!(
        ours == theirs,
        "{name} differs at byte {at}:\n ours  {:?}\ntheirs {:?}",
        around(ours),
        around(theirs)
    );
}

#[test]
fn bodies_that_are_no_protobuf_are_refused_in_words() {
    let error = |body: &[u8]| decode(body).unwrap_err().to_string();
    assert!(error(b"{}").starts_with("provided data does not appear to be a protobuf message"));
    assert!(error(b"k8s\0").starts_with("no kind \"\" is registered"));
    assert_eq!(error(b"k8s\0\x0a\xff\xff\xff\xff\x7f"), "unexpected EOF");
    assert_eq!(error(b"k8s\0\x0b"), "proto: illegal wireType");
    assert_eq!(
        error(b"k8s\0\x0a\x03\x0a\x01\xff"),
        "proto: field contains invalid UTF-8"
    );
    let (api_version, kind) = type_of(&encode(&json!({"apiVersion": "v1", "kind": "Pod"})).unwrap())
        .map(|(v, k)| (v.to_owned(), k.to_owned()))
        .unwrap();
    assert_eq!((api_version.as_str(), kind.as_str()), ("v1", "Pod"));
}

/// A body of a kind from the bytes of its message.
fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    wire::nested(&mut out, 1, |out| {
        wire::write_bytes(out, 1, api_version.as_bytes());
        wire::write_bytes(out, 2, kind.as_bytes());
        Ok(())
    })
    .unwrap();
    wire::write_bytes(&mut out, 2, raw);
    out
}

#[test]
fn deep_nesting_and_many_small_objects_are_refused() {
    // JSONSchemaProps.not is field 27 and of the same type.
    let mut raw = Vec::new();
    for _ in 0..DEPTH_MAX + 1 {
        let inner = std::mem::take(&mut raw);
        wire::write_bytes(&mut raw, 27, &inner);
    }
    let mut crd = Vec::new();
    // spec, versions, schema, openAPIV3Schema
    for number in [1, 4, 7, 2] {
        wire::write_bytes(&mut crd, number, &raw);
        raw = std::mem::take(&mut crd);
    }
    let result = decode(&body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw));
    assert!(matches!(result, Err(CodecError::TooDeep)), "{result:?}");

    // Empty containers: two bytes each on the wire, a map each in memory.
    let containers = [0x12, 0x00].repeat(super::super::OBJECTS_MAX + 1);
    let mut raw = Vec::new();
    wire::write_bytes(&mut raw, 2, &containers);
    assert!(matches!(
        decode(&body("v1", "Pod", &raw)),
        Err(CodecError::TooManyValues)
    ));
}

proptest! {
    #[test]
    fn random_bytes_give_an_error_or_an_object(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&raw);
        let _ = decode(&body("v1", "Pod", &raw));
        let _ = decode(&body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw));
    }
    #[test]
    fn damaged_pods_give_an_error_or_an_object(cut in 0usize..100_000, at in 0usize..100_000, byte in any::<u8>()) {
        let mut bytes = std::fs::read(folder().join("core.v1.Pod.pb")).unwrap();
        let _ = decode(&bytes[..cut % bytes.len()]);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(value) = decode(&bytes) {
            let _ = encode(&value);
        }
    }
}
