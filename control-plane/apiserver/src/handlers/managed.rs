//! managedFields: writes that are not apply own what they change; apply (server-side) owns what it names.

use bytes::Bytes;
use serde_json::Value;
use skiff_api::codec::{self, CodecError, Decoded};
use skiff_api::kind;
use skiff_api::object;
use skiff_api::patch::managed::{self, WriteContext};
use skiff_api::schema::Message;
use skiff_api::status::{ApiResult, ApiStatus};

use super::create::{self, Managed};
use super::update::{check_identity, check_name};
use super::write::{self, Write, Written};
use crate::registry::{CONFLICT_RETRIES_MAX, Stored};

/// What an empty manager is recorded as.
const UNKNOWN_MANAGER: &str = "unknown";

/// Runs `with` with the books' view of this write.
fn with_context<T>(write: &Write<'_>, message: &'static Message, with: impl FnOnce(&WriteContext<'_>) -> T) -> T {
    let resource = write.resource();
    let ignored: &[&str] = match write.scope.subresource {
        "status" => &["spec"],
        _ if resource.status.is_some() => &["status"],
        _ => &[],
    };
    let manager = if write.manager.is_empty() {
        UNKNOWN_MANAGER
    } else {
        &write.manager
    };
    with(&WriteContext {
        manager,
        api_version: &resource.api_version,
        kind: resource.info.kind,
        subresource: write.scope.subresource,
        now: &write.now,
        message,
        ignored,
    })
}

/// Brings `metadata.managedFields` of `new` up to date.
pub fn track(write: &Write<'_>, live: Option<&Value>, new: &mut Value) -> ApiResult<()> {
    let recorded = |object: &Value| object.pointer("/metadata/managedFields").is_some();
    if live.is_some_and(|live| !recorded(live)) && !recorded(new) {
        // Someone took all records away: they are kept again from the first apply on.
        return Ok(());
    }
    if let Some(message) = write.resource().message {
        with_context(write, message, |context| managed::update(live, new, context));
    }
    Ok(())
}

/// Server-side apply; 201 when it created the object.
pub async fn apply(write: &mut Write<'_>, document: &Bytes) -> ApiResult<(u16, Bytes)> {
    let scope = write.scope;
    let Some(message) = write.resource().message else {
        return Err(ApiStatus::unsupported_media_type(
            "apply is not supported for this kind",
        ));
    };
    let applied = decode(write, document, message)?;
    let force = write.options.force.unwrap_or(false);
    for _ in 0..=CONFLICT_RETRIES_MAX {
        write.begin_attempt();
        let stored = scope
            .server
            .registry
            .find(&scope.resource, &scope.namespace, &scope.name)
            .await?;
        if stored.is_none() && (!scope.subresource.is_empty() || !object::uid(&applied).is_empty()) {
            return Err(absent(write, &applied));
        }
        if let Some(stored) = &stored {
            check_identity(scope, &applied, stored)?;
            check_version(write, &applied, stored)?;
        }
        let live = stored.as_ref().map(|stored| &stored.value);
        let merged = with_context(write, message, |context| managed::apply(live, &applied, context, force));
        let mut merged = merged.map_err(|error| error.into_status())?;
        merged = codec::json::normalize(&merged, message)
            .map_err(|error| ApiStatus::bad_request(format!("failed to convert the applied object: {error}")))?;
        let Some(stored) = stored else {
            match create::run(write, merged, Managed::Done).await {
                Ok(bytes) => return Ok((201, bytes)),
                // Someone else made it meanwhile: apply to that.
                Err(status) if status.reason == "AlreadyExists" => continue,
                Err(status) => return Err(status),
            }
        };
        scope.resource.strategy.apply_defaults(&mut merged);
        if let Written::Done(bytes) = write.update(&stored, merged).await? {
            return Ok((200, bytes));
        }
    }
    Err(write::conflict(&scope.resource, &scope.name))
}

/// What is applied: YAML or JSON of the right kind and name, without fields that the kind does not have.
fn decode(write: &mut Write<'_>, document: &Bytes, message: &'static Message) -> ApiResult<Value> {
    let scope = write.scope;
    let resource = write.resource();
    let refuse = |error: CodecError| ApiStatus::bad_request(format!("error decoding YAML: {error}"));
    let checked = codec::yaml::decode(document, Some(message)).map_err(refuse)?;
    // What is applied is what was written: Go's zero values of fields left out are nobody's wish.
    let written = codec::yaml::decode(document, None).map_err(refuse)?;
    let decoded = Decoded {
        value: written.value,
        problems: checked.problems,
    };
    let (version, given_kind) = (object::api_version(&decoded.value), object::kind(&decoded.value));
    if version.is_empty() || given_kind.is_empty() {
        let (group, number) = kind::split_api_version(version);
        return Err(ApiStatus::bad_request(format!(
            "invalid object type: {group}/{number}, Kind={given_kind}"
        )));
    }
    if (version, given_kind) != (resource.api_version.as_str(), resource.info.kind) {
        return Err(ApiStatus::bad_request(format!(
            "the API version in the data ({version}, Kind={given_kind}) does not match the expected API version ({}, Kind={})",
            resource.api_version, resource.info.kind
        )));
    }
    let info = resource.info;
    let name = object::name(&decoded.value).to_owned();
    for problem in &decoded.problems {
        let Some(path) = problem
            .strip_prefix("unknown field \"")
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            continue;
        };
        return Err(ApiStatus::new(
            500,
            "",
            format!(
                "failed to create typed patch object ({}/{name}; {}/{}, Kind={}): .{path}: field not declared in schema",
                object::namespace(&decoded.value),
                info.kind_group,
                info.kind_version,
                info.kind
            ),
        ));
    }
    let mut applied = write.field_validation(decoded, |problems| {
        ApiStatus::bad_request(format!("error strict decoding YAML: {problems}"))
    })?;
    if name.is_empty() {
        object::metadata_mut(&mut applied).insert("name".into(), scope.name.clone().into());
    }
    check_name(&applied, &scope.name)?;
    // Only checked: error texts of apply show the namespace that was written, if any.
    create::check_namespace(&mut applied.clone(), &scope.namespace)?;
    Ok(applied)
}

/// A version in the document must be the stored one.
fn check_version(write: &Write<'_>, applied: &Value, stored: &Stored) -> ApiResult<()> {
    let version = object::resource_version(applied);
    if version.is_empty() || version == stored.revision.to_string() {
        return Ok(());
    }
    Err(write::conflict(&write.scope.resource, &write.scope.name))
}

/// Nothing to apply to: a status needs its object, and a uid means one that exists.
fn absent(write: &Write<'_>, applied: &Value) -> Box<ApiStatus> {
    let scope = write.scope;
    if scope.subresource.is_empty() {
        return ApiStatus::conflict(
            scope.resource.subject(&scope.name),
            &format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                object::uid(applied)
            ),
        );
    }
    ApiStatus::not_found(scope.resource.subject(&scope.name))
}
