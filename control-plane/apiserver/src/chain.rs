//! The filters that every request passes, in order: authenticate, limit, impersonate, audit, authorise. Then its handler.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use crate::authn::{Credentials, UserInfo};
use crate::authz::{Attributes, Decision};
use crate::body::{Body, RequestBody, request_body};
use crate::negotiate;
use crate::plugins::Access;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::serve::Connection;
use crate::server::ApiServer;
use crate::subresources::node_proxy::fine_grained;

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A request from the network.
pub async fn handle(server: &Arc<ApiServer>, connection: &Connection, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let who = Who::Credentials(connection);
    guarded(server, parts, request_body(body), who).await
}

/// A request of this process, already authenticated.
pub async fn handle_as(server: &Arc<ApiServer>, request: Request<RequestBody>, user: UserInfo) -> Response<Body> {
    let (parts, body) = request.into_parts();
    guarded(server, parts, body, Who::Known(user)).await
}

enum Who<'a> {
    Credentials(&'a Connection),
    Known(UserInfo),
}

/// Runs the chain; a panic ends this request only.
async fn guarded(server: &Arc<ApiServer>, parts: Parts, body: RequestBody, who: Who<'_>) -> Response<Body> {
    let started = Instant::now();
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or(""));
    // What is needed after `parts` moved into the handler.
    let shown = Shown::of(&parts, &info);
    let outcome = AssertUnwindSafe(run(server, &info, parts, body, who, &shown))
        .catch_unwind()
        .await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => negotiate::respond_status(&shown.accept, &status),
        Err(_) => {
            tracing::error!(verb = info.verb, path = info.path, "a handler panicked");
            negotiate::respond_status(
                &shown.accept,
                &ApiStatus::internal("the handler of this request failed"),
            )
        }
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&shown.audit_id) {
        headers.insert(AUDIT_ID.clone(), id);
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
    let code = response.status().as_u16();
    server.metrics.observe(&info, code, started.elapsed());
    tracing::debug!(
        target: "audit", id = shown.audit_id, verb = info.verb, path = info.path, code,
        micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX), "request answered"
    );
    response
}

/// What outlives the request's head.
struct Shown {
    audit_id: String,
    /// A head with only what negotiation looks at.
    accept: Parts,
}

impl Shown {
    fn of(parts: &Parts, info: &RequestInfo) -> Self {
        let given = parts.headers.get(&AUDIT_ID).and_then(|v| v.to_str().ok());
        let audit_id = given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let mut accept = Request::new(()).into_parts().0;
        accept.uri = parts.uri.clone();
        for name in [hyper::header::ACCEPT, hyper::header::USER_AGENT] {
            if let Some(value) = parts.headers.get(&name) {
                accept.headers.insert(name, value.clone());
            }
        }
        let _ = info;
        Self { audit_id, accept }
    }
}

async fn run(
    server: &Arc<ApiServer>,
    info: &RequestInfo,
    mut parts: Parts,
    body: RequestBody,
    who: Who<'_>,
    shown: &Shown,
) -> ApiResult<Response<Body>> {
    let route = if info.is_resource {
        None
    } else {
        server.route(&info.path)
    };
    let access = route.as_ref().map_or(Access::Authorized, |route| route.access());
    let user = match who {
        Who::Known(user) => user,
        Who::Credentials(connection) => {
            let user = authenticate(server, connection, &parts).await;
            // The chain is done with it, and no handler should see or log it.
            let user = if access == Access::Open {
                user.unwrap_or_else(|_| UserInfo::anonymous())
            } else {
                user?
            };
            parts
                .extensions
                .insert(ClientCertificates(connection.client_certificates.clone()));
            parts.extensions.insert(server.timeouts);
            user
        }
    };
    let permit = server.limiter.admit(&user, info)?;
    let mut user = user;
    if access != Access::Open {
        for filter in &server.plugins.user_filters {
            user = filter.filter(server, &parts, user).await?;
        }
    }
    tracing::debug!(target: "audit", id = shown.audit_id, user = user.name, verb = info.verb, path = info.path, "request received");
    if access == Access::Authorized {
        authorize(server, info, &parts, &user).await?;
    }
    let response = match route {
        Some(route) => {
            let request = crate::plugins::PluginRequest {
                info: info.clone(),
                parts,
                body,
                user,
            };
            route.handle(server, request).await?
        }
        None => crate::handlers::dispatch(server, info, parts, body, user).await?,
    };
    Ok(response.map(|body| body.holding(permit)))
}

/// The verified client certificates of the connection, as a request extension.
#[derive(Clone, Debug)]
pub struct ClientCertificates(pub Vec<rustls::pki_types::CertificateDer<'static>>);

async fn authenticate(server: &ApiServer, connection: &Connection, parts: &Parts) -> ApiResult<UserInfo> {
    let authorization = parts.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let credentials = Credentials {
        authorization,
        client_certificates: &connection.client_certificates,
    };
    Ok(server
        .authenticate(&credentials)
        .await?
        .unwrap_or_else(UserInfo::anonymous))
}

/// What the authorizers are asked about a request.
pub fn attributes(info: &RequestInfo, parts: &Parts, user: &UserInfo) -> Attributes {
    let field_selector = match (info.verb.as_str(), parts.uri.query()) {
        ("list" | "watch" | "deletecollection", Some(query)) => Query::parse(query)
            .get("fieldSelector")
            .map(requirements)
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    Attributes {
        user: user.clone(),
        verb: info.verb.clone(),
        group: info.group.clone(),
        version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        path: info.path.clone(),
        resource_request: info.is_resource,
        field_selector,
    }
}

/// The `field=value` terms of a field selector; others are left out.
fn requirements(selector: &str) -> Vec<(String, String)> {
    let positive = |term: &str| {
        let (field, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!field.ends_with('!')).then(|| (field.to_owned(), value.to_owned()))
    };
    selector.split(',').filter_map(positive).collect()
}

async fn authorize(server: &ApiServer, info: &RequestInfo, parts: &Parts, user: &UserInfo) -> ApiResult<()> {
    let attributes = attributes(info, parts, user);
    let Decision::NoOpinion { reason } = server.authorize(&attributes).await else {
        return Ok(());
    };
    if let Some(subresource) = fine_grained(info) {
        let enough = Attributes {
            subresource: subresource.to_owned(),
            ..attributes.clone()
        };
        if let Decision::Allow { .. } = server.authorize(&enough).await {
            return Ok(());
        }
    }
    Err(forbidden(&attributes, &reason))
}

/// 403, worded as kube-apiserver words it.
pub fn forbidden(attributes: &Attributes, reason: &str) -> Box<ApiStatus> {
    let user = &attributes.user.name;
    let why = if attributes.resource_request {
        let resource = if attributes.subresource.is_empty() {
            attributes.resource.clone()
        } else {
            format!("{}/{}", attributes.resource, attributes.subresource)
        };
        let place = if attributes.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", attributes.namespace)
        };
        format!(
            "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}",
            attributes.verb, attributes.group
        )
    } else {
        format!("User {user:?} cannot {} path {:?}", attributes.verb, attributes.path)
    };
    let why = if reason.is_empty() {
        why
    } else {
        format!("{why}: {reason}")
    };
    let subject = if attributes.resource_request {
        Subject {
            group: &attributes.group,
            resource: &attributes.resource,
            name: &attributes.name,
        }
    } else {
        Subject::default()
    };
    ApiStatus::forbidden(subject, &why)
}
