//! Which form an answer takes: JSON, YAML or protobuf; the object itself, a Table or its metadata; compact or pretty.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::Value;
use skiff_api::codec::protobuf;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::limits;
use crate::query::Query;

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What a collection offers besides, for watches.
pub const STREAMS: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// Go's client asks for an unpretty answer by naming itself; people with these do not.
const PRETTY_AGENTS: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// What stands for the object in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Object,
    Table,
    PartialMetadata,
    PartialMetadataList,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub format: Format,
    pub shape: Shape,
    /// `v1` or `v1beta1` of meta.k8s.io, for shapes other than the object.
    pub shape_version: &'static str,
    pub pretty: bool,
    pub gzip: bool,
}

impl Form {
    /// Compact JSON of the object itself.
    pub const PLAIN: Self = Self {
        format: Format::Json,
        shape: Shape::Object,
        shape_version: "v1",
        pretty: false,
        gzip: false,
    };

    /// What the client asks for. `shapes` says whether this endpoint can be a Table or metadata only.
    ///
    /// # Errors
    /// 406 with the list of what there is.
    pub fn negotiate(parts: &Parts, shapes: bool) -> ApiResult<Self> {
        let mut form = choose(&parts.headers, shapes).ok_or_else(|| refusal(&parts.headers, &[]))?;
        form.pretty = pretty(parts);
        form.gzip = accepts_gzip(&parts.headers);
        Ok(form)
    }
    /// The same for a collection, which may be watched.
    pub fn negotiate_collection(parts: &Parts) -> ApiResult<Self> {
        let form = Self::negotiate(parts, true);
        form.map_err(|_| refusal(&parts.headers, &STREAMS))
    }
    /// For a watch, which is JSON or nothing.
    pub fn negotiate_watch(parts: &Parts) -> ApiResult<Self> {
        let refused = || {
            let refusal = refusal(&parts.headers, &STREAMS);
            if refusal.message.starts_with("406") {
                return refusal;
            }
            ApiStatus::not_acceptable(format!(
                "only the following media types are accepted: {JSON};stream=watch, {PROTOBUF};stream=watch"
            ))
        };
        let form = choose(&parts.headers, true).ok_or_else(refused)?;
        match form.format {
            Format::Json => Ok(form),
            // YAML has no stream form and JSON stands in for it; protobuf alone cannot be had.
            Format::Yaml => Ok(Self {
                format: Format::Json,
                ..form
            }),
            Format::Protobuf => Err(refused()),
        }
    }
    /// The Content-Type of an answer in this form.
    pub fn content_type(&self) -> String {
        let base = match self.format {
            Format::Json => JSON,
            Format::Yaml => YAML,
            Format::Protobuf => PROTOBUF,
        };
        base.to_owned()
    }
}

/// The first clause of Accept that can be served; protobuf only when JSON is no choice at all.
fn choose(headers: &HeaderMap, shapes: bool) -> Option<Form> {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = accept.join(",");
    if accept.trim().is_empty() {
        return Some(Form::PLAIN);
    }
    let mut protobuf = None;
    for clause in by_quality(&accept) {
        if let Some(form) = clause_form(clause, shapes) {
            if form.format != Format::Protobuf {
                return Some(form);
            }
            protobuf = protobuf.or(Some(form));
        }
    }
    protobuf
}

/// Clauses, best `q` first, otherwise as written.
fn by_quality(accept: &str) -> Vec<&str> {
    let mut clauses: Vec<(&str, f32)> = accept
        .split(',')
        .map(|clause| {
            let q = clause
                .split(';')
                .skip(1)
                .find_map(|p| p.trim().strip_prefix("q=")?.trim().parse().ok());
            (clause.trim(), q.unwrap_or(1.0))
        })
        .filter(|(clause, q)| !clause.is_empty() && *q > 0.0)
        .collect();
    clauses.sort_by(|a, b| b.1.total_cmp(&a.1));
    clauses.into_iter().map(|(clause, _)| clause).collect()
}

