//! From request bodies to plain JSON values and back, driven by the field table.
//!
//! What comes out for a known message is what Kubernetes' own server would print after decoding the same body: unknown
//! fields gone, empty optional fields gone, fields that Go always writes present, times and quantities in canonical form.

pub mod json;
pub mod protobuf;
pub mod yaml;
mod zero;

/// Nesting deeper than this is refused. Go allows 10,000; real objects stay below 60 (a CustomResourceDefinition's
/// schema), and serde_json, which reads stored objects back, stops at 128. Recursion here costs stack for each level.
pub const DEPTH_MAX: usize = 100;

/// Strict-decoding problems of one body beyond this number are not listed (as in Kubernetes).
pub const PROBLEMS_MAX: usize = 100;

/// Objects (JSON maps with content) in one body; more are refused. A map takes some 700 bytes of memory however little
/// text it had, so a body of 3 MiB could otherwise ask for 700 MB. Real bodies have a few thousand.
pub const OBJECTS_MAX: usize = 100_000;

/// Why a body could not be decoded. Every Display is the text that Kubernetes has for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The text is no JSON: `unexpected end of JSON input`, `invalid character 'x' looking for beginning of value`. See
    /// [`CodecError::body_text`].
    #[error("{0}")]
    Syntax(String),
    /// A value does not fit its field: `json: cannot unmarshal string into Go struct field ConfigMap.data of type …`.
    #[error("{0}")]
    Type(String),
    /// The text is no YAML.
    #[error("{0}")]
    Yaml(String),
    /// The bytes are no protobuf of the message, or the envelope is missing or names an unknown kind.
    #[error("{0}")]
    Protobuf(String),
    /// No message of the field table has this kind: `no kind "X" is registered for version "v1" …`.
    #[error(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    )]
    UnknownKind { api_version: String, kind: String },
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("exceeded max depth")]
    TooDeep,
    /// More than [`OBJECTS_MAX`] objects.
    #[error("the body has more than {OBJECTS_MAX} objects")]
    TooManyValues,
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: serde_json::Value,
    /// Strict-decoding problems in the order of the text, at most [`PROBLEMS_MAX`]: `unknown field "spec.foo"`,
    /// `duplicate field "data.a"`. A strict server answers `strict decoding error: ` and these joined by `, `.
    pub problems: Vec<String>,
}

impl CodecError {
    /// The text of the error for a request's body: where the server cannot even learn the kind, it says so.
    pub fn body_text(&self) -> String {
        match self {
            Self::Syntax(_) | Self::TooDeep | Self::TooManyValues => {
                format!("couldn't get version/kind; json parse error: {self}")
            }
            _ => self.to_string(),
        }
    }
}
