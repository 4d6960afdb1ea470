//! Field paths and validation errors, worded as Kubernetes words them (apimachinery `field.Error`).

use std::fmt;

use serde_json::Value;

/// A path such as `spec.containers[0].image` or `metadata.labels[a.b/c]`, built while walking down an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The kind of a validation error; `reason()` is the cause's reason in the Status that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
}

impl ErrorType {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TypeInvalid => "Invalid value",
            Self::Internal => "Internal error",
        }
    }
}

/// One validation error.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: ErrorType,
    pub path: String,
    /// What follows the path in the message, without the leading `: `: `Invalid value: "x": must be …`.
    pub body: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

/// Collects every error of an object; validation never stops at the first.
#[derive(Clone, Debug, Default)]
pub struct FieldErrors {
    errors: Vec<FieldError>,
}

/// More errors than this in one object are not reported: nobody reads them and a hostile object could make millions.
pub const FIELD_ERRORS_MAX: usize = 256;

impl FieldErrors {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.errors.iter()
    }
    pub fn push(&mut self, error: FieldError) {
        if self.errors.len() < FIELD_ERRORS_MAX {
            self.errors.push(error);
        }
    }
    pub fn extend(&mut self, other: FieldErrors) {
        for error in other.errors {
            self.push(error);
        }
    }
    fn add(&mut self, kind: ErrorType, path: &Path, value: Option<&Value>, detail: &str) {
        let mut body = kind.words().to_owned();
        if let Some(value) = value {
            body.push_str(": ");
            body.push_str(&quote(value));
        }
        if !detail.is_empty() {
            body.push_str(": ");
            body.push_str(detail);
        }
        self.push(FieldError {
            kind,
            path: path.to_string(),
            body,
        });
    }
    /// `path: Required value: detail`.
    pub fn required(&mut self, path: &Path, detail: &str) {
        self.add(ErrorType::Required, path, None, detail);
    }
    /// `path: Invalid value: "value": detail`.
    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.add(ErrorType::Invalid, path, Some(&value.into()), detail);
    }
    pub fn type_invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.add(ErrorType::TypeInvalid, path, Some(&value.into()), detail);
    }
    /// `path: Duplicate value: "value"`.
    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(ErrorType::Duplicate, path, Some(&value.into()), "");
    }
    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(ErrorType::NotFound, path, Some(&value.into()), "");
    }
    /// `path: Forbidden: detail`.
    pub fn forbidden(&mut self, path: &Path, detail: &str) {
        self.add(ErrorType::Forbidden, path, None, detail);
    }
    /// `path: Unsupported value: "x": supported values: "a", "b"`, in the order given (Kubernetes sorts most lists, but
    /// not all).
    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        self.add(
            ErrorType::NotSupported,
            path,
            Some(&value.into()),
            &format!("supported values: {list}"),
        );
    }
    /// `path: Too long: may not be more than N bytes`.
    pub fn too_long(&mut self, path: &Path, max: usize) {
        self.add(
            ErrorType::TooLong,
            path,
            None,
            &format!("may not be more than {max} bytes"),
        );
    }
    /// `path: Too many: actual: must have at most max items`.
    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        self.add(
            ErrorType::TooMany,
            path,
            Some(&Value::from(actual)),
            &format!("must have at most {max} items"),
        );
    }
}

/// A value as Go's `%q`/`%v` shows it in field errors: strings quoted, scalars bare, the rest as JSON.
fn quote(value: &Value) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}
