//! Reviews: questions about identities and permissions, asked by creating an object that is never stored.

use serde_json::{Value, json};
use skiff_api::object;

use crate::authn::UserInfo;

pub mod access;
pub mod rules;
pub mod selves;
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

/// Makes the answer to a review: the object as sent, with its kind and this status. A `status` sent along is dropped.
fn answer(mut review: Value, group: &str, kind: &str, status: Value) -> Value {
    let map = object::as_map(&mut review);
    map.insert("apiVersion".into(), skiff_api::kind::api_version(group, "v1").into());
    map.insert("kind".into(), kind.into());
    map.insert("status".into(), status);
    object::metadata_mut(&mut review);
    review
}
