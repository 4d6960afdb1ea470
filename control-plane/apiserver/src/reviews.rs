//! Reviews: questions about identities and permissions, asked by creating an object that is never stored.

use hyper::header::USER_AGENT;
use serde_json::{Value, json};
use skiff_api::patch::managed::{self, WriteContext};
use skiff_api::schema::Schema;
use skiff_api::{object, time};

use crate::authn::{UserInfo, unix_now};
use crate::plugins::PluginRequest;

pub mod access;
pub mod rules;
pub mod selves;
#[cfg(test)]
mod tests;
pub mod token;

/// `authentication.k8s.io` UserInfo on the wire; empty parts are left out.
pub fn user_json(user: &UserInfo) -> Value {
    let mut info = json!({});
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            info[key] = value.clone().into();
        }
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// Records who sent the object, as for one that is stored (Kubernetes does so for every created object).
pub fn track_manager(request: &PluginRequest, object: &mut Value, kind: &str, subresource: &str) {
    let (group, api_version) = match kind {
        "TokenRequest" | "TokenReview" | "SelfSubjectReview" => ("authentication.k8s.io", "authentication.k8s.io/v1"),
        _ => ("authorization.k8s.io", "authorization.k8s.io/v1"),
    };
    let Some(message) = Schema::get().message_for(group, "v1", kind) else {
        return;
    };
    let agent = request
        .parts
        .headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let program = agent.split('/').next().unwrap_or("").to_owned();
    let manager = request
        .query("fieldManager")
        .filter(|manager| !manager.is_empty())
        .unwrap_or(program);
    let manager = if manager.is_empty() { "unknown" } else { &manager };
    let now = time::format_rfc3339(unix_now());
    let context = WriteContext {
        manager,
        api_version,
        kind,
        subresource,
        now: &now,
        message,
        ignored: &["status", "metadata"],
    };
    managed::update(None, object, &context);
}

/// Makes the answer to a review: the object as sent, with its kind and this status. A `status` sent along is dropped.
fn answer(mut review: Value, group: &str, kind: &str, status: Value) -> Value {
    let map = object::as_map(&mut review);
    map.insert("apiVersion".into(), skiff_api::kind::api_version(group, "v1").into());
    map.insert("kind".into(), kind.into());
    map.insert("status".into(), status);
    object::metadata_mut(&mut review);
    review
}
