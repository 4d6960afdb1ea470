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

/// The registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry keeps the repositories that are named by one word.
const OFFICIAL_PREFIX: &str = "library/";
/// Longest repository name, registry included; the OCI distribution specification's own bound.
const NAME_CHARACTERS_MAX: usize = 255;
const TAG_CHARACTERS_MAX: usize = 128;
const FORMAT: &str = "invalid reference format";

impl ImageReference {
    /// Parses as container runtimes do. Errors: why it is not a reference.
    ///
    /// By hand, because the usual way (one regular expression with Unicode classes) costs the agent 12 MB for good.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => {
                return Err(format!(
                    "{FORMAT}: the digest must be sha256: and 64 hexadecimal digits"
                ));
            }
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(format!(
                "{FORMAT}: the tag must be up to {TAG_CHARACTERS_MAX} letters, digits and . _ -"
            ));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest.to_owned()),
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        let repository = match registry {
            DEFAULT_REGISTRY if !repository.contains('/') => format!("{OFFICIAL_PREFIX}{repository}"),
            _ => repository,
        };
        let host = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
        if !registry.chars().all(host) || name.len() > NAME_CHARACTERS_MAX {
            return Err(FORMAT.to_owned());
        }
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(format!("{FORMAT}: repository name must be lowercase"));
        }
        if !repository.split('/').all(is_component) {
            return Err(FORMAT.to_owned());
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
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

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(word) && text.len() <= TAG_CHARACTERS_MAX && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(plain).filter(|between| !between.is_empty());
    let good = |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|b| b == b'-');
    text.starts_with(plain) && text.ends_with(plain) && separators.into_iter().all(good)
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
        for (text, repository) in [
            ("nginx", "library/nginx"),
            ("docker.io/nginx:1", "library/nginx"),
            ("docker.io/team/nginx", "team/nginx"),
            ("team/nginx", "team/nginx"),
        ] {
            let parsed = ImageReference::parse(text).expect("parsed");
            assert_eq!(
                (parsed.registry.as_str(), parsed.repository.as_str()),
                ("docker.io", repository),
                "{text}"
            );
        }
        assert_eq!(
            ImageReference::parse("ghcr.io/nginx").expect("parsed").repository,
            "nginx"
        );
    }
}
