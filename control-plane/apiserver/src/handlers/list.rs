//! GET of a collection: the cached bytes of each object, joined.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_store::StoreError;
use skiff_store::watch_cache::{CacheError, CachedObject, Snapshot};

use super::Scope;
use super::options::{ListOptions, Match};
use super::reply as one;
use crate::body::Body;
use crate::limits;
use crate::negotiate::{self, Form, Format, Shape};
use crate::registry::{cache_status, parse};
use crate::table;

mod stream;

pub async fn handle(scope: Scope) -> ApiResult<Response<Body>> {
    let form = Form::negotiate_collection(&scope.parts)?;
    let options = ListOptions::parse(&scope.query, &scope.resource, false)?;
    let page = page(&scope, &options).await?;
    self::reply(&scope, &form, page)
}

/// What one list answers.
pub struct Page {
    pub items: Vec<Arc<CachedObject>>,
    pub revision: u64,
    /// Where the next page starts; empty on the last.
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// Chooses the state to show and the objects of it.
pub async fn page(scope: &Scope, options: &ListOptions) -> ApiResult<Page> {
    let (snapshot, start) = snapshot(scope, options).await?;
    let start_key = start.map(|start| format!("{}{start}", scope.resource.key_prefix));
    let mut items = Vec::new();
    let mut remaining = 0u64;
    let mut seen_all = true;
    let everything = options.selects_everything();
    let mut consider = |object: &Arc<CachedObject>| -> bool {
        if !selects(options, object) {
            return true;
        }
        if options.limit > 0 && items.len() == options.limit {
            seen_all = false;
            remaining += 1;
            // Without selectors the rest is counted, with them nobody is told how much it is.
            return everything;
        }
        items.push(object.clone());
        true
    };
    match &start_key {
        Some(key) => snapshot.iter_after(key).all(&mut consider),
        None => snapshot.iter().all(&mut consider),
    };
    let revision = snapshot.revision;
    let continue_token = match items.last() {
        Some(last) if !seen_all => token(revision, &relative(scope, last)),
        _ => String::new(),
    };
    let remaining = (!seen_all && everything).then_some(remaining);
    Ok(Page {
        items,
        revision,
        continue_token,
        remaining,
    })
}

/// Whether an object is selected.
pub fn selects(options: &ListOptions, object: &CachedObject) -> bool {
    (options.labels.is_everything() || options.labels.matches(&object.labels))
        && (options.fields.is_everything()
            || options.fields.matches(|field| {
                object
                    .fields
                    .iter()
                    .find(|(name, _)| *name == field)
                    .map_or("", |(_, value)| value.as_str())
            }))
}

/// The key of an object without the resource's prefix: `ns/name`.
fn relative(scope: &Scope, object: &CachedObject) -> String {
    object
        .key
        .strip_prefix(&scope.resource.key_prefix)
        .unwrap_or(&object.key)
        .to_owned()
}

/// The state that the options ask for, and the key after which to start.
async fn snapshot(scope: &Scope, options: &ListOptions) -> ApiResult<(Snapshot, Option<String>)> {
    let cache = &scope.resource.cache;
    let namespace = (!scope.namespace.is_empty()).then_some(scope.namespace.as_str());
    if !options.continue_token.is_empty() {
        if !matches!(options.resource_version.as_str(), "" | "0") {
            return Err(ApiStatus::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (revision, start) = read_token(&options.continue_token)?;
        if revision == 0 {
            // An inconsistent continuation: from where the old list stopped, at the newest state.
            cache.fresh().await.map_err(cache_status)?;
            return Ok((cache.list(namespace), Some(start)));
        }
        let snapshot = cache.list_at(revision, namespace).await.map_err(|error| match error {
            CacheError::Store(StoreError::Compacted { .. }) => expired_continue(&start),
            other => cache_status(other),
        })?;
        return Ok((snapshot, Some(start)));
    }
    match (options.resource_version.as_str(), options.version_match) {
        ("", _) => {
            cache.fresh().await.map_err(cache_status)?;
            Ok((cache.list(namespace), None))
        }
        ("0", _) => Ok((cache.list(namespace), None)),
        (version, version_match) => {
            let revision: u64 = version.parse().map_err(|_| {
                ApiStatus::bad_request(format!(
                    "invalid resource version: resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
                ))
            })?;
            let exact = version_match == Match::Exact || (version_match == Match::Unset && options.limit > 0);
            cache
                .wait_for(revision, limits::CACHE_WAIT_MAX)
                .await
                .map_err(cache_status)?;
            if exact {
                let snapshot = cache.list_at(revision, namespace).await.map_err(|error| match error {
                    CacheError::Store(StoreError::Compacted { .. }) => expired(),
                    other => cache_status(other),
                })?;
                return Ok((snapshot, None));
            }
            Ok((cache.list(namespace), None))
        }
    }
}

/// A continue token in Kubernetes' form; `revision` 0 makes an inconsistent one.
fn token(revision: u64, start: &str) -> String {
    let version: i64 = if revision == 0 {
        -1
    } else {
        i64::try_from(revision).unwrap_or(i64::MAX)
    };
    let text = json!({"v": "meta.k8s.io/v1", "rv": version, "start": format!("{start}\u{0}")}).to_string();
    URL_SAFE_NO_PAD.encode(text)
}

/// Revision (0 = newest) and start of a token.
fn read_token(token: &str) -> ApiResult<(u64, String)> {
    let bad = |why: &str| ApiStatus::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|_| bad("illegal base64 data at input byte 0"))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad("invalid character"))?;
    if value["v"] != "meta.k8s.io/v1" {
        return Err(bad("server does not recognize this encoded version"));
    }
    let start = value["start"].as_str().unwrap_or("");
    let start = start.strip_suffix('\0').unwrap_or(start).to_owned();
    if start.is_empty() || start.starts_with('/') || start.split('/').any(|part| part == "." || part == "..") {
        return Err(bad(&start));
    }
    let revision = value["rv"].as_i64().unwrap_or(0);
    match u64::try_from(revision) {
        Ok(0) => Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        Ok(revision) => Ok((revision, start)),
        Err(_) => Ok((0, start)),
    }
}

fn expired() -> Box<ApiStatus> {
    ApiStatus::expired("The resourceVersion for the provided list is too old.")
}

/// 410 that carries a token to go on from at the newest state.
fn expired_continue(start: &str) -> Box<ApiStatus> {
    let mut status = ApiStatus::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.metadata = json!({"continue": token(0, start)});
    status
}

/// The list as an answer.
pub fn reply(scope: &Scope, form: &Form, page: Page) -> ApiResult<Response<Body>> {
    let mut meta = json!({"resourceVersion": page.revision.to_string()});
    if !page.continue_token.is_empty() {
        meta["continue"] = page.continue_token.clone().into();
    }
    if let Some(remaining) = page.remaining {
        meta["remainingItemCount"] = remaining.into();
    }
    let info = scope.resource.info;
    let prefix = scope.resource.type_prefix_len();
    match form.shape {
        Shape::Table => {
            let include = table::Include::parse(&scope.query)?;
            let items = page
                .items
                .iter()
                .map(|object| parse(&object.bytes))
                .collect::<ApiResult<Vec<Value>>>()?;
            let table = table::table(
                &*scope.resource.strategy,
                &items,
                meta,
                include,
                form.shape_version,
                true,
            );
            negotiate::render(form, 200, &table)
        }
        Shape::Object => {
            let head = format!(
                "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
                info.kind, scope.resource.api_version
            );
            let items = page
                .items
                .iter()
                .map(|object| object.bytes.slice(prefix.min(object.bytes.len())..))
                .collect();
            joined(form, head, items)
        }
        Shape::PartialMetadata | Shape::PartialMetadataList => {
            if form.shape == Shape::PartialMetadata {
                return Err(ApiStatus::not_acceptable(format!(
                    "you requested PartialObjectMetadata, but the requested object is a list (*{}.{}List)",
                    super::body::go_package(info.group),
                    info.kind
                )));
            }
            let head = format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{}\",\"metadata\":{meta},\"items\":[",
                form.shape_version
            );
            let items = page
                .items
                .iter()
                .map(|object| Ok(one::partial_metadata(scope, &object.bytes, form.shape_version, true)?.slice(1..)))
                .collect::<ApiResult<Vec<Bytes>>>()?;
            if items.is_empty() {
                // Go's zero value of this one list, which clients may compare.
                let empty = head
                    .strip_suffix('[')
                    .map_or_else(|| head.clone(), |head| format!("{head}null}}"));
                return negotiate::render(
                    &Form {
                        shape: Shape::Object,
                        ..*form
                    },
                    200,
                    &parse(empty.as_bytes())?,
                );
            }
            joined(form, head, items)
        }
    }
}

