//! Reads the two tables. They are part of the program, so a row that does not parse is a bug and panics; a test loads them.

use std::collections::HashMap;

use super::{Codec, Field, Layout, ListType, META_GROUP, MapType, Message, Schema, Type};

const MESSAGES: &str = include_str!("../../data/messages.tsv");
const FIELDS: &str = include_str!("../../data/fields.tsv");

/// Cells of a row of `messages.tsv` and `fields.tsv`.
const MESSAGE_CELLS: usize = 11;
const FIELD_CELLS: usize = 18;

/// Fields of one message in JSON; the largest (JSONSchemaProps) has 43.
const JSON_FIELDS_MAX: usize = 128;

pub(super) fn load() -> Schema {
    let mut messages = Vec::new();
    // One string for all full names, cut afterwards: one allocation instead of one per message.
    let mut names = String::with_capacity(MESSAGES.len());
    let mut spans = Vec::new();
    for line in rows(MESSAGES) {
        let cell = cells::<MESSAGE_CELLS>(line);
        let start = names.len();
        names.push_str(cell[0]);
        names.push('.');
        names.push_str(cell[1]);
        spans.push((start, names.len()));
        messages.push((line, cell));
    }
    let names: &'static str = String::leak(names);
    let messages: Vec<Message> = messages
        .iter()
        .zip(spans)
        .map(|((_, cell), (start, end))| message(cell, &names[start..end]))
        .collect();
    let messages: &'static [Message] = Vec::leak(messages);

    let by_full_name: HashMap<&'static str, &'static Message> = messages.iter().map(|m| (m.full_name, m)).collect();
    for (line, message) in rows(MESSAGES).zip(messages) {
        let item = cells::<MESSAGE_CELLS>(line)[7];
        if !item.is_empty() {
            let item = by_full_name.get(item).expect("a list's item type is in the table");
            message.list_item.set(item).expect("each message is visited once");
        }
    }
    let mut fields = load_fields(&by_full_name);
    for message in messages {
        // A message without fields has no row in the field table.
        fields.entry((message.package, message.name)).or_insert(&[]);
    }
    for message in messages {
        let own = fields[&(message.package, message.name)];
        let mut json = Vec::with_capacity(own.len());
        spread(own, &fields, &mut json);
        let mut by_json = json.clone();
        by_json.sort_by_key(|field| field.json);
        let mut by_number: Vec<&'static Field> = own.iter().filter(|field| field.number.is_some()).collect();
        by_number.sort_by_key(|field| field.number);
        assert!(
            json.len() <= JSON_FIELDS_MAX,
            "the decoder keeps a message's seen fields in 128 bits"
        );
        let always: Vec<&'static Field> = json.iter().copied().filter(|field| field.always_written()).collect();
        let layout = Layout {
            fields: own,
            json: json.into(),
            by_json: by_json.into(),
            by_number: by_number.into(),
            always: always.into(),
        };
        message.layout.set(layout).expect("each message is visited once");
    }
    // A WatchEvent carries no TypeMeta of its own, but its envelope may name it.
    let by_kind = messages
        .iter()
        .filter(|m| m.is_kind || (m.group == META_GROUP && m.name == "WatchEvent"))
        .map(|m| ((m.group, m.version, m.name), m))
        .collect();
    Schema {
        messages,
        by_full_name,
        by_kind,
    }
}

type FieldsOf = HashMap<(&'static str, &'static str), &'static [Field]>;

fn load_fields(by_full_name: &HashMap<&'static str, &'static Message>) -> FieldsOf {
    let mut all: FieldsOf = HashMap::with_capacity(by_full_name.len());
    let mut key = ("", "");
    let mut run: Vec<Field> = Vec::new();
    for line in rows(FIELDS) {
        let cell = cells::<FIELD_CELLS>(line);
        if (cell[0], cell[1]) != key {
            if !run.is_empty() {
                all.insert(key, Vec::leak(std::mem::take(&mut run)));
            }
            key = (cell[0], cell[1]);
        }
        run.push(field(&cell, by_full_name));
    }
    all.insert(key, Vec::leak(run));
    all
}

