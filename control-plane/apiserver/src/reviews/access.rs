//! SubjectAccessReview, SelfSubjectAccessReview and LocalSubjectAccessReview: may they?

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{list_at, str_at};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::{answer, track_manager};
use crate::authn::UserInfo;
use crate::authz::{Attributes, Decision};
use crate::body::Body;
use crate::plugins::{PluginRequest, Subresource};
use crate::server::ApiServer;

const GROUP: &str = "authorization.k8s.io";

pub struct AccessReviews;

#[async_trait]
impl Subresource for AccessReviews {
    fn group(&self) -> &'static str {
        GROUP
    }
    fn resources(&self) -> &'static [&'static str] {
        &[
            "subjectaccessreviews",
            "selfsubjectaccessreviews",
            "localsubjectaccessreviews",
        ]
    }
    fn subresource(&self) -> &'static str {
        ""
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let kind = match request.info.resource.as_str() {
            "selfsubjectaccessreviews" => "SelfSubjectAccessReview",
            "localsubjectaccessreviews" => "LocalSubjectAccessReview",
            _ => "SubjectAccessReview",
        };
        let mut review = request.object(server, GROUP, "v1", kind).await?;
        track_manager(&request, &mut review, kind, "");
        validate(&review, kind, &request.info.namespace)?;
        let user = if kind == "SelfSubjectAccessReview" {
            request.user.clone()
        } else {
            user_of(&review["spec"])
        };
        let attributes = attributes_of(&review["spec"], user);
        let status = match server.authorize(&attributes).await {
            Decision::Allow { reason } => verdict(true, &reason),
            Decision::NoOpinion { reason } => verdict(false, &reason),
        };
        request.respond(201, &answer(review, GROUP, kind, status))
    }
}

fn verdict(allowed: bool, reason: &str) -> Value {
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

fn is_set(spec: &Value, key: &str) -> bool {
    spec.get(key).is_some_and(|value| !value.is_null())
}

fn validate(review: &Value, kind: &str, namespace: &str) -> ApiResult<()> {
    let (spec, path) = (&review["spec"], Path::new("spec"));
    let mut errors = FieldErrors::new();
    let one_of = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    if is_set(spec, "resourceAttributes") == is_set(spec, "nonResourceAttributes") {
        errors.invalid(
            &path.child("resourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            one_of,
        );
    }
    if kind != "SelfSubjectAccessReview" && str_at(spec, "/user").is_empty() && list_at(spec, "/groups").is_empty() {
        errors.invalid(
            &path.child("user"),
            "",
            "at least one of user or group must be specified",
        );
    }
    if kind == "LocalSubjectAccessReview" {
        if is_set(spec, "nonResourceAttributes") {
            errors.invalid(
                &path.child("nonResourceAttributes"),
                spec["nonResourceAttributes"].clone(),
                "disallowed on this kind of request",
            );
        }
        let asked = str_at(spec, "/resourceAttributes/namespace");
        if asked != namespace {
            return Err(ApiStatus::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {namespace}"
            )));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiStatus::invalid(
        Subject {
            group: GROUP,
            resource: kind,
            name: "",
        },
        &errors,
    ))
}

fn strings(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

fn user_of(spec: &Value) -> UserInfo {
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .map(|extra| {
            extra
                .iter()
                .map(|(key, values)| (key.to_lowercase(), strings(list_at(values, ""))))
                .collect()
        })
        .unwrap_or_default();
    UserInfo {
        name: str_at(spec, "/user").to_owned(),
        uid: str_at(spec, "/uid").to_owned(),
        groups: strings(list_at(spec, "/groups")),
        extra,
    }
}

fn attributes_of(spec: &Value, user: UserInfo) -> Attributes {
    if is_set(spec, "nonResourceAttributes") {
        let at = |key: &str| str_at(spec, &format!("/nonResourceAttributes/{key}")).to_owned();
        return Attributes {
            user,
            verb: at("verb"),
            path: at("path"),
            ..Attributes::default()
        };
    }
    let at = |key: &str| str_at(spec, &format!("/resourceAttributes/{key}")).to_owned();
    let requirements = list_at(spec, "/resourceAttributes/fieldSelector/requirements");
    let field_selector = requirements
        .iter()
        .filter(|r| str_at(r, "/operator") == "In")
        .filter_map(|r| match list_at(r, "/values") {
            [value] => Some((str_at(r, "/key").to_owned(), value.as_str()?.to_owned())),
            _ => None,
        })
        .collect();
    Attributes {
        user,
        verb: at("verb"),
        group: at("group"),
        version: at("version"),
        resource: at("resource"),
        subresource: at("subresource"),
        namespace: at("namespace"),
        name: at("name"),
        resource_request: true,
        field_selector,
        ..Attributes::default()
    }
}