fn clause_form(clause: &str, shapes: bool) -> Option<Form> {
    let mut parameters = clause.split(';').map(str::trim);
    let mut form = Form::PLAIN;
    form.format = match parameters.next()? {
        JSON | "*/*" => Format::Json,
        YAML => Format::Yaml,
        PROTOBUF => Format::Protobuf,
        _ => return None,
    };
    let (mut group, mut version, mut shape) = ("", "", "");
    for parameter in parameters {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match key {
            "as" => shape = value,
            "g" => group = value,
            "v" => version = value,
            _ => {}
        }
    }
    if shape.is_empty() {
        return Some(form);
    }
    if group != "meta.k8s.io" || !shapes {
        return None;
    }
    form.shape_version = match version {
        "v1" => "v1",
        "v1beta1" => "v1beta1",
        _ => return None,
    };
    form.shape = match shape {
        "Table" => Shape::Table,
        "PartialObjectMetadata" => Shape::PartialMetadata,
        "PartialObjectMetadataList" => Shape::PartialMetadataList,
        _ => return None,
    };
    Some(form)
}

fn pretty(parts: &Parts) -> bool {
    if let Some(query) = parts.uri.query()
        && let Some(pretty) = Query::parse(query).get("pretty")
    {
        return matches!(pretty, "" | "1" | "t" | "T" | "true" | "True" | "TRUE");
    }
    let agent = parts
        .headers
        .get(USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    PRETTY_AGENTS.iter().any(|known| agent.starts_with(known))
}

pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"))
}

/// An object in the form that the client accepts; for endpoints that have no Table.
pub fn respond_object(parts: &Parts, code: u16, object: &Value) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(parts, false)?;
    render(&form, code, object)
}

/// 406: an unknown media type is refused with another text than an unknown shape of a known one.
fn refusal(headers: &HeaderMap, more: &[&str]) -> Box<ApiStatus> {
    let media = |clause: &str| clause.split(';').next().unwrap_or("").trim().to_owned();
    let known = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|clause| matches!(media(clause).as_str(), JSON | YAML | PROTOBUF | "*/*"));
    if known {
        return ApiStatus::not_acceptable(format!(
            "only the following media types are accepted: {JSON}, {YAML}, {PROTOBUF}"
        ));
    }
    let all = [&[JSON, YAML, PROTOBUF], more].concat().join(", ");
    ApiStatus::not_acceptable(format!("406: Not Acceptable\n\nAvailable representations: {all}"))
        .with_details(serde_json::json!({}))
}

/// An object as an answer.
pub fn render(form: &Form, code: u16, object: &Value) -> ApiResult<Response<Body>> {
    let bytes = match form.format {
        Format::Json if form.pretty => pretty_json(object),
        Format::Json => serde_json::to_vec(object).map_err(ApiStatus::internal)?,
        Format::Yaml => yaml(object),
        Format::Protobuf => protobuf::encode(object).map_err(ApiStatus::internal)?,
    };
    Ok(respond_bytes(form, code, bytes.into()))
}

/// Final bytes as an answer, compressed when that pays.
pub fn respond_bytes(form: &Form, code: u16, bytes: Bytes) -> Response<Body> {
    let gzip = form.gzip && bytes.len() >= limits::GZIP_MIN_BYTES;
    let body = if gzip {
        Body::full(gzip_bytes(&bytes))
    } else {
        Body::full(bytes)
    };
    let mut response = response_with_type(code, &form.content_type(), body);
    if gzip {
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
            .headers_mut()
            .append(hyper::header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// An answer with a Content-Type.
pub fn response_with_type(code: u16, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = match content_type {
        JSON => HeaderValue::from_static(JSON),
        other => HeaderValue::from_str(other).unwrap_or(HeaderValue::from_static(JSON)),
    };
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

/// A plain text answer.
pub fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    response_with_type(code, "text/plain; charset=utf-8", Body::full(text))
}

/// A Status as an answer; never fails, whatever the client accepts.
pub fn respond_status(parts: &Parts, status: &ApiStatus) -> Response<Body> {
    let form = Form::negotiate(parts, true).unwrap_or(Form::PLAIN);
    let form = Form {
        shape: Shape::Object,
        format: if form.format == Format::Protobuf {
            Format::Json
        } else {
            form.format
        },
        ..form
    };
    let body = status.to_json();
    let mut response = render(&form, status.code, &body)
        .unwrap_or_else(|_| response_with_type(status.code, JSON, Body::full(body.to_string())));
    if let Some(seconds) = status.retry_after_seconds() {
        response
            .headers_mut()
            .insert(hyper::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Indented by two spaces and ended by a line feed, as kube-apiserver does for people.
pub fn pretty_json(object: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(object).expect("a JSON value always serialises");
    bytes.push(b'\n');
    bytes
}

pub fn yaml(object: &Value) -> Vec<u8> {
    skiff_api::codec::yaml::encode(object).into_bytes()
}

fn gzip_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(1));
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("a Vec takes every write")
}

#[cfg(test)]
mod tests;
