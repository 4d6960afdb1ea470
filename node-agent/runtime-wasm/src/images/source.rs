//! Where images come from. The agent gives one source for the control plane's registry (`skiff.local`), and
//! [`OciSource`](super::oci::OciSource) reaches all others.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use skiff_runtime::PullCredentials;

/// The bytes of a blob as they arrive.
pub type BlobStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, with Docker's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl ImageReference {
    /// Parses as container runtimes do. Errors: why it is not a reference.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed: oci_client::Reference = text.parse().map_err(|e: oci_client::ParseError| e.to_string())?;
        let digest = parsed.digest().map(str::to_owned);
        let tag = match (parsed.tag(), &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag,
            digest,
        })
    }

    /// What goes into `/v2/REPOSITORY/manifests/…`: the digest if there is one, else the tag.
    pub fn manifest_name(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The same image by digest.
    pub fn with_digest(&self, digest: &str) -> Self {
        Self {
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }
}

/// A manifest as the registry gave it. The digest is computed by the caller, never believed.
#[derive(Clone, Debug)]
pub struct ResolvedManifest {
    pub digest: String,
    pub bytes: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("not found")]
    NotFound,
    #[error("access denied: {0}")]
    Denied(String),
    #[error("{0}")]
    Unreachable(String),
}

#[async_trait]
pub trait ArtifactSource: Send + Sync {
    /// True if references to this registry host are fetched here. The first source that says so is asked.
    fn serves(&self, registry: &str) -> bool;
    /// The manifest of a reference: by digest if it has one, else what the tag stands for now.
    async fn resolve(
        &self,
        reference: &ImageReference,
        credentials: &[PullCredentials],
    ) -> Result<ResolvedManifest, SourceError>;
    /// A blob of the reference's repository. The bytes are verified by who receives them.
    async fn blob(
        &self,
        reference: &ImageReference,
        digest: &str,
        credentials: &[PullCredentials],
    ) -> Result<BlobStream, SourceError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_users_write_them() {
        let parsed = ImageReference::parse("skiff.local/hello:1").expect("parsed");
        assert_eq!(
            (parsed.registry.as_str(), parsed.repository.as_str()),
            ("skiff.local", "hello")
        );
        assert_eq!(parsed.manifest_name(), "1");
        let parsed = ImageReference::parse("ghcr.io/a/b").expect("parsed");
        assert_eq!(
            (parsed.registry.as_str(), parsed.manifest_name()),
            ("ghcr.io", "latest")
        );
        assert!(ImageReference::parse("a.io/UPPER:x").is_err());
    }
}
