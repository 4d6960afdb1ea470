//! YAML bodies: apply patches and `application/yaml`. YAML is turned into JSON first, with Go's YAML 1.1 rules (`y` and
//! `on` are booleans), then decoded like JSON.

mod write;

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, Options};

use super::{CodecError, DEPTH_MAX, Decoded, OBJECTS_MAX, json};
use crate::schema::Message;

pub use write::encode;

/// Nodes of one document, aliases expanded. JSON of the size limit of a body has fewer.
const NODES_MAX: usize = 1_000_000;
/// Events replayed for aliases in one document. Hand-written manifests repeat a few dozen lines; an alias bomb needs
/// millions.
const ALIAS_EVENTS_MAX: usize = 10_000;
/// Aliases to one anchor.
const ALIASES_PER_ANCHOR_MAX: usize = 1000;

/// Decodes a YAML body, or a JSON one, like [`json::decode`]. As the text goes through YAML's maps, unknown fields are
/// listed sorted by key, and a duplicate key is told as `yaml: unmarshal errors:\n  line 5: key "data" already set in map`.
///
/// Errors: `Yaml` besides those of JSON.
pub fn decode(body: &[u8], message: Option<&'static Message>) -> Result<Decoded, CodecError> {
    // kubectl sends JSON in its apply patches. What is JSON means the same as YAML.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        match json::decode(body, message) {
            Err(CodecError::Syntax(_)) => {}
            decoded => return decoded,
        }
    }
    let text = std::str::from_utf8(body).map_err(|_| CodecError::Yaml("yaml: invalid Unicode character".to_owned()))?;
    let node: Node =
        serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::PassThrough)).map_err(told)?;
    if count_objects(&node.value) > OBJECTS_MAX {
        return Err(CodecError::TooManyValues);
    }
    let mut decoded = match message {
        Some(message) => json::decode_value(&node.value, message)?,
        None => Decoded {
            value: node.value,
            problems: Vec::new(),
        },
    };
    if let Some(key) = node.duplicate {
        // Only this policy tells where.
        let again: Result<Node, _> = serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::Error));
        let line = again
            .err()
            .and_then(|error| error.location())
            .map_or(0, |location| location.line());
        decoded.problems.insert(
            0,
            format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"),
        );
    }
    Ok(decoded)
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_documents: 1,
            max_merge_keys: ALIASES_PER_ANCHOR_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_EVENTS_MAX,
            max_alias_expansions_per_anchor: ALIASES_PER_ANCHOR_MAX,
        },
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    }
}

/// `yaml: line 2: …`, as Go begins its errors.
fn told(error: serde_saphyr::Error) -> CodecError {
    let line = error
        .location()
        .map_or(String::new(), |location| format!("line {}: ", location.line()));
    CodecError::Yaml(format!("yaml: {line}{}", error.without_snippet()))
}

fn count_objects(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(count_objects).sum(),
        Value::Object(map) if !map.is_empty() => 1 + map.values().map(count_objects).sum::<usize>(),
        _ => 0,
    }
}

/// A YAML node as JSON, with the first key that stood twice in one map.
struct Node {
    value: Value,
    duplicate: Option<String>,
}

