//! Secret: small data that only some may read.            Lifecycle: none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{self, str_at};

use super::common::{AGE, NAME, age, name, resource, text};
use super::validate::{immutable, invalid_each};
use crate::strategy::{Column, Strategy, WriteContext};

/// Total bytes of the values, as Kubernetes has it.
const DATA_BYTES_MAX: usize = 1024 * 1024;
const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";
const COLUMNS: &[Column] = &[NAME, text("Type"), text("Data"), AGE];

pub struct SecretStrategy;

impl Strategy for SecretStrategy {
    resource!("", "v1", "secrets");

    fn apply_defaults(&self, object: &mut Value) {
        let map = object::as_map(object);
        if map.get("type").and_then(Value::as_str).unwrap_or("").is_empty() {
            map.insert("type".into(), "Opaque".into());
        }
        // stringData is a way to write data, and never stored.
        if let Some(Value::Object(texts)) = map.remove("stringData") {
            let data = object::as_map(map.entry("data").or_insert_with(|| Value::Object(Map::new())));
            for (key, text) in texts {
                data.insert(key, STANDARD.encode(text.as_str().unwrap_or("")).into());
            }
        }
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        if str_at(new, "/type").is_empty() {
            new["type"] = old["type"].clone();
        }
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::new("data");
        let mut size = 0;
        for (key, value) in data(object) {
            invalid_each(errors, &path.key(key), key, names::config_map_key(key));
            size += value.as_str().map_or(0, str::len) / 4 * 3;
        }
        if size > DATA_BYTES_MAX {
            too_large(errors, "data", DATA_BYTES_MAX);
        }
        by_type(object, &path, errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("type"), new.get("type"), old.get("type"));
        immutable_data(new, old, &["data"], errors);
    }
    fn metadata_checks(&self) -> usize {
        4
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            name(object),
            str_at(object, "/type").into(),
            data(object).count().into(),
            age(object, now),
        ]
    }
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("type", str_at(object, "/type").to_owned())]
    }
}

fn data(secret: &Value) -> impl Iterator<Item = (&String, &Value)> {
    secret.get("data").and_then(Value::as_object).into_iter().flatten()
}

/// What each well-known type must contain.
fn by_type(secret: &Value, path: &Path, errors: &mut FieldErrors) {
    let value = |key: &str| {
        data(secret)
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v.as_str().unwrap_or(""))
    };
    let mut need = |key: &str| {
        if value(key).is_none() {
            errors.required(&path.key(key), "");
        }
    };
    match str_at(secret, "/type") {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(need),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            ["username", "password"].into_iter().for_each(need);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").unwrap_or("").is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/service-account-token" => {
            let account = object::annotations(secret)
                .remove(ACCOUNT_ANNOTATION)
                .unwrap_or_default();
            if account.is_empty() {
                errors.required(&Path::new("metadata").child("annotations").key(ACCOUNT_ANNOTATION), "");
            }
        }
        kind @ ("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson") => {
            let key = if kind.ends_with("cfg") {
                ".dockercfg"
            } else {
                ".dockerconfigjson"
            };
            need(key);
            if let Some(problem) = value(key).and_then(json_problem) {
                errors.invalid(&path.key(key), "<secret contents redacted>", &problem);
            }
        }
        _ => {}
    }
}

/// What Go's decoder says of a base64 text that does not hold JSON.
fn json_problem(encoded: &str) -> Option<String> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let error = serde_json::from_slice::<Map<String, Value>>(&bytes).err()?;
    if error.is_eof() {
        return Some("unexpected end of JSON input".to_owned());
    }
    let first = String::from_utf8_lossy(&bytes)
        .trim_start()
        .chars()
        .next()
        .unwrap_or(' ');
    Some(format!("invalid character '{first}' looking for beginning of value"))
}

/// `Too long` at a field of the object itself.
pub(super) fn too_large(errors: &mut FieldErrors, path: &str, max: usize) {
    let body = format!("Too long: may not be more than {max} bytes");
    errors.push(FieldError {
        kind: ErrorType::TooLong,
        path: path.to_owned(),
        body,
    });
}

/// Once `immutable` is true neither it nor the data may change. (ConfigMaps have the same rule.)
pub(super) fn immutable_data(new: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !object::bool_at(old, "/immutable") {
        return;
    }
    if !object::bool_at(new, "/immutable") {
        errors.forbidden(&Path::new("immutable"), DETAIL);
    }
    let entries = |value: &Value, field: &str| value.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    for field in fields {
        if entries(new, field) != entries(old, field) {
            errors.forbidden(&Path::new(field), DETAIL);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::SecretStrategy;
    use crate::kinds::testing::{check_create, check_invalid, check_invalid_update, check_table};

    #[test]
    fn string_data_becomes_data() {
        check_create(
            &SecretStrategy,
            "{metadata: {name: v}, data: {a: AA==}, stringData: {b: hello}}",
            expect![[r#"
                {
                  "data": {
                    "a": "AA==",
                    "b": "aGVsbG8="
                  },
                  "metadata": {
                    "name": "v"
                  },
                  "type": "Opaque"
                }
            "#]],
        );
    }

    #[test]
    fn types_have_their_keys() {
        for (kind, expected) in [
            (
                "kubernetes.io/tls",
                expect![[r#"
                data[tls.crt]: Required value
                data[tls.key]: Required value
            "#]],
            ),
            (
                "kubernetes.io/basic-auth",
                expect![[r#"
                data[username]: Required value
                data[password]: Required value
            "#]],
            ),
            (
                "kubernetes.io/ssh-auth",
                expect![[r#"
                data[ssh-privatekey]: Required value
            "#]],
            ),
            (
                "kubernetes.io/dockercfg",
                expect![[r#"
                data[.dockercfg]: Required value
            "#]],
            ),
            (
                "kubernetes.io/service-account-token",
                expect![[r#"
                metadata.annotations[kubernetes.io/service-account.name]: Required value
            "#]],
            ),
            ("bootstrap.kubernetes.io/token", expect![""]),
        ] {
            check_invalid(
                &SecretStrategy,
                &format!("{{metadata: {{name: v}}, type: {kind}}}"),
                expected,
            );
        }
        check_invalid(
            &SecretStrategy,
            "{metadata: {name: v}, type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: eA==}}",
            expect![[r#"
                data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'x' looking for beginning of value
            "#]],
        );
    }

    #[test]
    fn the_type_never_changes() {
        check_invalid_update(
            &SecretStrategy,
            "{metadata: {name: v}, type: a.example/t}",
            "{metadata: {name: v}, type: b.example/t}",
            expect![[r#"
                type: Invalid value: "b.example/t": field is immutable
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &SecretStrategy,
            "{metadata: {name: v}, type: Opaque, data: {a: AA==}}",
            expect![[r#"
                Name: "v"
                Type: "Opaque"
                Data: 1
                Age: "5m"
            "#]],
        );
    }
}