/// Adds the fields of a message as they stand in JSON. A name that the outer struct declares itself hides the inlined one,
/// as in Go.
fn spread(own: &'static [Field], all: &FieldsOf, out: &mut Vec<&'static Field>) {
    for field in own {
        match (field.inline, field.ty) {
            (true, Type::Message(inner)) => {
                let mut nested = Vec::new();
                spread(all[&(inner.package, inner.name)], all, &mut nested);
                out.extend(nested.into_iter().filter(|n| !own.iter().any(|o| o.json == n.json)));
            }
            _ if field.json.is_empty() => {}
            _ => out.push(field),
        }
    }
}

fn rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().skip(1)
}

fn cells<const N: usize>(line: &'static str) -> [&'static str; N] {
    let mut out = [""; N];
    for (slot, cell) in out.iter_mut().zip(line.split('\t')) {
        *slot = cell;
    }
    out
}

fn message(cell: &[&'static str; MESSAGE_CELLS], full_name: &'static str) -> Message {
    Message {
        full_name,
        package: cell[0],
        name: cell[1],
        codec: match cell[2] {
            "struct" => Codec::Struct,
            "time" => Codec::Time,
            "micro-time" => Codec::MicroTime,
            "duration" => Codec::Duration,
            "quantity" => Codec::Quantity,
            "int-or-string" => Codec::IntOrString,
            "raw-json" => Codec::RawJson,
            "bare-list" => Codec::BareList,
            "schema-or-array" => Codec::SchemaOrArray,
            "schema-or-bool" => Codec::SchemaOrBool,
            "schema-or-string-array" => Codec::SchemaOrStringArray,
            other => panic!("messages.tsv names the codec {other:?}"),
        },
        in_proto: cell[3] == "1",
        group: cell[4],
        version: cell[5],
        is_kind: cell[6] == "1",
        map_type: map_type(cell[8]),
        openapi: cell[10] == "1",
        list_item: Default::default(),
        layout: Default::default(),
    }
}

fn field(cell: &[&'static str; FIELD_CELLS], by_full_name: &HashMap<&'static str, &'static Message>) -> Field {
    Field {
        json: cell[3],
        number: cell[4].parse().ok(),
        ty: type_of(cell[5], by_full_name),
        repeated: cell[6] == "1",
        pointer: cell[7] == "1",
        omitempty: cell[8] == "1",
        omitzero: cell[9] == "1",
        inline: cell[10] == "1",
        patch_merge: cell[11].split(',').any(|strategy| strategy == "merge"),
        patch_retain_keys: cell[11].split(',').any(|strategy| strategy == "retainKeys"),
        patch_merge_key: cell[12],
        list_type: match cell[13] {
            "" => None,
            "atomic" => Some(ListType::Atomic),
            "set" => Some(ListType::Set),
            "map" => Some(ListType::Map),
            other => panic!("fields.tsv names the list type {other:?}"),
        },
        list_map_keys: cell[14].split(',').filter(|key| !key.is_empty()).collect(),
        map_type: map_type(cell[15]),
        required: cell[16] == "1",
        default: cell[17],
    }
}

fn map_type(text: &str) -> Option<MapType> {
    match text {
        "" => None,
        "atomic" => Some(MapType::Atomic),
        "granular" => Some(MapType::Granular),
        other => panic!("a table names the map type {other:?}"),
    }
}

fn type_of(text: &'static str, by_full_name: &HashMap<&'static str, &'static Message>) -> Type {
    const STRING: &Type = &Type::String;
    const BYTES: &Type = &Type::Bytes;
    match text {
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "any" => Type::Any,
        _ => match text.strip_prefix("map<string,").and_then(|rest| rest.strip_suffix('>')) {
            Some("string") => Type::Map(STRING),
            Some("bytes") => Type::Map(BYTES),
            Some(value) => Type::Map(Box::leak(Box::new(type_of(value, by_full_name)))),
            None => Type::Message(
                by_full_name
                    .get(text)
                    .unwrap_or_else(|| panic!("fields.tsv names the type {text:?}")),
            ),
        },
    }
}
