//! PATCH of one object or of its status: JSON patch, merge patch, strategic merge patch, apply.

use bytes::Bytes;
use hyper::Response;
use serde_json::Value;
use skiff_api::codec::{self, Decoded};
use skiff_api::field::{ErrorType, FieldError, FieldErrors};
use skiff_api::object;
use skiff_api::patch::{json, merge, strategic};
use skiff_api::schema::Message;
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::options::WriteOptions;
use super::write::{self, Write, Written};
use super::{Scope, body, create, managed, reply, update};
use crate::body::{Body, RequestBody};
use crate::negotiate::Form;
use crate::registry::{CONFLICT_RETRIES_MAX, Stored};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// A decoded patch.
pub enum Patch {
    Json(Bytes),
    Merge(Decoded),
    Strategic(Decoded),
    Apply(Bytes),
}

impl Patch {
    /// By Content-Type.
    pub fn parse(media: &str, bytes: Bytes) -> ApiResult<Self> {
        // Merge patches name their stage in errors, strategic ones do not.
        let decode = |stage: &str| -> ApiResult<Decoded> {
            let decoded =
                codec::json::decode(&bytes, None).map_err(|error| ApiStatus::bad_request(format!("{stage}{error}")))?;
            if !decoded.value.is_object() {
                return Err(ApiStatus::bad_request(format!(
                    "{stage}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                    body::go_type(&decoded.value)
                )));
            }
            Ok(decoded)
        };
        match media {
            JSON_PATCH => Ok(Self::Json(bytes)),
            MERGE_PATCH => decode("error decoding patch: ").map(Self::Merge),
            STRATEGIC_PATCH => decode("").map(Self::Strategic),
            APPLY_PATCH => Ok(Self::Apply(bytes)),
            _ => {
                Err(ApiStatus::unsupported_media_type("415: Unsupported Media Type")
                    .with_details(serde_json::json!({})))
            }
        }
    }
    /// The patched document; apply is not done here.
    pub fn apply(&self, current: &Value, message: Option<&'static Message>) -> ApiResult<Value> {
        match (self, message) {
            (Self::Json(bytes), _) => json::apply(current, bytes).map_err(|e| e.into_status()),
            (Self::Merge(patch), _) => Ok(merge::apply(current, &patch.value)),
            (Self::Strategic(patch), Some(message)) => {
                strategic::apply(current, &patch.value, message).map_err(|e| e.into_status())
            }
            (Self::Strategic(_), None) | (Self::Apply(_), _) => Err(ApiStatus::unsupported_media_type(
                "strategic merge patch is not supported for this kind",
            )),
        }
    }
}

/// Reads, parses and applies a patch to an object that is not stored as such (a Scale): for subresources.
pub async fn patch_value(
    parts: &hyper::http::request::Parts,
    request_body: &mut RequestBody,
    current: &Value,
    message: Option<&'static Message>,
) -> ApiResult<Value> {
    let bytes = body::read(parts, request_body).await?;
    Patch::parse(&body::media_type(parts), bytes)?.apply(current, message)
}

pub async fn handle(scope: Scope, mut request_body: RequestBody) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&scope.parts, true)?;
    let media = body::media_type(&scope.parts);
    let options = WriteOptions::parse(&scope.query, "PatchOptions")?;
    check_options(&options, &media)?;
    let bytes = body::read(&scope.parts, &mut request_body).await?;
    let patch = Patch::parse(&media, bytes)?;
    let mut write = Write::new(&scope, &options);
    let (code, bytes) = match &patch {
        Patch::Apply(document) => managed::apply(&mut write, document).await?,
        _ => (200, run(&mut write, &patch).await?),
    };
    let mut response = reply::object(&scope, &form, code, &bytes)?;
    reply::add_warnings(&mut response, &write.warnings);
    Ok(response)
}

