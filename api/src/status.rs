//! `ApiStatus`: the reply that Kubernetes calls Status, and the only table of reason ↔ HTTP code.

use serde_json::{Value, json};

use crate::field::FieldErrors;

/// An error (or a Success) as users see it. `Display` is the message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiStatus {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, e.g. `NotFound`; empty for none.
    pub reason: String,
    pub message: String,
    /// `details` as JSON, or null.
    pub details: Value,
    /// `metadata` as JSON; `{}` almost always (an expired list carries a continue token here).
    pub metadata: Value,
}

pub type ApiResult<T> = Result<T, Box<ApiStatus>>;

/// Which resource an error is about: shown as `deployments.apps "web"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    pub group: &'a str,
    /// Plural resource name for most errors, Kind for `Invalid`.
    pub resource: &'a str,
    pub name: &'a str,
}

impl Subject<'_> {
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
    fn details(&self) -> Value {
        let mut details = json!({});
        for (key, value) in [("name", self.name), ("group", self.group), ("kind", self.resource)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        details
    }
}

impl ApiStatus {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: Value::Null,
            metadata: json!({}),
        })
    }
    #[must_use]
    pub fn with_details(mut self: Box<Self>, details: Value) -> Box<Self> {
        self.details = details;
        self
    }
    pub fn bad_request(message: impl Into<String>) -> Box<Self> {
        Self::new(400, "BadRequest", message)
    }
    pub fn unauthorized() -> Box<Self> {
        Self::new(401, "Unauthorized", "Unauthorized")
    }
    pub fn forbidden(subject: Subject<'_>, why: &str) -> Box<Self> {
        let name = if subject.name.is_empty() {
            String::new()
        } else {
            format!(" {:?}", subject.name)
        };
        let message = if subject.resource.is_empty() {
            format!("forbidden: {why}")
        } else {
            format!("{}{name} is forbidden: {why}", subject.qualified())
        };
        Self::new(403, "Forbidden", message).with_details(subject.details())
    }
    pub fn not_found(subject: Subject<'_>) -> Box<Self> {
        Self::new(
            404,
            "NotFound",
            format!("{} {:?} not found", subject.qualified(), subject.name),
        )
        .with_details(subject.details())
    }
    /// 404 for a path that no resource serves.
    pub fn no_such_path() -> Box<Self> {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(json!({}))
    }
    pub fn method_not_allowed() -> Box<Self> {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(json!({}))
    }
    pub fn not_acceptable(message: impl Into<String>) -> Box<Self> {
        Self::new(406, "NotAcceptable", message)
    }
    pub fn already_exists(subject: Subject<'_>) -> Box<Self> {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} {:?} already exists", subject.qualified(), subject.name),
        )
        .with_details(subject.details())
    }
    pub fn conflict(subject: Subject<'_>, why: &str) -> Box<Self> {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            subject.qualified(),
            subject.name
        );
        Self::new(409, "Conflict", message).with_details(subject.details())
    }
    pub fn expired(message: impl Into<String>) -> Box<Self> {
        Self::new(410, "Expired", message)
    }
    pub fn too_large(message: impl Into<String>) -> Box<Self> {
        Self::new(413, "RequestEntityTooLarge", message)
    }
    pub fn unsupported_media_type(message: impl Into<String>) -> Box<Self> {
        Self::new(415, "UnsupportedMediaType", message)
    }
    /// 422. `subject.resource` is the **Kind** here: `Pod "web" is invalid: …`.
    pub fn invalid(subject: Subject<'_>, errors: &FieldErrors) -> Box<Self> {
        // The same fault found by several checks is a cause for each, but said once.
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let body = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {:?} is invalid: {body}", subject.qualified(), subject.name);
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.kind.reason(), "message": e.body, "field": e.path}))
            .collect();
        let mut details = subject.details();
        details["causes"] = causes.into();
        Self::new(422, "Invalid", message).with_details(details)
    }
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Box<Self> {
        Self::new(429, "TooManyRequests", message).with_details(json!({"retryAfterSeconds": retry_after_seconds}))
    }
    pub fn internal(message: impl std::fmt::Display) -> Box<Self> {
        let text = message.to_string();
        Self::new(500, "InternalError", format!("Internal error occurred: {text}"))
            .with_details(json!({"causes": [{"message": text}]}))
    }
    pub fn unavailable(message: impl Into<String>) -> Box<Self> {
        Self::new(503, "ServiceUnavailable", message)
    }
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Box<Self> {
        Self::new(504, "Timeout", message).with_details(json!({"retryAfterSeconds": retry_after_seconds}))
    }
    /// The seconds of `Retry-After`, if this error asks the client to come back.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }
    /// The Status object for the wire.
    pub fn to_json(&self) -> Value {
        let success = self.code < 400;
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": self.metadata,
            "status": if success { "Success" } else { "Failure" },
        });
        if !self.message.is_empty() {
            status["message"] = self.message.clone().into();
        }
        if !self.reason.is_empty() {
            status["reason"] = self.reason.clone().into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        // Kubernetes leaves the code out of a Success made by delete.
        if !success || self.code != 200 {
            status["code"] = self.code.into();
        }
        status
    }
}
