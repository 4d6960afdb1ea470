//! What selectors may ask of an object, read out of its bytes without decoding the rest. Most of an object is skipped over:
//! this runs for every change of every object.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use skiff_api::object;
use skiff_store::watch_cache::Attributes;

use crate::strategy::Strategy;

/// Reads the attributes of one resource's objects.
pub(super) struct Extractor {
    strategy: Arc<dyn Strategy>,
    wanted: Wanted,
}

impl Extractor {
    pub(super) fn new(strategy: Arc<dyn Strategy>) -> Self {
        let mut wanted = Wanted::default();
        for path in ["metadata.labels", "metadata.name", "metadata.namespace"] {
            wanted.add(path);
        }
        for (path, _) in strategy.selectable_fields(&Value::Null) {
            wanted.add(path);
        }
        Self { strategy, wanted }
    }

    /// Of an object as it is served; none of what is no JSON.
    pub(super) fn attributes(&self, bytes: &[u8]) -> Attributes {
        let Ok(value) = self.wanted.read(bytes) else {
            return Attributes::default();
        };
        let mut fields = self.strategy.selectable_fields(&value);
        fields.push(("metadata.name", object::name(&value).to_owned()));
        if self.strategy.info().namespaced {
            fields.push(("metadata.namespace", object::namespace(&value).to_owned()));
        }
        Attributes {
            labels: object::labels(&value),
            fields,
        }
    }
}

/// The paths to read, as a tree by their parts. A leaf is read whole.
#[derive(Debug, Default)]
struct Wanted(BTreeMap<&'static str, Self>);

impl Wanted {
    fn add(&mut self, path: &'static str) {
        let mut node = self;
        for part in path.split('.') {
            node = node.0.entry(part).or_default();
        }
    }

    /// The object with the wanted paths only.
    fn read(&self, bytes: &[u8]) -> serde_json::Result<Value> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = self.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.is_empty() {
            serde::Deserialize::deserialize(deserializer)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

/// Of a map the wanted keys. Anything else holds no paths and counts as null.
impl<'de> Visitor<'de> for &Wanted {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key(self))? {
            match key {
                Some((name, wanted)) => {
                    map.insert(name.to_owned(), entries.next_value_seed(wanted)?);
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(map))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A key of a map: what is wanted below it, if anything.
struct Key<'a>(&'a Wanted);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<(&'static str, &'a Wanted)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<(&'static str, &'a Wanted)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.get_key_value(key).map(|(name, wanted)| (*name, wanted)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Everything that a whole object says must be found in the parts read of it.
    #[test]
    fn every_kinds_selectable_fields_are_found_by_their_paths() {
        for strategy in crate::kinds::all() {
            let mut object =
                json!({"metadata": {"name": "a", "namespace": "ns", "labels": {"x": "y"}, "uid": "u"}, "more": [{}]});
            for (path, _) in strategy.selectable_fields(&Value::Null) {
                // The paths that are no strings.
                let value = match path {
                    "status.podIP" | "status.podIPs" => json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]),
                    "spec.hostNetwork" | "spec.unschedulable" => json!(true),
                    _ => json!(format!("at {path}")),
                };
                let parents = path.split('.').rev().fold(value, |inner, part| json!({ part: inner }));
                merge(&mut object, parents);
            }
            let found = Extractor::new(strategy.clone()).attributes(object.to_string().as_bytes());
            let whole = strategy.selectable_fields(&object);
            assert!(found.fields.starts_with(&whole), "{found:?} {whole:?}");
            assert!(
                whole.iter().all(|(_, value)| !matches!(value.as_str(), "" | "false")),
                "{whole:?}"
            );
            assert_eq!(found.labels, BTreeMap::from([("x".into(), "y".into())]));
        }
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    #[test]
    fn only_the_wanted_paths_are_read_whatever_else_is_there() {
        let mut wanted = Wanted::default();
        for path in ["metadata.labels", "spec.a", "spec.b", "type"] {
            wanted.add(path);
        }
        let read = |text: &str| wanted.read(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(
            read(
                r#"{"kind":"K","metadata":{"name":"n","labels":{"a":"\u0041","b":1}},"spec":{"b":[1,{"c":2}],"c":{}},"type":"t"}"#
            ),
            Ok(json!({"metadata": {"labels": {"a": "A", "b": 1}}, "spec": {"b": [1, {"c": 2}]}, "type": "t"}))
        );
        for odd in ["null", "true", "-1", "1", "1.5", "\"text\"", "[1,[]]"] {
            assert_eq!(read(odd), Ok(Value::Null));
            assert_eq!(read(&format!("{{\"spec\":{odd}}}")), Ok(json!({"spec": null})));
        }
        assert!(read(r#"{"spec":{"a":1}"#).is_err());
        assert!(read("{} x").is_err());
    }
}
