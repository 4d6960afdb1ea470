//! The compile service: modules become machine code here, once per module, engine, target and CPU features, and nodes
//! fetch it. A node that serves never compiles, and one without a compiler can serve.
//!
//! ```text
//! GET  /skiff/v1/compiled                                   what this server compiles for, and what it is at
//! GET  /skiff/v1/compiled/<digest>?engine=…&target=…&features=…[&wait=SECONDS]
//!      200 the code, signed by the cluster's CA key · 202 {"state": "working" | "send-module", "message"}
//!      409 another engine or machine · 422 the module cannot be compiled · 429 too much to do
//! POST the same, with the module as body: for modules that are not in this server's registry
//! ```
//! This process links no compiler: it starts `skiff wasm-compile` as a limited child. Nodes and administrators may ask
//! (authorised as a path outside the API).
//! Reading order: `service` (queue, jobs), `child` (the compiler), `cache` (what is on disk).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use hyper::{Method, Response};
use serde_json::json;
use skiff_api::compiled::{self, Key, Platform};
use skiff_api::status::{ApiResult, ApiStatus};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::negotiate::{JSON, response_with_type};
use crate::pki::Pki;
use crate::plugins::{PluginRequest, Route};
use crate::server::{ApiServer, CompilerProgram};

mod cache;
mod child;
mod service;
mod upload;

#[cfg(test)]
mod tests;

use cache::Record;
use service::{Asked, Service, Trouble};

/// A question is held this long at most; the asker comes again.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 128 * 1024;
/// When to come again while there is too much to do.
const BUSY_RETRY_SECONDS: u32 = 5;

/// The route of the compile service.
pub struct CompileRoute {
    service: Arc<Service>,
    pki: Arc<Pki>,
}

impl CompileRoute {
    /// Opens the cache in `directory` (`<data_dir>/compiled`), and starts compiling what is pushed to `modules`, until
    /// `shutdown`.
    pub fn open(
        directory: &Path,
        compiler: Option<CompilerProgram>,
        modules: Arc<crate::artifacts::Registry>,
        pki: Arc<Pki>,
        shutdown: &CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let pushed = modules.pushed_modules();
        let service = Service::open(directory, compiler, modules)?;
        tokio::spawn(service::compile_pushed(service.clone(), pushed, shutdown.clone()));
        tokio::spawn(service::collect_regularly(service.clone(), shutdown.clone()));
        Ok(Arc::new(Self { service, pki }))
    }

    async fn ask(&self, digest: &str, request: PluginRequest) -> ApiResult<Response<Body>> {
        let key = key(digest, &request)?;
        let wait = request.query("wait").and_then(|text| text.parse().ok());
        let wait = wait.map_or(Duration::ZERO, Duration::from_secs).min(WAIT_MAX);
        let by = request.user.name.clone();
        let mut asked = self.service.ask(&key, &by, None, wait).await.map_err(status)?;
        // Nothing is taken in that is not wanted, or that there is no room for.
        if request.parts.method == Method::POST && matches!(asked, Asked::SendModule) {
            let upload = self.service.receive(&key, request.body).await.map_err(status)?;
            asked = self.service.ask(&key, &by, Some(upload), wait).await.map_err(status)?;
        }
        match asked {
            Asked::Ready(record) => self.code(&key, &record).await,
            Asked::Working(message) => Ok(working(&message)),
            Asked::SendModule => Ok(later(json!({"state": "send-module"}))),
        }
    }

    async fn code(&self, key: &Key, record: &Record) -> ApiResult<Response<Body>> {
        let compiled = record.compiled();
        let signature = self
            .pki
            .sign(compiled.signed_text(key).as_bytes())
            .map_err(ApiStatus::internal)?;
        let file = match self.service.open_code(key).await {
            // Removed since it was found; who asks again has it made again.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(working("the module is to be compiled again"));
            }
            opened => opened.map_err(ApiStatus::internal)?,
        };
        let stream = ReaderStream::with_capacity(file, CHUNK_BYTES);
        let body = Body::stream(stream.map(|chunk| chunk.map_err(Into::into)));
        let mut response = response_with_type(200, "application/octet-stream", body);
        for (name, value) in [
            ("content-length", compiled.size.to_string()),
            (compiled::KIND_HEADER, compiled.kind),
            (compiled::SHA256_HEADER, compiled.sha256),
            (compiled::SIGNATURE_HEADER, STANDARD.encode(signature)),
        ] {
            let value = hyper::header::HeaderValue::from_str(&value).map_err(ApiStatus::internal)?;
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

fn key(digest: &str, request: &PluginRequest) -> ApiResult<Key> {
    let part = |name: &str| request.query(name).unwrap_or_default();
    let features = part("features");
    let features: Vec<String> = features
        .split(',')
        .filter(|feature| !feature.is_empty())
        .map(str::to_owned)
        .collect();
    Platform::new(&part("engine"), &part("target"), &features)
        .and_then(|platform| Key::new(digest, platform))
        .map_err(|error| ApiStatus::bad_request(error.to_string()))
}

fn working(message: &str) -> Response<Body> {
    later(json!({"state": "working", "message": message}))
}

fn later(answer: serde_json::Value) -> Response<Body> {
    response_with_type(202, JSON, Body::full(answer.to_string()))
}

fn status(trouble: Trouble) -> Box<ApiStatus> {
    match trouble {
        Trouble::Differs(why) => ApiStatus::new(409, "Conflict", why),
        Trouble::Refused(why) => ApiStatus::new(422, "Invalid", why),
        Trouble::Busy(why) => ApiStatus::too_many_requests(why, BUSY_RETRY_SECONDS),
        Trouble::BadModule(why) => ApiStatus::bad_request(why),
        Trouble::Failed(why) => ApiStatus::internal(why),
    }
}

#[async_trait]
impl Route for CompileRoute {
    fn prefix(&self) -> &'static str {
        compiled::PATH
    }

    async fn handle(&self, _server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let path = request.parts.uri.path();
        let digest = path.strip_prefix(compiled::PATH).unwrap_or_default().to_owned();
        match (&request.parts.method, digest.as_str()) {
            (&Method::GET, "") => {
                let text = self.service.describe().await.to_string();
                Ok(response_with_type(200, JSON, Body::full(text)))
            }
            (&Method::GET | &Method::POST, digest) if !digest.is_empty() => self.ask(digest, request).await,
            _ => Err(ApiStatus::method_not_allowed()),
        }
    }
}
