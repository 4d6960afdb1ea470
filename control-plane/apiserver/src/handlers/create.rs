//! POST to a collection.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use serde_json::Value;
use skiff_api::field::FieldErrors;
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};

use super::options::WriteOptions;
use super::write::{self, Write, invalid_unless_empty};
use super::{Scope, managed, metadata, reply};
use crate::admission::Operation;
use crate::body::{Body, RequestBody};
use crate::negotiate::Form;
use crate::registry::{Put, Resource, parse};

/// Attempts to find a free generated name: kube-apiserver's.
const GENERATE_ATTEMPTS_MAX: usize = 8;
/// Attempts when only bookkeeping stood in the way.
const BOOKKEEPING_ATTEMPTS_MAX: usize = 20;

pub async fn handle(scope: Scope, mut body: RequestBody) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&scope.parts, true)?;
    let options = WriteOptions::parse(&scope.query, "CreateOptions")?;
    let mut write = Write::new(&scope, &options);
    let object = write.read_object(&mut body).await?;
    let bytes = run(&mut write, object, Managed::Update).await?;
    let mut response = reply::object(&scope, &form, 201, &bytes)?;
    reply::add_warnings(&mut response, &write.warnings);
    Ok(response)
}

/// How managedFields come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// The writer owns what it wrote.
    Update,
    /// Apply has set them.
    Done,
}

/// Creates a decoded object; its bytes as served.
pub async fn run(write: &mut Write<'_>, mut object: Value, managed: Managed) -> ApiResult<Bytes> {
    let scope = write.scope;
    let server = &scope.server;
    let strategy = &scope.resource.strategy;
    check_namespace(&mut object, &scope.namespace)?;
    if !matches!(object::resource_version(&object), "" | "0") {
        return Err(ApiStatus::new(
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ));
    }
    strategy.apply_defaults(&mut object);
    let prefix = object::str_at(&object, "/metadata/generateName").to_owned();
    let generated = object::name(&object).is_empty() && !prefix.is_empty();
    if generated {
        set_name(&mut object, metadata::generate_name(&prefix));
    }
    if managed == Managed::Update {
        managed::track(write, None, &mut object)?;
    }
    let mut request = write.admission(Operation::Create, object, None);
    server.plugins.admission.admit(&mut request, &*server.registry).await?;
    let context = write.context();
    metadata::reset_for_create(&mut request.object);
    strategy.prepare_for_create(&mut request.object, &context);
    let fields = object::metadata_mut(&mut request.object);
    fields.insert("uid".into(), context.uuid.clone().into());
    fields.insert("creationTimestamp".into(), write.now.clone().into());
    if strategy.tracks_generation() {
        object::set_default(fields, "generation", 1);
    }
    let mut errors = FieldErrors::new();
    metadata::validate(&**strategy, &request.object, &mut errors);
    strategy.validate(&request.object, &mut errors);
    invalid_unless_empty(&scope.resource, object::name(&request.object), &errors)?;
    server
        .plugins
        .admission
        .validate(&mut request, &*server.registry)
        .await?;
    write.warnings.append(&mut request.warnings);
    write.warnings.extend(strategy.warnings(&request.object, None));
    store(write, request.object, generated.then_some(prefix)).await
}

/// Puts the finished object; under another name when a generated one is taken.
async fn store(write: &Write<'_>, mut object: Value, prefix: Option<String>) -> ApiResult<Bytes> {
    let scope = write.scope;
    let mut attempts = 0;
    for _ in 0..BOOKKEEPING_ATTEMPTS_MAX {
        let key = scope.resource.key(&scope.namespace, object::name(&object));
        if write.options.dry_run {
            if let Some(existing) = scope.resource.cache.get(&key) {
                let existing = parse(&existing.bytes)?;
                return Err(already_exists(&scope.resource, &object, Some(&existing)));
            }
            return Ok(skiff_api::canonical::to_bytes(&object));
        }
        match write::put(scope, &key, 0, None, Some(&object)).await? {
            Put::Done { bytes, .. } => return Ok(bytes),
            Put::BookkeepingChanged => {}
            Put::Changed(existing) => {
                attempts += 1;
                match &prefix {
                    Some(prefix) if attempts < GENERATE_ATTEMPTS_MAX => {
                        set_name(&mut object, metadata::generate_name(prefix));
                    }
                    _ => {
                        let existing =
                            existing.and_then(|found| scope.resource.decode(&found.value, found.mod_revision).ok());
                        return Err(already_exists(&scope.resource, &object, existing.as_ref()));
                    }
                }
            }
        }
    }
    Err(write::conflict(&scope.resource, object::name(&object)))
}

fn already_exists(resource: &Arc<Resource>, object: &Value, existing: Option<&Value>) -> Box<ApiStatus> {
    let mut status = ApiStatus::already_exists(resource.subject(object::name(object)));
    if existing.is_some_and(object::is_terminating) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// The namespace of the path and of the object are one.
pub fn check_namespace(object: &mut Value, namespace: &str) -> ApiResult<()> {
    let given = object::namespace(object);
    if given == namespace {
        return Ok(());
    }
    if !given.is_empty() && !namespace.is_empty() {
        return Err(ApiStatus::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let metadata = object::metadata_mut(object);
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".into(), namespace.into());
    }
    Ok(())
}

fn set_name(object: &mut Value, name: String) {
    object::metadata_mut(object).insert("name".into(), name.into());
}