/// `head`, the items (each without its opening brace), `]}`.
fn joined(form: &Form, head: String, items: Vec<Bytes>) -> ApiResult<Response<Body>> {
    let total: usize = head.len() + items.iter().map(|item| item.len() + 2).sum::<usize>() + 2;
    if form.format == Format::Json && !form.pretty {
        if total <= limits::CHUNK_BYTES {
            let mut whole = BytesMut::with_capacity(total);
            stream::write_all(&mut whole, &head, &items);
            return Ok(negotiate::respond_bytes(form, 200, whole.freeze()));
        }
        return Ok(stream::response(form, head, items, total));
    }
    let mut whole = BytesMut::with_capacity(total);
    stream::write_all(&mut whole, &head, &items);
    negotiate::render(
        &Form {
            shape: Shape::Object,
            ..*form
        },
        200,
        &parse(&whole)?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_is_kubernetes_own() {
        let token = token(12, "default/web");
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"rv\":12,\"start\":\"default/web\\u0000\",\"v\":\"meta.k8s.io/v1\"}"
        );
        assert_eq!(read_token(&token).unwrap(), (12, "default/web".to_owned()));
    }

    #[test]
    fn broken_tokens_are_refused() {
        for text in [
            "",
            "x",
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"/etc"}"#,
            r#"{"v":"v2","rv":1,"start":"a"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/../b"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#,
        ] {
            assert_eq!(
                read_token(&URL_SAFE_NO_PAD.encode(text)).unwrap_err().code,
                400,
                "{text}"
            );
        }
    }
}