impl Node {
    fn scalar<E>(value: impl Into<Value>) -> Result<Self, E> {
        Ok(Node {
            value: value.into(),
            duplicate: None,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Node::scalar(value)
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Node::scalar(value)
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Node::scalar(value)
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        match json::number_from_float(value) {
            Some(value) => Node::scalar(value),
            None => Err(E::custom(format!("json: unsupported value: {value}"))),
        }
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Node::scalar(value)
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Node::scalar(value)
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Node::scalar(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Node::scalar(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let (mut items, mut duplicate) = (Vec::new(), None);
        while let Some(node) = access.next_element::<Node>()? {
            duplicate = duplicate.or(node.duplicate);
            items.push(node.value);
        }
        Ok(Node {
            value: Value::Array(items),
            duplicate,
        })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let (mut map, mut duplicate) = (Map::new(), None);
        while let Some((key, node)) = access.next_entry::<Node, Node>()? {
            let key = match key.value {
                Value::String(text) => text,
                // Go turns the keys that JSON cannot have into text.
                key @ (Value::Bool(_) | Value::Number(_)) => key.to_string(),
                _ => return Err(de::Error::custom("unsupported map key")),
            };
            duplicate = duplicate.or(node.duplicate);
            if map.contains_key(&key) {
                duplicate = duplicate.or(Some(key.clone()));
            }
            map.insert(key, node.value);
        }
        Ok(Node {
            value: Value::Object(map),
            duplicate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use proptest::prelude::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        decode(text.as_bytes(), None).map_or_else(|error| error.to_string().into(), |decoded| decoded.value)
    }

    #[test]
    fn yaml_is_read_as_go_reads_it() {
        assert_eq!(
            value(
                "a: {b: [1, 2.5, x, '1', y, off, null, ~, 0x10, 010]}\n1: k\nyes: z\ntime: 2024-01-01\nmode: \"0644\"\n"
            ),
            json!({"a": {"b": [1, 2.5, "x", "1", true, false, null, null, 16, 8]}, "1": "k", "true": "z",
                "time": "2024-01-01", "mode": "0644"})
        );
        assert_eq!(
            value("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2\n"),
            json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}})
        );
        assert_eq!(value("t: |\n  one\n  two\n"), json!({"t": "one\ntwo\n"}));
        assert_eq!(value(r#"{"a": "y", "b": [1]}"#), json!({"a": "y", "b": [1]}));
        assert_eq!(value("{a: 1, b: x}"), json!({"a": 1, "b": "x"}));
    }

    #[test]
    fn typed_bodies_are_strict() {
        let config_map = Schema::get().message_for("", "v1", "ConfigMap");
        let body = |name: &str| {
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '1'}}\ndata: {{b: '2'}}\nbogus: 1\n"
            )
        };
        let error = decode(body("y").as_bytes(), config_map).unwrap_err().to_string();
        // Recorded from a real server.
        assert_eq!(
            error,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string"
        );
        let decoded = decode(body("x").as_bytes(), config_map).unwrap();
        assert_eq!(
            decoded.problems,
            [
                "yaml: unmarshal errors:\n  line 5: key \"data\" already set in map",
                "unknown field \"bogus\""
            ]
        );
        assert_eq!(decoded.value["data"], json!({"b": "2"}));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
            d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        assert!(matches!(decode(bomb.as_bytes(), None), Err(CodecError::Yaml(_))));
        let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(decode(deep.as_bytes(), None), Err(CodecError::Yaml(_))));
        assert!(decode(b"a: 1\n---\nb: 2\n", None).is_err());
        assert!(
            decode(b"a: [1", None)
                .unwrap_err()
                .to_string()
                .starts_with("yaml: line ")
        );
        assert!(decode(b"\xff", None).is_err());
        assert!(decode(b"a: .inf", None).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:{}\\[\\],&*! \n|>'\"-]{0,60}") {
            let _ = decode(text.as_bytes(), None);
        }
        #[test]
        fn what_is_written_reads_back(text in "\\PC{0,20}", number in any::<i32>(), keys in proptest::collection::vec("[a-zA-Z0-9./~-]{0,6}", 0..4)) {
            let mut map = Map::new();
            for key in keys {
                map.insert(key, json!([{"a": text, "b": {}}, [number, null], [], true, text]));
            }
            let value = json!({"x": map, "text": text, "lines": format!("{text}\n  {text}\n")});
            let yaml = encode(&value);
            prop_assert_eq!(decode(yaml.as_bytes(), None).map_err(|e| e.to_string()), Ok(Decoded { value, problems: Vec::new() }), "{}", yaml);
        }
    }
}
