//! The decoder: walks the text and the field table together.

use serde_json::{Map, Value};

use super::super::{CodecError, Decoded, OBJECTS_MAX, PROBLEMS_MAX, zero};
use super::number_from_text;
use super::path::Path;
use super::scan::Scanner;
use crate::schema::{Codec, Field, Message, Type};

type Result<T> = std::result::Result<T, CodecError>;

/// What the server first decodes every body into, to learn its kind; named in the error for a body that is no object.
const GO_TYPE_META: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

pub(super) struct Decoder<'a> {
    pub(super) scan: Scanner<'a>,
    problems: Vec<String>,
    /// Objects so far, see [`OBJECTS_MAX`].
    objects: usize,
    /// Inside of a value whose Go type decodes itself, which is not strict.
    pub(super) quiet: bool,
    /// The first type error. Decoding goes on, because a syntax error further on would win.
    error: Option<String>,
    /// The first error of a type that decodes itself; it wins over `error`.
    fatal: Option<String>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            scan: Scanner::new(text),
            problems: Vec::new(),
            objects: 0,
            quiet: false,
            error: None,
            fatal: None,
        }
    }

    pub(super) fn run(mut self, message: Option<&'static Message>) -> Result<Decoded> {
        let value = match message {
            None => self.free(&Path::ROOT, true)?,
            Some(message) if message.is_kind && !matches!(self.scan.peek()?, b'{' | b'n') => {
                let kind = self.skip_naming()?;
                self.scan.finish()?;
                return Err(CodecError::Syntax(go_error(kind, "", GO_TYPE_META)));
            }
            Some(message) => match self.message(message, &Path::ROOT, None)? {
                Value::Null => zero::of_message(message),
                value => value,
            },
        };
        self.scan.finish()?;
        match self.fatal.or(self.error) {
            Some(error) => Err(CodecError::Type(error)),
            None => Ok(Decoded {
                value,
                problems: self.problems,
            }),
        }
    }

    fn problem(&mut self, what: &str, path: &Path) {
        if self.quiet || self.problems.len() >= PROBLEMS_MAX {
            return;
        }
        let text = format!("{what} {:?}", path.strict());
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// Notes that a JSON value of the named kind does not fit.
    pub(super) fn mismatch(&mut self, json: &str, path: &Path, go_type: &str) {
        if self.error.is_none() {
            self.error = Some(go_error(json, &path.go(), go_type));
        }
    }

    pub(super) fn mismatch_text(&mut self, text: String) {
        self.error.get_or_insert(text);
    }

    /// Notes the error of a type that decodes itself.
    pub(super) fn fatal(&mut self, text: String) {
        self.fatal.get_or_insert(text);
    }

    pub(super) fn fatal_mismatch(&mut self, json: &str, path: &Path, go_type: &str) {
        self.fatal(go_error(json, &path.go(), go_type));
    }

    /// Consumes a value and names its kind as Go's errors do.
    pub(super) fn skip_naming(&mut self) -> Result<&'static str> {
        let name = match self.scan.peek()? {
            b'{' => "object",
            b'[' => "array",
            b'"' => "string",
            b't' | b'f' => "bool",
            b'n' => "null",
            _ => "number",
        };
        self.scan.skip()?;
        Ok(name)
    }

    /// Skips a value that does not fit and notes so.
    fn misfit(&mut self, path: &Path, go_type: impl FnOnce() -> String) -> Result<Value> {
        let kind = self.skip_naming()?;
        self.mismatch(kind, path, &go_type());
        Ok(Value::Null)
    }

    /// A field's value; null if it is null or does not fit. `old` is what an earlier duplicate of the field left: maps
    /// and structs are decoded into it, as in Go.
    fn field(&mut self, field: &'static Field, path: &Path, old: Option<Value>) -> Result<Value> {
        if field.repeated {
            self.list(&field.ty, path)
        } else {
            self.value(&field.ty, path, old)
        }
    }

    pub(super) fn list(&mut self, item: &Type, path: &Path) -> Result<Value> {
        match self.scan.peek()? {
            b'n' => self.null(),
            b'[' => {
                self.scan.enter()?;
                let (mut items, mut first) = (Vec::new(), true);
                while self.scan.next_element(&mut first)? {
                    let value = match self.value(item, &path.index(items.len()), None)? {
                        Value::Null => zero::of_type(item),
                        value => value,
                    };
                    items.push(value);
                }
                Ok(Value::Array(items))
            }
            _ => self.misfit(path, || format!("[]{}", item.go_name())),
        }
    }

    pub(super) fn null(&mut self) -> Result<Value> {
        self.scan.literal("null")?;
        Ok(Value::Null)
    }

    pub(super) fn value(&mut self, ty: &Type, path: &Path, old: Option<Value>) -> Result<Value> {
        let token = self.scan.peek()?;
        match (ty, token) {
            (Type::Message(message), _) => self.message(message, path, old),
            (Type::Any, _) => self.free(path, false),
            (_, b'n') => self.null(),
            (Type::String, b'"') => Ok(Value::String(self.scan.string()?.into_owned())),
            (Type::Bool, b't') => self.scan.literal("true").map(|()| Value::Bool(true)),
            (Type::Bool, b'f') => self.scan.literal("false").map(|()| Value::Bool(false)),
            (Type::Int32 | Type::Int64 | Type::Double, b'-' | b'0'..=b'9') => self.number(ty, path),
            (Type::Bytes, b'"') => self.bytes(),
            (Type::Map(value), b'{') => self.map(value, path, old),
            _ => self.misfit(path, || ty.go_name()),
        }
    }

    fn number(&mut self, ty: &Type, path: &Path) -> Result<Value> {
        let text = self.scan.number()?;
        let value = match ty {
            Type::Int32 => text.parse::<i32>().ok().map(Value::from),
            Type::Int64 => text.parse::<i64>().ok().map(Value::from),
            _ => number_from_text(text),
        };
        Ok(value.unwrap_or_else(|| {
            self.mismatch(&format!("number {text}"), path, &ty.go_name());
            Value::Null
        }))
    }

    fn map(&mut self, ty: &Type, path: &Path, old: Option<Value>) -> Result<Value> {
        self.scan.enter()?;
        let old_is_there = matches!(old, Some(Value::Object(_)));
        let mut map = as_map(old);
        // Keys of an earlier duplicate of the whole map are no duplicates.
        let mut fresh = Map::new();
        let mut first = true;
        while let Some(key) = self.scan.next_key(&mut first)? {
            let here = path.key(&key);
            let seen = if old_is_there { &fresh } else { &map };
            if seen.contains_key(key.as_ref()) {
                self.problem("duplicate field", &here);
            }
            let value = match self.value(ty, &here, None)? {
                Value::Null => zero::of_type(ty),
                value => value,
            };
            if old_is_there {
                fresh.insert(key.into_owned(), value);
            } else {
                map.insert(key.into_owned(), value);
            }
        }
        map.append(&mut fresh);
        self.object(map)
    }

    /// A message of any codec; null if it is null or does not fit.
    pub(super) fn message(&mut self, message: &'static Message, path: &Path, old: Option<Value>) -> Result<Value> {
        if message.codec != Codec::Struct {
            return self.special(message, path);
        }
        match self.scan.peek()? {
            b'{' => self.structure(message, path, old),
            b'n' => self.null(),
            _ => self.misfit(path, || message.go_name()),
        }
    }

    fn structure(&mut self, message: &'static Message, path: &Path, old: Option<Value>) -> Result<Value> {
        self.scan.enter()?;
        let mut map = as_map(old);
        let (mut seen, mut first) = (0u128, true);
        while let Some(key) = self.scan.next_key(&mut first)? {
            let Some(index) = message.field_index(&key) else {
                self.problem("unknown field", &path.key(&key));
                self.scan.skip()?;
                continue;
            };
            let field = message.sorted_fields()[index];
            let here = path.field(message, field);
            if seen & (1 << index) != 0 {
                self.problem("duplicate field", &here);
            }
            seen |= 1 << index;
            let old = map.remove(field.json);
            let value = self.field(field, &here, old)?;
            if !zero::is_left_out(field, &value) {
                map.insert(key.into_owned(), value);
            }
        }
        zero::fill(message, &mut map);
        self.object(map)
    }

    fn object(&mut self, map: Map<String, Value>) -> Result<Value> {
        self.objects += usize::from(!map.is_empty());
        if self.objects > OBJECTS_MAX {
            Err(CodecError::TooManyValues)
        } else {
            Ok(Value::Object(map))
        }
    }

    /// A value without a type. Duplicate keys are listed if `strict`; the last one wins.
    pub(super) fn free(&mut self, path: &Path, strict: bool) -> Result<Value> {
        match self.scan.peek()? {
            b'{' => {
                self.scan.enter()?;
                let (mut map, mut first) = (Map::new(), true);
                while let Some(key) = self.scan.next_key(&mut first)? {
                    let here = path.key(&key);
                    if strict && map.contains_key(key.as_ref()) {
                        self.problem("duplicate field", &here);
                    }
                    let value = self.free(&here, strict)?;
                    map.insert(key.into_owned(), value);
                }
                self.object(map)
            }
            b'[' => {
                self.scan.enter()?;
                let (mut items, mut first) = (Vec::new(), true);
                while self.scan.next_element(&mut first)? {
                    let item = self.free(&path.index(items.len()), strict)?;
                    items.push(item);
                }
                Ok(Value::Array(items))
            }
            b'"' => Ok(Value::String(self.scan.string()?.into_owned())),
            b't' => self.scan.literal("true").map(|()| Value::Bool(true)),
            b'f' => self.scan.literal("false").map(|()| Value::Bool(false)),
            b'n' => self.null(),
            b'-' | b'0'..=b'9' => self.number(&Type::Double, path),
            _ => Err(self.scan.no_value()),
        }
    }
}

fn as_map(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Go's UnmarshalTypeError; `place` is empty outside of any struct.
fn go_error(json: &str, place: &str, go_type: &str) -> String {
    if place.is_empty() {
        format!("json: cannot unmarshal {json} into Go value of type {go_type}")
    } else {
        format!("json: cannot unmarshal {json} into Go struct field {place} of type {go_type}")
    }
}
