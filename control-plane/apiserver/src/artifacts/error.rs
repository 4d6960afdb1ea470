//! Errors as the distribution specification words them, and small helpers for answers.

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::body::Body;

/// The codes of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct OciError {
    pub status: u16,
    pub code: Code,
    pub message: String,
    /// Further headers, such as the range that an upload has reached.
    pub headers: Vec<(&'static str, String)>,
}

impl OciError {
    pub(super) fn new(status: u16, code: Code, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }
    pub(super) fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
    pub(super) fn into_response(self) -> Response<Body> {
        if self.status >= 500 {
            tracing::error!(error = self.message, "the registry failed");
        }
        let body = json!({"errors": [{"code": self.code.text(), "message": self.message}]}).to_string();
        let mut response = answer(
            self.status,
            &[(CONTENT_TYPE.as_str(), "application/json")],
            Body::full(body),
        );
        for (name, value) in &self.headers {
            response.headers_mut().insert(*name, header(value));
        }
        response
    }
}

/// The disk failed, or is full.
impl From<std::io::Error> for OciError {
    fn from(error: std::io::Error) -> Self {
        Self::new(500, Code::Unknown, format!("the registry's storage failed: {error}"))
    }
}

/// Values come from checked names, digests and numbers; anything else becomes empty.
pub(super) fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(name) = hyper::header::HeaderName::from_bytes(name.as_bytes()) {
            response.headers_mut().insert(name, header(value));
        }
    }
    response
}
