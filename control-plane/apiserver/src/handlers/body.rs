//! Request bodies: reading within the limits, decoding by Content-Type.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::request::Parts;
use serde_json::Value;
use skiff_api::codec::{self, CodecError, Decoded};
use skiff_api::kind::{self, api_version};
use skiff_api::object;
use skiff_api::schema::{Message, Schema};
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::RequestBody;
use crate::limits::{self, Timeouts};
use crate::negotiate::{JSON, PROTOBUF, YAML};
use crate::server::ApiServer;

/// Reads a whole body, within size and time.
pub async fn read(parts: &Parts, body: &mut RequestBody) -> ApiResult<Bytes> {
    let announced = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits::BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let base = parts.extensions.get().copied().unwrap_or(Timeouts::STANDARD).body_base;
    let started = Instant::now();
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    let mut length = 0usize;
    loop {
        let earned = std::time::Duration::from_millis(length as u64 * 1000 / limits::BODY_RATE_MIN);
        let left = (base + earned).saturating_sub(started.elapsed());
        let frame = match tokio::time::timeout(left, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(ApiStatus::bad_request(format!("read the request body: {error}"))),
            Ok(None) => break,
            Err(_) => {
                return Err(ApiStatus::new(
                    408,
                    "Timeout",
                    "the request body did not arrive in time",
                ));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > limits::BODY_BYTES_MAX {
            return Err(too_large());
        }
        // Most bodies are one piece, which then needs no copy.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(earlier) => {
                whole.extend_from_slice(&earlier);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn too_large() -> Box<ApiStatus> {
    ApiStatus::too_large(format!("Request entity too large: limit is {}", limits::BODY_BYTES_MAX))
}

/// The media type of a body; JSON when not given.
pub fn media_type(parts: &Parts) -> String {
    let given = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let media = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if media.is_empty() { JSON.to_owned() } else { media }
}

/// Decodes bytes by media type. `message` describes the kind that is expected.
pub fn decode(media: &str, bytes: &[u8], message: Option<&'static Message>) -> ApiResult<Result<Decoded, CodecError>> {
    match media {
        JSON => Ok(codec::json::decode(bytes, message)),
        YAML => Ok(codec::yaml::decode(bytes, message)),
        PROTOBUF => Ok(codec::protobuf::decode(bytes).map(|value| Decoded {
            value,
            problems: Vec::new(),
        })),
        _ => Err(unsupported()),
    }
}

/// 415 for objects.
pub fn unsupported() -> Box<ApiStatus> {
    ApiStatus::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}, {PROTOBUF}"
    ))
}

/// The kind that an endpoint expects.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

/// Decodes a body as the expected kind: missing kind and apiVersion are filled in, others are refused as Kubernetes words it.
pub fn decode_as(media: &str, bytes: &[u8], expected: Expected<'_>) -> ApiResult<Decoded> {
    let message = Schema::get().message_for(expected.group, expected.version, expected.kind);
    let decoded = decode(media, bytes, message)?;
    let mut decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Err(refuse(media, bytes, expected, &error)),
    };
    if !decoded.value.is_object() {
        return Err(ApiStatus::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            go_type(&decoded.value)
        )));
    }
    check_kind(&decoded.value, expected)?;
    let map = object::as_map(&mut decoded.value);
    object::set_default(map, "apiVersion", api_version(expected.group, expected.version));
    object::set_default(map, "kind", expected.kind);
    Ok(decoded)
}

/// Whether the kind in an object is the expected one.
fn check_kind(value: &Value, expected: Expected<'_>) -> ApiResult<()> {
    let wanted = api_version(expected.group, expected.version);
    let (given_version, given_kind) = (object::api_version(value), object::kind(value));
    let version = if given_version.is_empty() {
        &wanted
    } else {
        given_version
    };
    let given = if given_kind.is_empty() {
        expected.kind
    } else {
        given_kind
    };
    if version == wanted && given == expected.kind {
        return Ok(());
    }
    let (group, number) = kind::split_api_version(version);
    let known = Schema::get().message_for(group, number, given).is_some();
    if !known {
        return Err(ApiStatus::bad_request(format!(
            "{given} in version {number:?} cannot be handled as a {}: no kind {given:?} is registered for version {version:?} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
            expected.kind
        )));
    }
    if given != expected.kind {
        return Err(ApiStatus::bad_request(format!(
            "{given} in version {number:?} cannot be handled as a {}: converting ({}.{given}) to ({}.{}): unknown conversion",
            expected.kind,
            number,
            go_package(expected.group),
            expected.kind
        )));
    }
    Err(ApiStatus::bad_request(format!(
        "the API version in the data ({version}) does not match the expected API version ({wanted})"
    )))
}

/// The name of the internal Go package of a group, as error texts show it.
pub fn go_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        "rbac.authorization.k8s.io" => "rbac",
        other => other.split('.').next().unwrap_or(other),
    }
}

/// 400 for a body that could not be decoded.
fn refuse(media: &str, bytes: &[u8], expected: Expected<'_>, error: &CodecError) -> Box<ApiStatus> {
    if let CodecError::Syntax(text) = error
        && media == JSON
    {
        return ApiStatus::bad_request(format!("couldn't get version/kind; json parse error: {text}"));
    }
    // A wrong kind explains a wrong field better than the field does.
    if let Ok(Ok(loose)) = decode(media, bytes, None)
        && media != PROTOBUF
        && let Err(status) = check_kind(&loose.value, expected)
    {
        return status;
    }
    ApiStatus::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {error}",
        expected.kind, expected.version, expected.kind
    ))
}

/// What Go's JSON decoder calls a value.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null | Value::Object(_) => "object",
    }
}

/// Reads and decodes an object for a plugin; an empty kind takes whatever the body says.
pub async fn read_object(
    _server: &ApiServer,
    parts: &Parts,
    body: &mut RequestBody,
    group: &str,
    version: &str,
    kind: &str,
) -> ApiResult<Value> {
    let bytes = read(parts, body).await?;
    let media = media_type(parts);
    if kind.is_empty() {
        let decoded = decode(&media, &bytes, None)?;
        return decoded
            .map(|decoded| decoded.value)
            .map_err(|e| ApiStatus::bad_request(e.to_string()));
    }
    decode_as(&media, &bytes, Expected { group, version, kind }).map(|decoded| decoded.value)
}