/// `force` and `fieldManager` belong to apply.
fn check_options(options: &WriteOptions, media: &str) -> ApiResult<()> {
    let mut errors = FieldErrors::new();
    if media == APPLY_PATCH {
        if options.field_manager.is_empty() {
            errors.required(
                &skiff_api::field::Path::new("fieldManager"),
                "is required for apply patch",
            );
        }
    } else if options.force.is_some() {
        errors.forbidden(
            &skiff_api::field::Path::new("force"),
            "may not be specified for non-apply patch",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiStatus::invalid(
        Subject {
            group: "meta.k8s.io",
            resource: "PatchOptions",
            name: "",
        },
        &errors,
    ))
}

/// Patch, decode, write; again on conflict unless the patch names a version.
async fn run(write: &mut Write<'_>, patch: &Patch) -> ApiResult<Bytes> {
    let scope = write.scope;
    for _ in 0..=CONFLICT_RETRIES_MAX {
        write.begin_attempt();
        let stored = scope
            .server
            .registry
            .get(&scope.resource, &scope.namespace, &scope.name)
            .await?;
        let new = patched(write, patch, &stored)?;
        let version = object::resource_version(&new);
        let names_version = version != object::resource_version(&stored.value);
        if names_version && !version.is_empty() {
            return Err(write::conflict(&scope.resource, &scope.name));
        }
        update::check_name(&new, &scope.name)?;
        let mut new = new;
        create::check_namespace(&mut new, &scope.namespace)?;
        scope.resource.strategy.apply_defaults(&mut new);
        managed::track(write, Some(&stored.value), &mut new)?;
        if let Written::Done(bytes) = write.update(&stored, new).await? {
            return Ok(bytes);
        }
    }
    Err(write::conflict(&scope.resource, &scope.name))
}

/// The patched object, decoded strictly.
fn patched(write: &mut Write<'_>, patch: &Patch, stored: &Stored) -> ApiResult<Value> {
    let resource = write.resource();
    let document = patch.apply(&stored.value, resource.message)?;
    let Some(message) = resource.message else {
        return Ok(document);
    };
    let shown = |document: &Value| match patch {
        // Strategic merge works on structs, and its errors show the patch as Go prints a map.
        Patch::Strategic(patch) => skiff_api::patch::strategic::go_text(&patch.value),
        _ => codec::json::patched_text(document, message),
    };
    check_type(write, &document).map_err(|why| on_patch(&shown(&document), &why))?;
    let resets_managers = document
        .pointer("/metadata/managedFields")
        .is_some_and(|list| *list == serde_json::json!([]));
    let mut decoded = codec::json::decode_value(&document, message)
        .map_err(|error| on_patch(&shown(&document), &type_error(patch, &error.to_string())))?;
    if resets_managers {
        // An empty list is lost in decoding; this is the other way to say the same.
        object::metadata_mut(&mut decoded.value).insert("managedFields".into(), serde_json::json!([{}]));
    }
    if let Patch::Merge(patch) | Patch::Strategic(patch) = patch {
        decoded.problems.splice(0..0, patch.problems.iter().cloned());
    }
    write.field_validation(decoded, |problems| {
        on_patch(&shown(&document), &format!("strict decoding error: {problems}"))
    })
}

/// A patch may not turn an object into another kind.
fn check_type(write: &Write<'_>, document: &Value) -> Result<(), String> {
    let resource = write.resource();
    let (version, kind) = (object::api_version(document), object::kind(document));
    if (version, kind) == (resource.api_version.as_str(), resource.info.kind) {
        return Ok(());
    }
    Err(format!(
        "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    ))
}

/// Strategic merge goes through another converter, with other words for a value of the wrong type.
fn type_error(patch: &Patch, text: &str) -> String {
    let wanted = text
        .strip_prefix("json: cannot unmarshal ")
        .and_then(|rest| rest.rsplit_once(" of type "));
    match (patch, wanted) {
        (Patch::Strategic(_), Some((_, go_type @ ("int32" | "int64" | "bool" | "string" | "float64")))) => {
            format!("unrecognized type: {go_type}")
        }
        _ => text.to_owned(),
    }
}

/// 422 on field `patch`.
pub fn on_patch(value: &str, why: &str) -> Box<ApiStatus> {
    let mut errors = FieldErrors::new();
    errors.push(FieldError {
        kind: ErrorType::Invalid,
        path: "patch".into(),
        body: format!("Invalid value: {value:?}: {why}"),
    });
    let mut status = ApiStatus::invalid(Subject::default(), &errors);
    status.message = format!(" \"\" is invalid: patch: Invalid value: {value:?}: {why}");
    status
}
