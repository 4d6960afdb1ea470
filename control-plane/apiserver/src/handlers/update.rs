//! PUT of one object or of its status.

use hyper::Response;
use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};

use super::create::{self, Managed};
use super::options::WriteOptions;
use super::write::{self, Write, Written};
use super::{Scope, managed, reply};
use crate::body::{Body, RequestBody};
use crate::negotiate::Form;
use crate::registry::{CONFLICT_RETRIES_MAX, Stored};

pub async fn handle(scope: Scope, mut body: RequestBody) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&scope.parts, true)?;
    let options = WriteOptions::parse(&scope.query, "UpdateOptions")?;
    let mut write = Write::new(&scope, &options);
    let mut object = write.read_object(&mut body).await?;
    check_name(&object, &scope.name)?;
    create::check_namespace(&mut object, &scope.namespace)?;
    let given = given_version(&object)?;
    let may_create = scope.subresource.is_empty() && scope.resource.strategy.allows_create_on_update();
    for _ in 0..CONFLICT_RETRIES_MAX {
        write.begin_attempt();
        let Some(stored) = scope
            .server
            .registry
            .find(&scope.resource, &scope.namespace, &scope.name)
            .await?
        else {
            if !may_create {
                return Err(ApiStatus::not_found(scope.resource.subject(&scope.name)));
            }
            if given.is_some() {
                return Err(ApiStatus::not_found(scope.resource.subject(&scope.name)));
            }
            let bytes = create::run(&mut write, object, Managed::Update).await?;
            let mut response = reply::object(&scope, &form, 201, &bytes)?;
            reply::add_warnings(&mut response, &write.warnings);
            return Ok(response);
        };
        check_identity(&scope, &object, &stored)?;
        check_version(&scope, given, &stored)?;
        let mut new = object.clone();
        scope.resource.strategy.apply_defaults(&mut new);
        managed::track(&write, Some(&stored.value), &mut new)?;
        match write.update(&stored, new).await? {
            Written::Done(bytes) => {
                let mut response = reply::object(&scope, &form, 200, &bytes)?;
                reply::add_warnings(&mut response, &write.warnings);
                return Ok(response);
            }
            Written::Conflict if given.is_some() => break,
            Written::Conflict => {}
        }
    }
    Err(write::conflict(&scope.resource, &scope.name))
}

/// The name in the body must be the path's.
pub fn check_name(object: &Value, name: &str) -> ApiResult<()> {
    match object::name(object) {
        "" => Err(ApiStatus::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given if given == name => Ok(()),
        given => Err(ApiStatus::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

/// The resourceVersion that the client wants to replace, if it names one.
fn given_version(object: &Value) -> ApiResult<Option<u64>> {
    match object::resource_version(object) {
        "" | "0" => Ok(None),
        version => version.parse().map(Some).map_err(|_| {
            ApiStatus::new(
                500,
                "",
                format!("strconv.ParseUint: parsing {version:?}: invalid syntax"),
            )
        }),
    }
}

/// A uid in the body must be the stored object's.
pub fn check_identity(scope: &Scope, object: &Value, stored: &Stored) -> ApiResult<()> {
    let (given, is) = (object::uid(object), object::uid(&stored.value));
    if given.is_empty() || given == is {
        return Ok(());
    }
    Err(ApiStatus::conflict(
        scope.resource.subject(&scope.name),
        &format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {is}",
            stored.key
        ),
    ))
}

/// Optimistic locking: a named version must be the stored one; some kinds insist on naming it.
fn check_version(scope: &Scope, given: Option<u64>, stored: &Stored) -> ApiResult<()> {
    match given {
        Some(version) if version != stored.revision => Err(write::conflict(&scope.resource, &scope.name)),
        None if !scope.resource.strategy.allows_unconditional_update() => {
            let mut errors = FieldErrors::new();
            errors.invalid(
                &Path::new("metadata").child("resourceVersion"),
                0,
                "must be specified for an update",
            );
            // This one error names the plural, not the Kind.
            Err(ApiStatus::invalid(scope.resource.subject(&scope.name), &errors))
        }
        _ => Ok(()),
    }
}
