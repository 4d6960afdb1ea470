//! JSON text in Go's field order, for error texts that show a value.

use serde_json::Value;

use crate::schema::{Codec, Field, Message, Type};

/// The text that Go's json.Marshal gives for a value of a message: fields in declaration order, maps by key, `<`, `>` and
/// `&` escaped. Fields that the message does not have come last. Error texts such as
/// `spec.selector: Invalid value: {"matchLabels":…,"matchExpressions":…}: …` show values so.
pub fn go_text(value: &Value, message: &'static Message) -> String {
    let mut out = String::new();
    write_message(&mut out, value, message);
    escape(out)
}

/// The text that Kubernetes shows for an object after a JSON or merge patch: top-level keys sorted, what is below in Go's
/// order.
pub fn patched_text(value: &Value, message: &'static Message) -> String {
    let Value::Object(map) = value else {
        return escape(value.to_string());
    };
    let mut out = String::from("{");
    for (key, value) in map {
        write_entry(&mut out, key, value, message.field(key));
    }
    out.push('}');
    escape(out)
}

fn write_message(out: &mut String, value: &Value, message: &'static Message) {
    let (Value::Object(map), Codec::Struct) = (value, message.codec) else {
        return write_plain(out, value);
    };
    out.push('{');
    for field in message.json_fields() {
        if let Some(value) = map.get(field.json) {
            write_entry(out, field.json, value, Some(field));
        }
    }
    for (key, value) in map.iter().filter(|(key, _)| message.field(key).is_none()) {
        write_entry(out, key, value, None);
    }
    out.push('}');
}

fn write_entry(out: &mut String, key: &str, value: &Value, field: Option<&'static Field>) {
    if !out.ends_with('{') {
        out.push(',');
    }
    write_plain(out, &Value::from(key));
    out.push(':');
    match (field, value) {
        (Some(field), Value::Array(items)) if field.repeated => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_type(out, item, &field.ty);
            }
            out.push(']');
        }
        (Some(field), _) => write_type(out, value, &field.ty),
        (None, _) => write_plain(out, value),
    }
}

fn write_type(out: &mut String, value: &Value, ty: &Type) {
    match (ty, value) {
        (Type::Message(message), _) => write_message(out, value, message),
        (Type::Map(ty), Value::Object(map)) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_plain(out, &Value::from(key.as_str()));
                out.push(':');
                write_type(out, value, ty);
            }
            out.push('}');
        }
        _ => write_plain(out, value),
    }
}

fn write_plain(out: &mut String, value: &Value) {
    out.push_str(&value.to_string());
}

/// These characters can only stand inside of strings.
fn escape(text: String) -> String {
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use serde_json::json;

    #[test]
    fn values_are_shown_in_the_order_of_go() {
        let selector = Schema::get()
            .message("k8s.io.apimachinery.pkg.apis.meta.v1.LabelSelector")
            .unwrap();
        // Recorded from a real server.
        assert_eq!(
            go_text(
                &json!({"matchExpressions": [{"values": ["x"], "operator": "Exists", "key": "a"}], "matchLabels": {"app": "kd"}}),
                selector
            ),
            r#"{"matchLabels":{"app":"kd"},"matchExpressions":[{"key":"a","operator":"Exists","values":["x"]}]}"#
        );
        let config_map = Schema::get().message_for("", "v1", "ConfigMap").unwrap();
        let patched = json!({"kind": "ConfigMap", "bogus": 1, "data": {"a": "<"}, "metadata": {"uid": "u", "name": "f",
            "managedFields": [{"apiVersion": "v1", "manager": "m"}]}});
        assert_eq!(
            patched_text(&patched, config_map),
            r#"{"bogus":1,"data":{"a":"\u003c"},"kind":"ConfigMap","metadata":{"name":"f","uid":"u","managedFields":[{"manager":"m","apiVersion":"v1"}]}}"#
        );
    }
}
