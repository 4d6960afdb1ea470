//! The field table: every message of the Kubernetes 1.36 API with its fields, their JSON names, protobuf numbers, Go
//! flags, patch strategies and list types. The rows are data (`data/messages.tsv`, `data/fields.tsv`), parsed once.
//!
//! Everything generic is driven by it: `codec` (protobuf and strict JSON), `patch` (strategic merge, apply), OpenAPI.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;

/// All messages, and the ways to find one.
#[derive(Debug)]
pub struct Schema {
    messages: &'static [Message],
    by_full_name: HashMap<&'static str, &'static Message>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), &'static Message>,
}

/// How a message is written in JSON and protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// A plain table of fields.
    Struct,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six fraction digits.
    MicroTime,
    /// Go's duration text, `1h0m0s`.
    Duration,
    /// A Kubernetes quantity, `500m`.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// Any JSON.
    RawJson,
    /// A list of strings that is a message of its own in protobuf.
    BareList,
    /// JSONSchemaProps or a list of them.
    SchemaOrArray,
    /// JSONSchemaProps or a boolean.
    SchemaOrBool,
    /// JSONSchemaProps or a list of strings.
    SchemaOrStringArray,
}

/// One message (a Go struct).
#[derive(Debug)]
pub struct Message {
    /// Protobuf package and name: `k8s.io.api.core.v1.Pod`.
    pub full_name: &'static str,
    /// `k8s.io.api.core.v1`.
    pub package: &'static str,
    /// `Pod`.
    pub name: &'static str,
    pub codec: Codec,
    /// False for the JSON-only messages (Table and its parts).
    pub in_proto: bool,
    /// API group of the Go package; empty for core and for the untyped packages.
    pub group: &'static str,
    pub version: &'static str,
    /// Carries kind and apiVersion, so it can be a top-level object.
    pub is_kind: bool,
    /// Struct-level map type for apply; see [`Message::is_atomic`].
    pub map_type: Option<MapType>,
    /// Is a schema of its own in the published OpenAPI documents.
    pub openapi: bool,
    list_item: OnceLock<&'static Message>,
    layout: OnceLock<Layout>,
}

