//! Images of registries elsewhere, over the OCI distribution API.

use async_trait::async_trait;
use futures::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use skiff_runtime::PullCredentials;

use super::manifest::MANIFEST_MEDIA_TYPES;
use super::source::{ArtifactSource, BlobStream, ImageReference, ResolvedManifest, SourceError};
use crate::limits;

/// Serves every registry.
pub struct OciSource {
    client: Client,
}

impl OciSource {
    /// `insecure` names registries (`HOST[:PORT]`) that are spoken to without TLS.
    pub fn new(insecure: Vec<String>) -> Self {
        let protocol = ClientProtocol::HttpsExcept(insecure);
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(limits::OUTGOING_CONNECT_DEADLINE),
            read_timeout: Some(limits::OUTGOING_READ_DEADLINE),
            ..Default::default()
        };
        Self {
            client: Client::new(config),
        }
    }
}

fn reference(image: &ImageReference) -> Reference {
    let (registry, repository) = (image.registry.clone(), image.repository.clone());
    match (&image.digest, &image.tag) {
        (Some(digest), _) => Reference::with_digest(registry, repository, digest.clone()),
        (None, tag) => Reference::with_tag(registry, repository, tag.clone().unwrap_or_else(|| "latest".into())),
    }
}

fn auths(credentials: &[PullCredentials]) -> Vec<RegistryAuth> {
    let given = credentials
        .iter()
        .map(|c| RegistryAuth::Basic(c.username.clone(), c.password.clone()));
    given.chain([RegistryAuth::Anonymous]).collect()
}

/// An error and its causes: an HTTP client's own text names the URL but not why it failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

fn source_error(error: oci_client::errors::OciDistributionError) -> SourceError {
    use oci_client::errors::OciDistributionError as E;
    match error {
        E::ImageManifestNotFoundError(_) => SourceError::NotFound,
        E::AuthenticationFailure(why) => SourceError::Denied(why),
        E::UnauthorizedError { url } => SourceError::Denied(url),
        other => {
            let text = with_causes(&other);
            match text.contains("MANIFEST_UNKNOWN") || text.contains("NAME_UNKNOWN") || text.contains("404") {
                true => SourceError::NotFound,
                false => SourceError::Unreachable(text),
            }
        }
    }
}

#[async_trait]
impl ArtifactSource for OciSource {
    fn serves(&self, _registry: &str) -> bool {
        true
    }

    async fn resolve(
        &self,
        image: &ImageReference,
        credentials: &[PullCredentials],
    ) -> Result<ResolvedManifest, SourceError> {
        let reference = reference(image);
        let mut failure = SourceError::NotFound;
        for auth in auths(credentials) {
            match self
                .client
                .pull_manifest_raw(&reference, &auth, MANIFEST_MEDIA_TYPES)
                .await
            {
                Ok((bytes, digest)) => return Ok(ResolvedManifest { digest, bytes }),
                Err(error) => failure = source_error(error),
            }
        }
        Err(failure)
    }

    async fn blob(
        &self,
        image: &ImageReference,
        digest: &str,
        credentials: &[PullCredentials],
    ) -> Result<BlobStream, SourceError> {
        let reference = reference(image);
        let mut failure = SourceError::NotFound;
        for auth in auths(credentials) {
            self.client
                .store_auth_if_needed(reference.resolve_registry(), &auth)
                .await;
            let descriptor = OciDescriptor {
                digest: digest.to_owned(),
                ..Default::default()
            };
            match self.client.pull_blob_stream(&reference, &descriptor).await {
                Ok(sized) => return Ok(sized.stream.map(|chunk| chunk.map_err(std::io::Error::other)).boxed()),
                Err(error) => failure = source_error(error),
            }
        }
        Err(failure)
    }
}
