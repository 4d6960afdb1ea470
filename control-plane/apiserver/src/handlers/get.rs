//! GET of one object: the cached bytes.

use hyper::Response;
use skiff_api::status::{ApiResult, ApiStatus};

use super::{Scope, reply};
use crate::body::Body;
use crate::limits;
use crate::negotiate::Form;
use crate::registry::cache_status;

pub async fn handle(scope: Scope) -> ApiResult<Response<Body>> {
    let form = Form::negotiate(&scope.parts, true)?;
    let cache = &scope.resource.cache;
    match scope.query.get("resourceVersion").unwrap_or("") {
        "" => {
            cache.fresh().await.map_err(cache_status)?;
        }
        "0" => {}
        version => {
            let revision = parse_revision(version)?;
            cache
                .wait_for(revision, limits::CACHE_WAIT_MAX)
                .await
                .map_err(cache_status)?;
        }
    }
    let key = scope.resource.key(&scope.namespace, &scope.name);
    let found = cache
        .get(&key)
        .ok_or_else(|| ApiStatus::not_found(scope.resource.subject(&scope.name)))?;
    reply::object(&scope, &form, 200, &found.bytes)
}

/// A resourceVersion of get and watch; 500, as Kubernetes has it, when it is no number.
pub fn parse_revision(version: &str) -> ApiResult<u64> {
    version.parse().map_err(|_| {
        ApiStatus::new(
            500,
            "",
            format!(
                "resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
            ),
        )
    })
}
