//! OpenAPI documents: v3 per group and version, and v2 as a whole (JSON and protobuf), made from the field table and the
//! list of served resources. `kubectl explain`, `kubectl apply --validate` and generated clients live on them.
//!
//! Built when first asked for, then kept with a compressed copy. Reading order: `schemas` (messages), `paths`
//! (operations), `v2` (the same in the older form), `gnostic` (its protobuf encoding).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use skiff_api::kind::ResourceInfo;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::negotiate::{JSON, accepts_gzip, response_with_type, text};
use crate::pki::hex;
use crate::plugins::{PluginRequest, Route};
use crate::server::ApiServer;
use crate::{builtin, discovery};

mod descriptions;
mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod v2;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
/// A document under its own hash never changes; RFC 9111 treats a year as for ever.
const IMMUTABLE_SECONDS: i64 = 365 * 24 * 3600;

/// One document, ready to send.
struct Document {
    plain: Bytes,
    gzip: Bytes,
    /// Upper-case hex of the SHA-512 of the content.
    hash: String,
}

impl Document {
    fn new(content: Vec<u8>) -> Self {
        let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 8), Compression::new(6));
        let gzip = encoder
            .write_all(&content)
            .and_then(|()| encoder.finish())
            .expect("a Vec takes every write");
        let hash = hex(&Sha512::digest(&content)).to_uppercase();
        Self {
            plain: content.into(),
            gzip: gzip.into(),
            hash,
        }
    }
}

/// The rows of a group and version, and their document once it is made.
type Entry = (Vec<&'static ResourceInfo>, OnceLock<Document>);

/// All documents of a server. The served resources are fixed once it runs.
#[derive(Default)]
struct Documents {
    /// `api/v1`, `apis/apps/v1` → its rows; documents are made one by one.
    v3: OnceLock<BTreeMap<String, Entry>>,
    v2: OnceLock<(Document, Document)>,
}

impl Documents {
    fn v3(&self, server: &ApiServer) -> &BTreeMap<String, Entry> {
        self.v3.get_or_init(|| {
            let mut rows: BTreeMap<String, Vec<&'static ResourceInfo>> = BTreeMap::new();
            for row in discovery::served(server) {
                rows.entry(paths::root(row).trim_start_matches('/').to_owned())
                    .or_default()
                    .push(row);
            }
            rows.into_iter()
                .map(|(path, rows)| (path, (rows, OnceLock::new())))
                .collect()
        })
    }
    fn v3_document(&self, server: &ApiServer, path: &str) -> Option<&Document> {
        let (rows, document) = self.v3(server).get(path)?;
        Some(document.get_or_init(|| Document::new(to_vec(&v3_document(rows)))))
    }
    /// JSON and protobuf.
    fn v2(&self, server: &ApiServer) -> &(Document, Document) {
        self.v2.get_or_init(|| {
            let rows: Vec<_> = discovery::served(server).collect();
            let document = v2::document(&rows);
            (
                Document::new(to_vec(&document)),
                Document::new(gnostic::encode(&document)),
            )
        })
    }
}

fn to_vec(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value always serialises")
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": builtin::GIT_VERSION})
}

fn v3_document(rows: &[&'static ResourceInfo]) -> Value {
    let mut schemas = schemas::Schemas::new(schemas::Dialect::V3);
    let paths = paths::of(rows, &mut schemas);
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {
                "BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"},
            },
        },
    })
}

/// `/openapi/v3` and the documents below it.
#[derive(Default)]
pub struct V3(Arc<Documents>);

/// `/openapi/v2`.
#[derive(Default)]
pub struct V2(Arc<Documents>);

