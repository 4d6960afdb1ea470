//! Images of the control plane's own registry (`skiff.local`), fetched over the agent's authenticated connection: the node
//! needs no second address, credential or trust for them.

use async_trait::async_trait;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode};
use skiff_runtime::PullCredentials;
use skiff_runtime_wasm::images::source::ImageReference;
use skiff_runtime_wasm::{ArtifactSource, BlobStream, ResolvedManifest, SourceError};

/// The registry name in image references that means "my control plane's".
const REGISTRY: &str = "skiff.local";
/// Largest manifest; the OCI distribution specification asks registries for 4 MiB.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

pub(crate) struct ControlPlaneSource {
    client: kube::Client,
}

impl ControlPlaneSource {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    async fn get(&self, path: &str, accept: &str) -> Result<Response<kube::client::Body>, SourceError> {
        let unreachable = |why: String| SourceError::Unreachable(format!("control plane's registry: {why}"));
        let request = Request::get(path)
            .header("accept", accept)
            .body(kube::client::Body::empty())
            .map_err(|error| unreachable(error.to_string()))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(SourceError::NotFound),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(SourceError::Denied(format!(
                "the control plane's registry answered {status}"
            ))),
            status => Err(unreachable(format!("answered {status}"))),
        }
    }
}

#[async_trait]
impl ArtifactSource for ControlPlaneSource {
    fn serves(&self, registry: &str) -> bool {
        registry == REGISTRY
    }

    async fn resolve(
        &self,
        reference: &ImageReference,
        _credentials: &[PullCredentials],
    ) -> Result<ResolvedManifest, SourceError> {
        let path = format!("/v2/{}/manifests/{}", reference.repository, reference.manifest_name());
        let response = self.get(&path, MANIFEST_TYPES).await?;
        let bytes = http_body_util::Limited::new(response.into_body(), MANIFEST_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| SourceError::Unreachable(format!("read the manifest: {error}")))?
            .to_bytes();
        let digest = reference.digest.clone().unwrap_or_default();
        Ok(ResolvedManifest { digest, bytes })
    }

    async fn blob(
        &self,
        reference: &ImageReference,
        digest: &str,
        _credentials: &[PullCredentials],
    ) -> Result<BlobStream, SourceError> {
        let path = format!("/v2/{}/blobs/{digest}", reference.repository);
        let body = self.get(&path, "application/octet-stream").await?.into_body();
        let stream = body
            .into_data_stream()
            .map(|chunk| chunk.map_err(std::io::Error::other));
        Ok(Box::pin(stream))
    }
}
