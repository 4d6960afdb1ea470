//! YAML answers (`Accept: application/yaml`): block style, keys sorted, as Kubernetes' answers look. Long lines are not
//! folded.

use serde_json::{Map, Value};

/// The YAML text of a value, ending with a line break.
pub fn encode(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => write_list(&mut out, items, 0),
        scalar => {
            write_scalar(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

/// `inline`: the first key stands on a line that was begun (after `- `).
fn write_map(out: &mut String, map: &Map<String, Value>, indent: usize, inline: bool) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || !inline {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        write_text(out, key);
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                write_map(out, map, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                // Lists stand in their key's column.
                write_list(out, items, indent);
            }
            scalar => {
                out.push(' ');
                write_scalar(out, scalar, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn write_list(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        out.extend(std::iter::repeat_n(' ', indent));
        write_item(out, item, indent);
    }
}

fn write_item(out: &mut String, item: &Value, indent: usize) {
    out.push_str("- ");
    match item {
        Value::Object(map) if !map.is_empty() => write_map(out, map, indent + 2, true),
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.extend(std::iter::repeat_n(' ', indent + 2));
                }
                write_item(out, item, indent + 2);
            }
        }
        scalar => {
            write_scalar(out, scalar, indent + 2);
            out.push('\n');
        }
    }
}

fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(text) if is_literal(text) => {
            out.push('|');
            if !text.ends_with('\n') {
                out.push('-');
            }
            for line in text.trim_end_matches('\n').split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    out.extend(std::iter::repeat_n(' ', indent));
                    out.push_str(line);
                }
            }
        }
        Value::String(text) => write_text(out, text),
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Several lines that a `|` block can hold without special marks.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && text.chars().all(|c| c == '\n' || is_printable(c))
        && body.split('\n').all(|line| !line.ends_with(' '))
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{85}')
}

/// A string on one line, as Go's YAML writes it: plain if it can be; in double quotes if it would read back as something
/// else than a string or needs escapes; else in single quotes.
fn write_text(out: &mut String, text: &str) {
    if is_ambiguous(text) || !text.chars().all(is_printable) {
        // A JSON string is a YAML double-quoted one.
        out.push_str(&Value::from(text).to_string());
    } else if is_plain(text) {
        out.push_str(text);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    }
}

/// Plain, YAML 1.1 would read a number, a boolean, null, a time or nothing.
fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 16] = [
        "", "y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ".nan", ".inf", "-.inf", "<<", "=",
    ];
    if WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (text.replace('_', "").parse::<f64>().is_ok()
            || ["0x", "0o", "0b"].iter().any(|prefix| unsigned.starts_with(prefix))
            || unsigned.chars().all(|c| c.is_ascii_digit() || ":_.".contains(c)) && unsigned.contains([':', '_']));
    let is_time = text.split('-').count() >= 3
        && text.bytes().take(4).all(|b| b.is_ascii_digit())
        && text.as_bytes().get(4) == Some(&b'-')
        && text.bytes().all(|b| b.is_ascii_digit() || b"-+:. TtZz".contains(&b));
    is_number || is_time
}

/// Nothing in the text has a meaning in YAML.
fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next().unwrap_or(' '));
    let starts_plain = match first {
        '-' | '?' | ':' => second != ' ' && !text.starts_with("---"),
        _ => !" ,[]{}#&*!|>'\"%@`".contains(first) && !text.starts_with("..."),
    };
    starts_plain
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([' ', ':'])
        && !text.chars().any(|c| c.is_whitespace() && c != ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn answers_look_like_those_of_kubernetes() {
        let config_map = json!({"apiVersion": "v1", "data": {"a": "1", "b": "x: y", "c": "it's", "script": "#!/bin/sh\necho\n"},
            "kind": "ConfigMap", "metadata": {"creationTimestamp": "2024-01-01T00:00:00Z", "labels": {}, "finalizers": ["a", "on"],
            "managedFields": [{"fieldsV1": {"f:data": {".": {}, "k:{\"name\":\"c\"}": {}}}, "manager": "kubectl"}]},
            "memory": "1Gi", "ip": "10.0.0.1", "tab": "a\tb", "n": null, "list": [[1, 2], {"x": true, "y": [0.5]}]});
        expect![[r##"
            apiVersion: v1
            data:
              a: "1"
              b: 'x: y'
              c: it's
              script: |
                #!/bin/sh
                echo
            ip: 10.0.0.1
            kind: ConfigMap
            list:
            - - 1
              - 2
            - x: true
              "y":
              - 0.5
            memory: 1Gi
            metadata:
              creationTimestamp: "2024-01-01T00:00:00Z"
              finalizers:
              - a
              - "on"
              labels: {}
              managedFields:
              - fieldsV1:
                  f:data:
                    .: {}
                    k:{"name":"c"}: {}
                manager: kubectl
            "n": null
            tab: "a\tb"
        "##]]
        .assert_eq(&encode(&config_map));
    }
}
