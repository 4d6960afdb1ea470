//! What apply needs to know of a value's type: is it one thing, a struct, a map, a list with keys.

use serde_json::{Map, Value};

use super::set::PathElement;
use crate::schema::{Codec, Field, ListKind, Message, Type};

#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Owned as a whole: scalars, times, atomic lists, maps and structs.
    Leaf,
    Struct(&'static Message),
    /// A map whose keys have owners of their own.
    Map(&'static Type),
    /// A list whose items have owners of their own.
    List(&'static Field),
    /// Not in the table: maps by key, all else as a whole.
    Unknown,
}

impl Shape {
    pub(super) fn of(message: &'static Message) -> Self {
        if message.codec == Codec::Struct && !message.is_atomic() {
            Self::Struct(message)
        } else {
            Self::Leaf
        }
    }

    fn of_type(ty: &'static Type) -> Self {
        match ty {
            Type::Message(message) => Self::of(message),
            Type::Map(value) => Self::Map(value),
            _ => Self::Leaf,
        }
    }

    fn of_field(field: &'static Field) -> Self {
        if field.is_list() {
            return match field.list_kind() {
                ListKind::Atomic => Self::Leaf,
                ListKind::Set | ListKind::Map(_) => Self::List(field),
            };
        }
        if field.is_atomic_map() {
            Self::Leaf
        } else {
            Self::of_type(&field.ty)
        }
    }

    /// The shape of the value at a key of this struct or map.
    pub(super) fn member(self, name: &str) -> Self {
        match self {
            Self::Struct(message) => message.field(name).map_or(Self::Unknown, Self::of_field),
            Self::Map(value) => Self::of_type(value),
            _ => Self::Unknown,
        }
    }

    /// The shape of an item of this list.
    pub(super) fn item(self) -> Self {
        match self {
            Self::List(field) if matches!(field.list_kind(), ListKind::Map(_)) => Self::of_type(&field.ty),
            _ => Self::Leaf,
        }
    }

    /// How an item of this list is named in a path. Absent keys take their declared default (a port's protocol is TCP).
    pub(super) fn element(self, item: &Value) -> PathElement {
        let Self::List(field) = self else {
            return PathElement::Value(item.to_string());
        };
        let ListKind::Map(keys) = field.list_kind() else {
            return PathElement::Value(item.to_string());
        };
        let mut named = Map::new();
        for key in keys {
            let value = item.get(key).filter(|v| !v.is_null()).cloned();
            let default = || field.message()?.field(key)?.default_value();
            if let Some(value) = value.or_else(default) {
                named.insert((*key).to_owned(), value);
            }
        }
        PathElement::Key(Value::Object(named).to_string())
    }
}
