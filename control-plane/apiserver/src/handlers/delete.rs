//! DELETE of one object or of a collection: preconditions, grace, finalizers, propagation.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_api::time;

use super::body::{self, Expected};
use super::options::{DeleteOptions, ListOptions};
use super::{Scope, list, reply, write};
use crate::admission::{AdmissionRequest, Operation};
use crate::body::{Body, RequestBody};
use crate::clock;
use crate::negotiate::Form;
use crate::registry::{CONFLICT_RETRIES_MAX, Put, Stored, set_resource_version};

mod plan;

/// Kinds of which a delete answers the last state rather than a Status.
const RETURNED: [&str; 6] = [
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
];

use plan::{Plan, plan};

pub async fn handle(scope: Scope, body: RequestBody) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&scope.parts, true)?;
    let options = read_options(&scope, body).await?;
    let mut warnings = warnings(&scope, &options);
    let outcome = delete_one(&scope, &scope.namespace, &scope.name, &options, &mut warnings).await?;
    let mut response = match outcome {
        Outcome::Gone(value) if RETURNED.contains(&scope.resource.info.resource) => {
            let revision = object::resource_version(&value).parse().unwrap_or(0);
            reply::object(&scope, &form, 200, &write::served(&value, revision))?
        }
        Outcome::Gone(value) => reply::status(&form, 200, &success(&scope, &value))?,
        Outcome::Waiting(bytes) => {
            // 202 tells a client of the old option that its dependents go first.
            let code = if options.orphan_dependents == Some(false) {
                202
            } else {
                200
            };
            reply::object(&scope, &form, code, &bytes)?
        }
    };
    reply::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Deletes whatever the selectors match, one by one; answers the list as it was.
pub async fn handle_collection(scope: Scope, body: RequestBody) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&scope.parts, true)?;
    let options = read_options(&scope, body).await?;
    let list_options = ListOptions::parse(&scope.query, &scope.resource, false)?;
    let page = list::page(&scope, &list_options).await?;
    let mut warnings = warnings(&scope, &options);
    for object in &page.items {
        match delete_one(&scope, &object.namespace, &object.name, &options, &mut warnings).await {
            Ok(_) => {}
            // Someone else was faster: just what was asked for.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let mut response = list::reply(&scope, &form, page)?;
    reply::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// DeleteOptions out of the body, or out of the query when there is no body.
async fn read_options(scope: &Scope, mut request_body: RequestBody) -> ApiResult<DeleteOptions> {
    let bytes = body::read(&scope.parts, &mut request_body).await?;
    if bytes.is_empty() {
        return DeleteOptions::parse(None, &scope.query);
    }
    let expected = Expected {
        group: "",
        version: "v1",
        kind: "DeleteOptions",
    };
    let media = body::media_type(&scope.parts);
    let value = match body::decode(&media, &bytes, None)? {
        Ok(decoded) => decoded.value,
        Err(_) => body::decode_as(&media, &bytes, expected)?.value,
    };
    let (version, kind) = (object::api_version(&value), object::kind(&value));
    if !matches!(kind, "" | "DeleteOptions") {
        return Err(ApiStatus::bad_request(format!(
            "no kind {kind:?} is registered for version {:?} in scheme \"k8s.io/apimachinery/pkg/runtime/scheme.go:110\"",
            if version.is_empty() { "v1" } else { version }
        )));
    }
    DeleteOptions::parse(Some(&value), &scope.query)
}

/// What a client that says nothing of dependents may not expect.
fn warnings(scope: &Scope, options: &DeleteOptions) -> Vec<String> {
    let silent = options.propagation.is_none() && options.orphan_dependents.is_none();
    let warning = scope.resource.strategy.orphans_by_default().filter(|_| silent);
    warning.map(str::to_owned).into_iter().collect()
}

/// The Status that says what was deleted.
fn success(scope: &Scope, value: &Value) -> Value {
    let mut details = json!({"name": object::name(value), "kind": scope.resource.info.resource});
    if !scope.resource.info.group.is_empty() {
        details["group"] = scope.resource.info.group.into();
    }
    if !object::uid(value).is_empty() {
        details["uid"] = object::uid(value).into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// How a delete ended.
pub enum Outcome {
    /// The object is gone; its last state.
    Gone(Value),
    /// It stays for now, with its deletionTimestamp; its bytes as served.
    Waiting(Bytes),
}

/// Deletes one object, again when someone writes it meanwhile.
pub async fn delete_one(
    scope: &Scope,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    warnings: &mut Vec<String>,
) -> ApiResult<Outcome> {
    for _ in 0..CONFLICT_RETRIES_MAX * 4 {
        let stored = scope.server.registry.get(&scope.resource, namespace, name).await?;
        check_preconditions(scope, name, options, &stored)?;
        admit(scope, namespace, name, options, &stored, warnings).await?;
        let strategy = &*scope.resource.strategy;
        match plan(strategy, &stored.value, options, clock::now_seconds()) {
            Plan::Nothing => return Ok(Outcome::Waiting(write::served(&stored.value, stored.revision))),
            Plan::Mark(value) if options.dry_run => {
                return Ok(Outcome::Waiting(write::served(&value, stored.revision)));
            }
            Plan::Remove(value) if options.dry_run => return Ok(Outcome::Gone(value)),
            Plan::Mark(mut value) => {
                object::metadata_mut(&mut value).remove("resourceVersion");
                let put = write::put(scope, &stored.key, stored.revision, Some(&stored.value), Some(&value)).await?;
                if let Put::Done { bytes, .. } = put {
                    return Ok(Outcome::Waiting(bytes));
                }
            }
            Plan::Remove(mut value) => {
                let put = write::put(scope, &stored.key, stored.revision, Some(&stored.value), None).await?;
                if let Put::Done { revision, .. } = put {
                    set_resource_version(&mut value, revision);
                    return Ok(Outcome::Gone(value));
                }
            }
        }
    }
    Err(write::conflict(&scope.resource, name))
}

fn check_preconditions(scope: &Scope, name: &str, options: &DeleteOptions, stored: &Stored) -> ApiResult<()> {
    let subject = scope.resource.kind_subject(name);
    let uid = object::uid(&stored.value);
    if let Some(wanted) = &options.uid
        && wanted != uid
    {
        return Err(ApiStatus::conflict(
            subject,
            &format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
        ));
    }
    let version = stored.revision.to_string();
    if let Some(wanted) = &options.resource_version
        && *wanted != version
    {
        return Err(ApiStatus::conflict(
            subject,
            &format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

async fn admit(
    scope: &Scope,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    stored: &Stored,
    warnings: &mut Vec<String>,
) -> ApiResult<()> {
    let admission = &scope.server.plugins.admission;
    let mut request = AdmissionRequest {
        operation: Operation::Delete,
        info: scope.resource.info,
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        user: scope.user.clone(),
        dry_run: options.dry_run,
        object: Value::Null,
        old: Some(Arc::new(stored.value.clone())),
        options: options.to_json(),
        warnings: Vec::new(),
    };
    admission.admit(&mut request, &*scope.server.registry).await?;
    admission.validate(&mut request, &*scope.server.registry).await?;
    warnings.append(&mut request.warnings);
    Ok(())
}

/// `deletionTimestamp` for a grace period that starts now.
fn deadline(now: i64, grace_seconds: i64) -> String {
    time::format_rfc3339(now.saturating_add(grace_seconds))
}
