//! Answers made of stored bytes: as they are when the client takes plain JSON, reshaped when it wants a Table, metadata,
//! YAML or a pretty form.

use bytes::Bytes;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use skiff_api::status::{ApiResult, ApiStatus};

use super::Scope;
use crate::body::Body;
use crate::negotiate::{self, Form, Format, Shape};
use crate::registry::{Resource, parse};
use crate::table;

static WARNING: HeaderName = HeaderName::from_static("warning");
/// All warnings of one answer, and the longest one: kube-apiserver's limits.
const WARNINGS_BYTES_MAX: usize = 4 * 1024;
const WARNING_BYTES_MAX: usize = 256;

/// One object.
pub fn object(scope: &Scope, form: &Form, code: u16, bytes: &Bytes) -> ApiResult<Response<Body>> {
    match (form.shape, form.format) {
        (Shape::Object, Format::Json) if !form.pretty => Ok(negotiate::respond_bytes(form, code, bytes.clone())),
        (Shape::Object, _) => negotiate::render(form, code, &parse(bytes)?),
        (Shape::Table, _) => {
            let value = parse(bytes)?;
            let include = table::Include::parse(&scope.query)?;
            let revision = skiff_api::object::resource_version(&value).to_owned();
            let list_meta = serde_json::json!({ "resourceVersion": revision });
            let table = table::table(
                &*scope.resource.strategy,
                &[value],
                list_meta,
                include,
                form.shape_version,
                true,
            );
            negotiate::render(form, code, &table)
        }
        (Shape::PartialMetadata, Format::Json) if !form.pretty => {
            let partial = partial_metadata(scope, bytes, form.shape_version, true)?;
            Ok(negotiate::respond_bytes(form, code, partial))
        }
        (Shape::PartialMetadata, _) => negotiate::render(
            form,
            code,
            &parse(&partial_metadata(scope, bytes, form.shape_version, true)?)?,
        ),
        (Shape::PartialMetadataList, _) => Err(ApiStatus::not_acceptable(format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list (*{}.{})",
            super::body::go_package(scope.resource.info.group),
            scope.resource.info.kind
        ))),
    }
}

/// Only the metadata of an object, cut out of its bytes.
pub fn partial_metadata(scope: &Scope, bytes: &Bytes, version: &str, with_type: bool) -> ApiResult<Bytes> {
    partial_metadata_of(&scope.resource, bytes, version, with_type)
}

/// The same for a resource outside a request.
pub fn partial_metadata_of(resource: &Resource, bytes: &Bytes, version: &str, with_type: bool) -> ApiResult<Bytes> {
    let start = resource.type_prefix_len();
    let metadata = bytes
        .get(start..)
        .and_then(|rest| rest.strip_prefix(br#""metadata":"#))
        .and_then(|rest| Some(&rest[..object_end(rest)?]))
        .ok_or_else(|| ApiStatus::internal("stored bytes do not begin with metadata"))?;
    let mut out = Vec::with_capacity(metadata.len() + 80);
    out.push(b'{');
    if with_type {
        out.extend_from_slice(br#""kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/"#);
        out.extend_from_slice(version.as_bytes());
        out.extend_from_slice(br#"","#);
    }
    out.extend_from_slice(br#""metadata":"#);
    out.extend_from_slice(metadata);
    out.push(b'}');
    Ok(out.into())
}

/// Where the JSON object at the start of `bytes` ends.
fn object_end(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A Status or another object that is not of this resource.
pub fn status(form: &Form, code: u16, value: &Value) -> ApiResult<Response<Body>> {
    negotiate::render(
        &Form {
            shape: Shape::Object,
            ..*form
        },
        code,
        value,
    )
}

/// Adds `Warning: 299 - "…"` headers.
pub fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut total = 0;
    let mut seen: Vec<&String> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning) {
            continue;
        }
        seen.push(warning);
        let mut text: String = warning.chars().filter(|c| !c.is_control()).collect();
        if warnings.len() > 1 && text.len() > WARNING_BYTES_MAX {
            let end = (0..=WARNING_BYTES_MAX)
                .rev()
                .find(|i| text.is_char_boundary(*i))
                .unwrap_or(0);
            text.truncate(end);
        }
        total += text.len();
        if total > WARNINGS_BYTES_MAX {
            break;
        }
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_object_is_found_past_braces_in_strings() {
        assert_eq!(object_end(br#"{"a":{"b":"}\"}"}},"c":1}"#), Some(18));
        assert_eq!(object_end(br#"{"a":"#), None);
    }
}