/// The fields of a message and its indexes.
#[derive(Debug)]
struct Layout {
    /// In Go's declaration order.
    fields: &'static [Field],
    /// Inlined messages spread, in Go's output order.
    json: Box<[&'static Field]>,
    /// The same, sorted by JSON name.
    by_json: Box<[&'static Field]>,
    /// Fields with a protobuf number, ascending.
    by_number: Box<[&'static Field]>,
    /// JSON fields that Go writes even when they were never set.
    always: Box<[&'static Field]>,
}

/// The type of one value of a field.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    String,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    /// Any JSON, not in protobuf (the cells of a table row).
    Any,
    /// A map with string keys.
    Map(&'static Type),
    Message(&'static Message),
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// JSON name; empty for inlined fields and in messages with a codec of their own.
    pub json: &'static str,
    /// Protobuf number; none for TypeMeta and for JSON-only messages.
    pub number: Option<u32>,
    pub ty: Type,
    pub repeated: bool,
    /// A pointer in Go: absent and zero differ.
    pub pointer: bool,
    pub omitempty: bool,
    /// Left out when the whole struct is zero (`metadata.creationTimestamp`).
    pub omitzero: bool,
    /// The message's fields stand in the parent object in JSON.
    pub inline: bool,
    /// `patchStrategy` names `merge`.
    pub patch_merge: bool,
    /// `patchStrategy` names `retainKeys`.
    pub patch_retain_keys: bool,
    /// `patchMergeKey`, or empty.
    pub patch_merge_key: &'static str,
    /// `x-kubernetes-list-type` as declared; [`Field::list_kind`] adds the rule for what is not declared.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Box<[&'static str]>,
    /// `x-kubernetes-map-type` on the field; wins over the message's.
    pub map_type: Option<MapType>,
    /// In the `required` list of OpenAPI.
    pub required: bool,
    /// JSON text of the declarative default, or empty.
    pub default: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    Granular,
}

/// How apply treats a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind<'a> {
    Atomic,
    Set,
    /// Associative by these keys.
    Map(&'a [&'static str]),
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(parse::load);

impl Schema {
    /// The table, parsed on first use (a few milliseconds) and kept for the life of the process.
    pub fn get() -> &'static Schema {
        &SCHEMA
    }
    /// The message of a kind: (`apps`, `v1`, `Deployment`). The common kinds of `meta.k8s.io/v1` that every group
    /// version accepts (DeleteOptions, Status, WatchEvent, …) are found under any group and version.
    pub fn message_for(&self, group: &str, version: &str, kind: &str) -> Option<&'static Message> {
        // Borrowed strings of any lifetime may look up, because `HashMap` is covariant in its key.
        let by_kind: &HashMap<(&str, &str, &str), &'static Message> = &self.by_kind;
        if let Some(message) = by_kind.get(&(group, version, kind)) {
            return Some(message);
        }
        if COMMON_KINDS.contains(&kind) {
            return by_kind.get(&(META_GROUP, "v1", kind)).copied();
        }
        None
    }
    /// The message of an `apiVersion` and `kind` as they stand in an object.
    pub fn message_for_api_version(&self, api_version: &str, kind: &str) -> Option<&'static Message> {
        let (group, version) = crate::kind::split_api_version(api_version);
        self.message_for(group, version, kind)
    }
    /// By protobuf name, such as `k8s.io.api.core.v1.Container`.
    pub fn message(&self, full_name: &str) -> Option<&'static Message> {
        let by_full_name: &HashMap<&str, &'static Message> = &self.by_full_name;
        by_full_name.get(full_name).copied()
    }
    /// Every message, in the order of the table (by package).
    pub fn messages(&self) -> &'static [Message] {
        self.messages
    }
}

/// Group of the Go package that holds what all groups share.
const META_GROUP: &str = "meta.k8s.io";

/// Kinds of `meta.k8s.io/v1` that belong to every group version.
const COMMON_KINDS: &[&str] = &[
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "Status",
    "UpdateOptions",
    "WatchEvent",
];

impl Message {
    fn layout(&self) -> &Layout {
        self.layout
            .get()
            .expect("the loader gives every message its layout before anyone sees it")
    }
    /// Fields in Go's declaration order; an inlined message is one field here.
    pub fn fields(&self) -> &'static [Field] {
        self.layout().fields
    }
    /// Fields as they stand in a JSON object, in Go's output order: inlined messages are spread.
    pub fn json_fields(&self) -> &[&'static Field] {
        &self.layout().json
    }
    /// The field with a JSON name, inlined ones included.
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        let fields = &self.layout().by_json;
        fields
            .binary_search_by(|field| field.json.cmp(json))
            .ok()
            .map(|at| fields[at])
    }
    /// Position of a JSON name in [`Message::sorted_fields`].
    pub(crate) fn field_index(&self, json: &str) -> Option<usize> {
        self.layout()
            .by_json
            .binary_search_by(|field| field.json.cmp(json))
            .ok()
    }
    /// JSON fields sorted by name, inlined ones included; at most 128.
    pub(crate) fn sorted_fields(&self) -> &[&'static Field] {
        &self.layout().by_json
    }
    /// JSON fields that Go writes even when they were never set.
    pub(crate) fn always_written(&self) -> &[&'static Field] {
        &self.layout().always
    }
    /// The field with a protobuf number; an inlined message is one field here.
    pub fn field_by_number(&self, number: u32) -> Option<&'static Field> {
        let fields = &self.layout().by_number;
        fields
            .binary_search_by_key(&Some(number), |field| field.number)
            .ok()
            .map(|at| fields[at])
    }
    /// Fields with a protobuf number, ascending.
    pub fn proto_fields(&self) -> &[&'static Field] {
        &self.layout().by_number
    }
    /// The type of the items, if this is a list kind (`PodList` → `Pod`).
    pub fn list_item(&self) -> Option<&'static Message> {
        self.list_item.get().copied()
    }
    /// Apply replaces the whole struct rather than field by field.
    pub fn is_atomic(&self) -> bool {
        self.map_type == Some(MapType::Atomic)
    }
    /// The name in OpenAPI documents: `io.k8s.api.core.v1.Pod`.
    pub fn openapi_name(&self) -> String {
        let rest = self.full_name.strip_prefix("k8s.io.").unwrap_or(self.full_name);
        format!(
            "io.k8s.{}",
            rest.replace("apiextensions_apiserver", "apiextensions-apiserver")
                .replace("kube_aggregator", "kube-aggregator")
        )
    }
    /// Go's name of the type as error texts show it: `v1.PodSpec`, `resource.Quantity`.
    pub fn go_name(&self) -> String {
        format!("{}.{}", self.package.rsplit('.').next().unwrap_or(""), self.name)
    }
}