#[async_trait]
impl Route for V3 {
    fn prefix(&self) -> &'static str {
        "/openapi/v3"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        check_method(&request.parts)?;
        let path = request
            .parts
            .uri
            .path()
            .trim_start_matches("/openapi/v3")
            .trim_matches('/')
            .to_owned();
        let documents = Arc::clone(&self.0);
        if path.is_empty() {
            let index = blocking(server, move |server| index(&documents, &server)).await?;
            let index = Document::new(to_vec(&index));
            // Go's handler leaves the type to be guessed, and it guesses text; clients expect no more.
            let mut response = send(Version::V3, &request.parts, &index, "text/plain; charset=utf-8");
            // The index is looked at anew each time; the documents that it names are what is worth keeping.
            response.headers_mut().remove(ETAG);
            return Ok(response);
        }
        let accept = request
            .parts
            .headers
            .get(ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        if !accept.is_empty() && !accept.contains(JSON) && !accept.contains('*') {
            let message = format!("only the following media types are accepted: {JSON} (not {V3_PROTOBUF})");
            return Err(ApiStatus::not_acceptable(message));
        }
        let wanted_hash = request.query("hash");
        let asked = path.clone();
        let found = blocking(server, move |server| {
            documents
                .v3_document(&server, &asked)
                .map(|d| (d.plain.clone(), d.gzip.clone(), d.hash.clone()))
        })
        .await?;
        let Some((plain, gzip, hash)) = found else {
            return Ok(text(404, "404 page not found\n"));
        };
        let document = Document { plain, gzip, hash };
        match wanted_hash {
            Some(wanted) if wanted != document.hash => {
                let mut response = text(301, Bytes::new());
                let location = HeaderValue::from_str(&document_url(&path, &document.hash));
                response
                    .headers_mut()
                    .insert(LOCATION, location.map_err(ApiStatus::internal)?);
                Ok(response)
            }
            Some(_) => {
                let mut response = send(Version::V3, &request.parts, &document, JSON);
                let expires = http_date(crate::authn::unix_now() + IMMUTABLE_SECONDS);
                let headers = response.headers_mut();
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
                headers.extend(HeaderValue::from_str(&expires).ok().map(|value| (EXPIRES, value)));
                Ok(response)
            }
            None => Ok(send(Version::V3, &request.parts, &document, JSON)),
        }
    }
}

fn document_url(path: &str, hash: &str) -> String {
    format!("/openapi/v3/{path}?hash={hash}")
}

fn index(documents: &Documents, server: &ApiServer) -> Value {
    let mut paths = serde_json::Map::new();
    for path in documents.v3(server).keys() {
        if let Some(document) = documents.v3_document(server, path) {
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": document_url(path, &document.hash)}),
            );
        }
    }
    json!({"paths": paths})
}

#[async_trait]
impl Route for V2 {
    fn prefix(&self) -> &'static str {
        "/openapi/v2"
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        check_method(&request.parts)?;
        let accept = request
            .parts
            .headers
            .get(ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let protobuf = accept.contains("application/com.github.proto-openapi.spec.v2") && accept.contains("+protobuf");
        let documents = Arc::clone(&self.0);
        let (plain, gzip, hash) = blocking(server, move |server| {
            let (json, gnostic) = documents.v2(&server);
            let document = if protobuf { gnostic } else { json };
            (document.plain.clone(), document.gzip.clone(), document.hash.clone())
        })
        .await?;
        let document = Document { plain, gzip, hash };
        Ok(send(
            Version::V2,
            &request.parts,
            &document,
            if protobuf { V2_PROTOBUF } else { JSON },
        ))
    }
}

fn check_method(parts: &Parts) -> ApiResult<()> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(ApiStatus::method_not_allowed())
    }
}

/// Building a document takes tens of milliseconds: not on a thread that serves requests.
async fn blocking<T: Send + 'static>(
    server: &Arc<ApiServer>,
    build: impl FnOnce(Arc<ApiServer>) -> T + Send + 'static,
) -> ApiResult<T> {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || build(server))
        .await
        .map_err(ApiStatus::internal)
}

/// kube-apiserver says of every v2 answer, compressed or not, that it depends on Accept-Encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

fn send(version: Version, parts: &Parts, document: &Document, content_type: &str) -> Response<Body> {
    let etag = format!("\"{}\"", document.hash);
    let known = parts
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|known| known.contains(&etag));
    let gzip = accepts_gzip(&parts.headers);
    let body = match (known, gzip) {
        (true, _) => Body::empty(),
        (false, true) => Body::full(document.gzip.clone()),
        (false, false) => Body::full(document.plain.clone()),
    };
    let mut response = response_with_type(200, content_type, body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let mut set = |name: HeaderName, value: &str| {
        response
            .headers_mut()
            .extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    };
    set(ETAG, &etag);
    if gzip && !known {
        set(CONTENT_ENCODING, "gzip");
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Accept"));
    if gzip || version == Version::V2 {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// `Tue, 24 Nov 2026 13:19:00 GMT`
fn http_date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|t| {
            t.to_zoned(jiff::tz::TimeZone::UTC)
                .strftime("%a, %d %b %Y %H:%M:%S GMT")
                .to_string()
        })
        .unwrap_or_default()
}
