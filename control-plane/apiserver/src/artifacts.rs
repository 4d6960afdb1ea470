//! The registry inside the control plane: the OCI distribution API (v1.1) at `/v2/`, for modules and images.
//!
//! Every authenticated user may pull. Pushing and deleting need the permission of the HTTP method on the path (RBAC
//! `nonResourceURLs`, for example `/v2/team/*` with verbs `post`, `patch`, `put`), or `system:masters`.
//! Reading order: `path` (what is asked), `blobs`, `uploads`, `manifests`, `listing` (the handlers), `storage` (what is
//! on disk), `collector` (what is thrown away).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use skiff_api::status::ApiResult;
use tokio::sync::mpsc;

use crate::authz::{Attributes, Decision};
use crate::body::{Body, RequestBody};
use crate::plugins::{Access, PluginRequest, Route};
use crate::query::Query;
use crate::server::ApiServer;

mod blobs;
mod collector;
mod error;
mod listing;
mod manifests;
mod path;
mod storage;
mod uploads;

#[cfg(test)]
mod tests;

use error::{Code, OciError};
use path::{Digest, Endpoint};
use storage::Storage;

/// What anonymous clients are told; docker, skopeo and oras then send their user name and password.
const CHALLENGE: &str = "Basic realm=\"skiff\"";

/// Pushed layers that wait to be looked at; a push has one or a few.
const PUSHED_MAX: usize = 64;

/// A sender that is silent for this long is given up; what it sent can be resumed.
const BODY_IDLE_MAX: Duration = Duration::from_secs(60);

/// The registry: its files, and the route that serves them.
pub struct Registry {
    storage: Storage,
    /// Told the digest of every layer that may be a module, when its manifest was pushed.
    pushed: OnceLock<mpsc::Sender<String>>,
}

/// The head of a request.
struct Head(Parts);

impl Head {
    fn method(&self) -> &Method {
        &self.0.method
    }
    fn path(&self) -> &str {
        self.0.uri.path()
    }
    /// A header's text.
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.0.headers.get(name)?.to_str().ok()
    }
    /// A query parameter that is not empty.
    fn query(&self, key: &str) -> Option<String> {
        Query::parse(self.0.uri.query().unwrap_or(""))
            .get(key)
            .map(str::to_owned)
            .filter(|value| !value.is_empty())
    }
}