impl Field {
    /// The message of one value (of a list's or map's item too), if it is one.
    pub fn message(&self) -> Option<&'static Message> {
        self.ty.message()
    }
    /// A list in JSON. (A bare-list message is one too, see [`Codec::BareList`].)
    pub fn is_list(&self) -> bool {
        self.repeated
    }
    /// Go writes the field even if it was never set: `omitempty` has no effect on a struct.
    pub(crate) fn always_written(&self) -> bool {
        match self.ty {
            Type::Message(message) if !self.pointer && !self.repeated && message.codec != Codec::BareList => {
                !self.omitzero
            }
            _ => !self.omitempty,
        }
    }
    /// How apply treats this list: as declared, else by the patch strategy (merge with a key: associative; merge
    /// without: a set; anything else: atomic).
    pub fn list_kind(&self) -> ListKind<'_> {
        match self.list_type {
            Some(ListType::Atomic) => ListKind::Atomic,
            Some(ListType::Set) => ListKind::Set,
            Some(ListType::Map) => ListKind::Map(&self.list_map_keys),
            None if !self.patch_merge => ListKind::Atomic,
            None if self.patch_merge_key.is_empty() => ListKind::Set,
            None => ListKind::Map(std::slice::from_ref(&self.patch_merge_key)),
        }
    }
    /// Apply replaces this map or struct as a whole. The field's own word wins over the message's.
    pub fn is_atomic_map(&self) -> bool {
        match (self.map_type, self.ty) {
            (Some(map_type), _) => map_type == MapType::Atomic,
            (None, Type::Message(message)) if !self.repeated => message.is_atomic(),
            _ => false,
        }
    }
    /// The declarative default.
    pub fn default_value(&self) -> Option<Value> {
        if self.default.is_empty() {
            None
        } else {
            serde_json::from_str(self.default).ok()
        }
    }
    /// Go's name of the field's type as error texts show it: `int32`, `[]v1.Container`, `map[string]string`.
    pub fn go_type(&self) -> String {
        if self.repeated {
            format!("[]{}", self.ty.go_name())
        } else {
            self.ty.go_name()
        }
    }
}

impl Type {
    /// The message of this type, or of a map's values.
    pub fn message(&self) -> Option<&'static Message> {
        match self {
            Type::Message(message) => Some(message),
            Type::Map(value) => value.message(),
            _ => None,
        }
    }
    /// Go's name: `string`, `map[string]string`, `v1.PodSpec`. (Named string types are shown as `string`.)
    pub fn go_name(&self) -> String {
        match self {
            Type::String => "string".to_owned(),
            Type::Bytes => "[]uint8".to_owned(),
            Type::Bool => "bool".to_owned(),
            Type::Int32 => "int32".to_owned(),
            Type::Int64 => "int64".to_owned(),
            Type::Double => "float64".to_owned(),
            Type::Any => "interface {}".to_owned(),
            Type::Map(value) => format!("map[string]{}", value.go_name()),
            Type::Message(message) => message.go_name(),
        }
    }
}
