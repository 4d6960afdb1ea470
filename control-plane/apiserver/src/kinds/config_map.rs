//! ConfigMap: small configuration that pods read.            Lifecycle: none.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;

use super::common::{AGE, NAME, age, name, resource, text};
use super::secret::{immutable_data, too_large};
use super::validate::invalid_each;
use crate::strategy::{Column, Strategy};

/// Total bytes of keys' values, as for Secrets: what one store value bears.
const DATA_BYTES_MAX: usize = 1024 * 1024;

const COLUMNS: &[Column] = &[NAME, text("Data"), AGE];

pub struct ConfigMapStrategy;

impl Strategy for ConfigMapStrategy {
    resource!("", "v1", "configmaps");

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (data, binary) = (object.get("data"), object.get("binaryData"));
        let entries = |map: Option<&Value>| -> Vec<(String, usize)> {
            let map = map.and_then(Value::as_object).into_iter().flatten();
            map.map(|(key, value)| (key.clone(), value.as_str().map_or(0, str::len)))
                .collect()
        };
        let (data, binary) = (entries(data), entries(binary));
        let mut size = 0;
        for (key, length) in &data {
            let path = Path::new("data").key(key);
            invalid_each(errors, &path, key, names::config_map_key(key));
            if binary.iter().any(|(other, _)| other == key) {
                errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
            }
            size += length;
        }
        for (key, length) in &binary {
            invalid_each(
                errors,
                &Path::new("binaryData").key(key),
                key,
                names::config_map_key(key),
            );
            // Base64 holds three bytes in four characters.
            size += length / 4 * 3;
        }
        if size > DATA_BYTES_MAX {
            // Kubernetes' text for the path of the object itself.
            too_large(errors, "[]", DATA_BYTES_MAX);
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        immutable_data(new, old, &["data", "binaryData"], errors);
    }
    fn metadata_checks(&self) -> usize {
        4
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let count = |key: &str| {
            object
                .get(key)
                .and_then(Value::as_object)
                .map_or(0, serde_json::Map::len)
        };
        vec![
            name(object),
            (count("data") + count("binaryData")).into(),
            age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::ConfigMapStrategy;
    use crate::kinds::testing::{check_invalid, check_invalid_update, check_table, object};

    #[test]
    fn keys_are_checked() {
        check_invalid(
            &ConfigMapStrategy,
            "{metadata: {name: v}, data: {'..': x, a: '1', bad key: x}, binaryData: {a: AA==}}",
            expect![[r#"
                data[..]: Invalid value: "..": must not be '..'
                data[a]: Invalid value: "a": duplicate of key present in binaryData
                data[bad key]: Invalid value: "bad key": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            "#]],
        );
    }

    #[test]
    fn too_much_data_is_refused() {
        let mut map = object("{metadata: {name: v}}");
        map["data"] = json!({"a": "x".repeat(1024 * 1024 + 1)});
        let mut errors = skiff_api::field::FieldErrors::new();
        crate::strategy::Strategy::validate(&ConfigMapStrategy, &map, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["[]: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn an_immutable_map_stays_as_it_is() {
        check_invalid_update(
            &ConfigMapStrategy,
            "{metadata: {name: v}, immutable: true, data: {a: '1'}}",
            "{metadata: {name: v}, immutable: false, data: {a: '2'}}",
            expect![[r#"
                immutable: Forbidden: field is immutable when `immutable` is set
                data: Forbidden: field is immutable when `immutable` is set
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &ConfigMapStrategy,
            "{metadata: {name: v}, data: {a: '1', b: '2'}, binaryData: {c: AA==}}",
            expect![[r#"
                Name: "v"
                Data: 3
                Age: "5m"
            "#]],
        );
    }
}
