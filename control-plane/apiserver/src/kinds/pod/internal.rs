//! How Kubernetes shows parts of a pod inside error messages: its internal Go structs, written as JSON with Go's field
//! names in Go's order. The tables of fields are in `fields`.

mod fields;

use serde_json::Value;

pub(super) use fields::{POD_SPEC, SECURITY_CONTEXT};

/// One field of an internal struct.
pub(super) struct Field {
    go: &'static str,
    json: &'static str,
    shape: Shape,
}

/// What a field holds, and so what its zero looks like.
enum Shape {
    Text,
    Number,
    Flag,
    /// A pointer, list or map: `null` when absent, else as it is.
    Any,
    /// A struct, present even when empty.
    Struct(&'static [Field]),
    /// A pointer to a struct.
    Pointer(&'static [Field]),
    List(&'static [Field]),
    /// A struct of another package with JSON names of its own, empty fields left out.
    Foreign(&'static [Field]),
}

const fn field(go: &'static str, json: &'static str, shape: Shape) -> Field {
    Field { go, json, shape }
}

/// The struct on one line, as `Invalid value: …` shows it.
pub(super) fn compact(fields: &'static [Field], value: &Value) -> String {
    let mut out = String::new();
    write_struct(fields, value, None, &mut out);
    out
}

/// The struct on many lines, indented by one space a level, as diffs show it.
pub(super) fn pretty(fields: &'static [Field], value: &Value) -> String {
    let mut out = String::new();
    write_struct(fields, value, Some(0), &mut out);
    out
}

/// A pod's spec as the internal PodSpec has it: what concerns the host's namespaces stands in its security context.
pub(super) fn pod_spec_view(spec: &Value) -> Value {
    let mut view = spec.clone();
    for key in [
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "shareProcessNamespace",
        "hostUsers",
    ] {
        if let Some(flag) = spec.get(key).filter(|f| !f.is_null()) {
            view["securityContext"][key] = flag.clone();
        }
    }
    view
}

/// A pod template on one line: its metadata in the way of the API, its spec in Go's.
pub(crate) fn template_text(template: &Value) -> String {
    let mut out = String::from("{");
    for (key, value) in template
        .get("metadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        out.push_str(&format!("{}:{value},", Value::from(key.as_str())));
    }
    let spec = pod_spec_view(template.get("spec").unwrap_or(&Value::Null));
    out.push_str(&format!("\"Spec\":{}}}", compact(&POD_SPEC, &spec)));
    out
}

fn new_line(indent: Option<usize>, out: &mut String) {
    if let Some(depth) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    }
}

fn deeper(indent: Option<usize>) -> Option<usize> {
    indent.map(|depth| depth + 1)
}

fn write_key(key: &str, indent: Option<usize>, out: &mut String) {
    out.push_str(&Value::from(key).to_string());
    out.push_str(if indent.is_some() { ": " } else { ":" });
}

fn write_struct(fields: &'static [Field], value: &Value, indent: Option<usize>, out: &mut String) {
    out.push('{');
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        new_line(deeper(indent), out);
        write_key(field.go, indent, out);
        write_field(
            field,
            value.get(field.json).unwrap_or(&Value::Null),
            deeper(indent),
            out,
        );
    }
    new_line(indent, out);
    out.push('}');
}

fn write_field(field: &Field, value: &Value, indent: Option<usize>, out: &mut String) {
    match (&field.shape, value) {
        (Shape::Text, Value::Null) => out.push_str("\"\""),
        (Shape::Number, Value::Null) => out.push('0'),
        (Shape::Flag, Value::Null) => out.push_str("false"),
        (Shape::Struct(fields), _) => write_struct(fields, value, indent, out),
        (_, Value::Null) => out.push_str("null"),
        (Shape::Pointer(fields), _) => write_struct(fields, value, indent, out),
        (Shape::List(fields), Value::Array(items)) => {
            write_items(items, indent, out, |item, indent, out| {
                write_struct(fields, item, indent, out)
            });
        }
        (Shape::Foreign(fields), _) => write_foreign(fields, value, indent, out),
        _ => write_value(value, indent, out),
    }
}

fn write_items(
    items: &[Value],
    indent: Option<usize>,
    out: &mut String,
    write: impl Fn(&Value, Option<usize>, &mut String),
) {
    if items.is_empty() {
        return out.push_str("[]");
    }
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        new_line(deeper(indent), out);
        write(item, deeper(indent), out);
    }
    new_line(indent, out);
    out.push(']');
}

fn write_foreign(fields: &'static [Field], value: &Value, indent: Option<usize>, out: &mut String) {
    let present: Vec<&Field> = fields
        .iter()
        .filter(|f| value.get(f.json).is_some_and(|v| !v.is_null()))
        .collect();
    if present.is_empty() {
        return out.push_str("{}");
    }
    out.push('{');
    for (i, field) in present.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        new_line(deeper(indent), out);
        write_key(field.go, indent, out);
        let inner = value.get(field.json).unwrap_or(&Value::Null);
        match (&field.shape, inner) {
            (Shape::List(fields), Value::Array(items)) => {
                write_items(items, deeper(indent), out, |item, indent, out| {
                    write_foreign(fields, item, indent, out)
                });
            }
            _ => write_value(inner, deeper(indent), out),
        }
    }
    new_line(indent, out);
    out.push('}');
}

/// Plain JSON, maps sorted by key.
fn write_value(value: &Value, indent: Option<usize>, out: &mut String) {
    match value {
        Value::Array(items) => write_items(items, indent, out, write_value),
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                new_line(deeper(indent), out);
                write_key(key, indent, out);
                write_value(value, deeper(indent), out);
            }
            new_line(indent, out);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}
