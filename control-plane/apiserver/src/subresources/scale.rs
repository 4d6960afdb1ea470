//! `scale` of deployments and replica sets: how many there are and shall be, without the rest of the object.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::kind::{self, ResourceInfo};
use skiff_api::object::{self, int_at, map_entry, str_at};
use skiff_api::schema::Schema;
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::scope;
use crate::body::{Body, RequestBody};
use crate::handlers::options::WriteOptions;
use crate::handlers::write::{self, Write, Written};
use crate::handlers::{Scope, body, managed, patch, reply};
use crate::kinds::common::{AGE, age, integer, text};
use crate::kinds::validate::not_negative;
use crate::negotiate::{self, Form, Shape};
use crate::plugins::{PluginRequest, Subresource};
use crate::registry::{CONFLICT_RETRIES_MAX, Stored, parse};
use crate::server::ApiServer;
use crate::strategy::{Column, Strategy};
use crate::table;

const COLUMNS: &[Column] = &[text("Name"), integer("Desired"), integer("Available"), AGE];

pub struct ScaleOf;

#[async_trait]
impl Subresource for ScaleOf {
    fn group(&self) -> &'static str {
        "apps"
    }
    fn resources(&self) -> &'static [&'static str] {
        &["deployments", "replicasets"]
    }
    fn subresource(&self) -> &'static str {
        "scale"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let form = Form::negotiate(&request.parts, true)?;
        let verb = request.info.verb.clone();
        let (scope, mut body) = scope(server, request, "scale")?;
        let scale = match verb.as_str() {
            "get" => {
                let stored = server
                    .registry
                    .get(&scope.resource, &scope.namespace, &scope.name)
                    .await?;
                scale_of(&scope, &stored.value)
            }
            _ => change(&scope, &mut body, verb == "patch").await?,
        };
        respond(&scope, &form, &scale)
    }
}

/// The Scale that shows an object.
fn scale_of(scope: &Scope, value: &Value) -> Value {
    let (wanted, current, selector) = scope.resource.strategy.scale(value).unwrap_or_default();
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(field) = value["metadata"].get(key) {
            metadata[key] = field.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {}, "status": {"replicas": current},
    });
    if wanted != 0 {
        scale["spec"]["replicas"] = wanted.into();
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// PUT and PATCH: the wish becomes `spec.replicas` of the object.
async fn change(scope: &Scope, request_body: &mut RequestBody, is_patch: bool) -> ApiResult<Value> {
    let options = WriteOptions::parse(&scope.query, if is_patch { "PatchOptions" } else { "UpdateOptions" })?;
    let bytes = body::read(&scope.parts, request_body).await?;
    let media = body::media_type(&scope.parts);
    let message = Schema::get().message_for("autoscaling", "v1", "Scale");
    let patch = if is_patch {
        Some(patch::Patch::parse(&media, bytes.clone())?)
    } else {
        None
    };
    let mut write = Write::new(scope, &options);
    for _ in 0..=CONFLICT_RETRIES_MAX {
        write.warnings.clear();
        let stored = scope
            .server
            .registry
            .get(&scope.resource, &scope.namespace, &scope.name)
            .await?;
        let scale = match &patch {
            Some(patch) => patch.apply(&scale_of(scope, &stored.value), message)?,
            None => {
                let expected = body::Expected {
                    group: "autoscaling",
                    version: "v1",
                    kind: "Scale",
                };
                body::decode_as(&media, &bytes, expected)?.value
            }
        };
        let insists = check(scope, &scale, &stored)?;
        let mut new = stored.value.clone();
        let replicas = int_at(&scale, "/spec/replicas").unwrap_or(0);
        map_entry(&mut new, "spec").insert("replicas".into(), replicas.into());
        managed::track(&write, Some(&stored.value), &mut new)?;
        match write.update(&stored, new).await? {
            Written::Done(bytes) => return Ok(scale_of(scope, &parse(&bytes)?)),
            Written::Conflict if insists && !is_patch => break,
            Written::Conflict => {}
        }
    }
    Err(write::conflict(&scope.resource, &scope.name))
}

/// Name, version, uid and number; whether the client insists on a version.
fn check(scope: &Scope, scale: &Value, stored: &Stored) -> ApiResult<bool> {
    let name = object::name(scale);
    if name != scope.name {
        return Err(ApiStatus::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            scope.name
        )));
    }
    let mut errors = FieldErrors::new();
    not_negative(
        &mut errors,
        &Path::new("spec").child("replicas"),
        int_at(scale, "/spec/replicas"),
    );
    if !errors.is_empty() {
        return Err(ApiStatus::invalid(
            Subject {
                group: "autoscaling",
                resource: "Scale",
                name,
            },
            &errors,
        ));
    }
    let version = object::resource_version(scale);
    if !matches!(version, "" | "0") && version != stored.revision.to_string() {
        return Err(write::conflict(&scope.resource, &scope.name));
    }
    let (given, is) = (str_at(scale, "/metadata/uid"), object::uid(&stored.value));
    if !given.is_empty() && given != is {
        let detail = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {is}");
        return Err(ApiStatus::conflict(scope.resource.subject(&scope.name), &detail));
    }
    Ok(!matches!(version, "" | "0"))
}

fn respond(scope: &Scope, form: &Form, scale: &Value) -> ApiResult<Response<Body>> {
    match form.shape {
        Shape::Object => negotiate::render(form, 200, scale),
        Shape::Table => {
            let meta = json!({"resourceVersion": object::resource_version(scale)});
            let include = table::Include::parse(&scope.query)?;
            let items = std::slice::from_ref(scale);
            let table = table::table(&ScaleTable, items, meta, include, form.shape_version, true);
            negotiate::render(form, 200, &table)
        }
        Shape::PartialMetadata | Shape::PartialMetadataList => {
            let metadata = json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{}", form.shape_version),
                "metadata": scale["metadata"],
            });
            reply::status(form, 200, &metadata)
        }
    }
}

/// The table of a Scale.
struct ScaleTable;

impl Strategy for ScaleTable {
    fn info(&self) -> &'static ResourceInfo {
        kind::find("apps", "v1", "deployments", "scale").expect("a row of the resource table")
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, scale: &Value, now: i64) -> Vec<Value> {
        vec![
            object::name(scale).into(),
            int_at(scale, "/spec/replicas").unwrap_or(0).into(),
            int_at(scale, "/status/replicas").unwrap_or(0).into(),
            age(scale, now),
        ]
    }
}