/// The next bytes of a body; `None` at its end.
async fn next_bytes(body: &mut RequestBody) -> Result<Option<Bytes>, OciError> {
    let broken = |why: String| OciError::new(400, Code::BlobUploadInvalid, format!("the body broke off: {why}"));
    loop {
        let frame = tokio::time::timeout(BODY_IDLE_MAX, body.frame());
        match frame.await {
            Err(_) => return Err(broken("nothing came for too long".to_owned())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(broken(error.to_string())),
            Ok(Some(Ok(frame))) => {
                // Trailers are nothing to us.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A request to the registry, authorised.
struct Call {
    head: Head,
    body: RequestBody,
}

impl Registry {
    /// A registry whose files lie in `directory` (`<data_dir>/registry`), which is made if needed.
    pub fn open(directory: &Path) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            storage: Storage::open(directory)?,
            pushed: OnceLock::new(),
        }))
    }

    /// Digests (`sha256:…`) of layers of manifests that are pushed from now on; some are left out when nobody takes them.
    pub fn pushed_modules(&self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(PUSHED_MAX);
        let _ = self.pushed.set(sender);
        receiver
    }

    /// Where a blob rests and its size, whichever repositories have it. Only for digests that name one.
    pub fn blob_file(&self, digest: &str) -> Option<(PathBuf, u64)> {
        let path = self.storage.blob_path(&Digest::parse(digest).ok()?);
        let size = path.metadata().ok()?.len();
        Some((path, size))
    }

    /// Whether the registry's disk has room.
    pub fn has_space(&self) -> bool {
        self.storage.check_space().is_ok()
    }

    fn tell_pushed(&self, layers: Vec<String>) {
        for layer in layers {
            let told = self.pushed.get().map(|sender| sender.try_send(layer));
            if let Some(Err(error)) = told {
                tracing::debug!(%error, "a pushed layer is not told");
            }
        }
    }

    async fn serve(&self, call: Call) -> Result<Response<Body>, OciError> {
        let endpoint = Endpoint::parse(call.head.path())?;
        let (method, head) = (call.head.method().clone(), &call.head);
        let storage = &self.storage;
        match (endpoint, method) {
            (Endpoint::Version, Method::GET | Method::HEAD) => Ok(listing::version()),
            (Endpoint::Catalog, Method::GET) => listing::catalog(storage, head).await,
            (Endpoint::Tags { name }, Method::GET) => listing::tags(storage, &name, head).await,
            (Endpoint::Referrers { name, digest }, Method::GET) => {
                listing::referrers(storage, &name, &digest, head).await
            }
            (Endpoint::Blob { name, digest }, Method::GET | Method::HEAD) => {
                blobs::get(storage, &name, &digest, head).await
            }
            (Endpoint::Blob { name, digest }, Method::DELETE) => blobs::delete(storage, &name, &digest).await,
            (Endpoint::Uploads { name }, Method::POST) => uploads::start(storage, &name, call).await,
            (Endpoint::Upload { name, id }, Method::GET) => uploads::status(storage, &name, &id).await,
            (Endpoint::Upload { name, id }, Method::PATCH) => uploads::append(storage, &name, &id, call).await,
            (Endpoint::Upload { name, id }, Method::PUT) => uploads::finish(storage, &name, &id, call).await,
            (Endpoint::Upload { name, id }, Method::DELETE) => uploads::cancel(storage, &name, &id).await,
            (Endpoint::Manifest { name, reference }, Method::GET | Method::HEAD) => {
                manifests::get(storage, &name, &reference).await
            }
            (Endpoint::Manifest { name, reference }, Method::PUT) => {
                let (response, layers) = manifests::put(storage, &name, &reference, call).await?;
                self.tell_pushed(layers);
                Ok(response)
            }
            (Endpoint::Manifest { name, reference }, Method::DELETE) => {
                manifests::delete(storage, &name, &reference).await
            }
            _ => Err(OciError::new(405, Code::Unsupported, "the method is not allowed here")),
        }
    }
}

#[async_trait]
impl Route for Registry {
    fn prefix(&self) -> &'static str {
        "/v2/"
    }
    /// Open, because the registry asks for credentials in its own way.
    fn access(&self) -> Access {
        Access::Open
    }
    async fn handle(&self, server: &Arc<ApiServer>, request: PluginRequest) -> ApiResult<Response<Body>> {
        let PluginRequest { parts, body, user, .. } = request;
        let authenticated = user.in_group(crate::authn::AUTHENTICATED);
        let reading = matches!(parts.method, Method::GET | Method::HEAD);
        let allowed = authenticated
            && (reading || {
                let attributes = Attributes {
                    user,
                    verb: parts.method.as_str().to_lowercase(),
                    path: parts.uri.path().to_owned(),
                    ..Attributes::default()
                };
                matches!(server.authorize(&attributes).await, Decision::Allow { .. })
            });
        let outcome = if !authenticated {
            Err(OciError::new(401, Code::Unauthorized, "authentication required"))
        } else if !allowed {
            Err(OciError::new(
                403,
                Code::Denied,
                "requested access to the resource is denied",
            ))
        } else {
            self.serve(Call {
                head: Head(parts),
                body,
            })
            .await
        };
        let mut response = outcome.unwrap_or_else(OciError::into_response);
        let headers = response.headers_mut();
        headers.insert("docker-distribution-api-version", error::header("registry/2.0"));
        if !authenticated {
            headers.insert(hyper::header::WWW_AUTHENTICATE, error::header(CHALLENGE));
        }
        Ok(response)
    }
}
