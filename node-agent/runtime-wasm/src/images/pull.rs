//! Pulling: reference → manifest → module on disk → inspected → in the index.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use skiff_runtime::{PullCredentials, RuntimeError};

use super::manifest::{self, Found};
use super::source::{ArtifactSource, ImageReference, ResolvedManifest, SourceError};
use super::{Entry, ImageStore, digest_of, read_module};
use crate::inspect::inspect;
use crate::limits;

/// Indexes within indexes that are followed.
const INDEX_DEPTH: usize = 2;

/// Fetches images into a store.
pub struct Puller {
    pub store: ImageStore,
    sources: Vec<Arc<dyn ArtifactSource>>,
    /// One pull per reference at a time.
    flights: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Puller {
    pub fn new(store: ImageStore, sources: Vec<Arc<dyn ArtifactSource>>) -> Self {
        Self {
            store,
            sources,
            flights: Mutex::default(),
        }
    }

    /// Makes sure that the image is here and is what the reference stands for now. Errors: the reference, the registry,
    /// or the module; see the variants.
    pub async fn pull(&self, reference: &str, credentials: &[PullCredentials]) -> Result<Entry, RuntimeError> {
        let parsed = parse(reference)?;
        let flight = self.flights().entry(reference.to_owned()).or_default().clone();
        let result = {
            let _flight = flight.lock().await;
            self.fetch(reference, &parsed, credentials).await
        };
        self.flights().remove(reference);
        result
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.flights
            .lock()
            .expect("no panic happens while the flights are held")
    }

    async fn fetch(
        &self,
        reference: &str,
        image: &ImageReference,
        credentials: &[PullCredentials],
    ) -> Result<Entry, RuntimeError> {
        let failed = |why: String| RuntimeError::Pull {
            reference: reference.to_owned(),
            why,
        };
        let refused = |error: SourceError| failed(error.to_string());
        // What a digest names never changes: no need to ask for what is here.
        if let Some(entry) = image
            .digest
            .as_deref()
            .and_then(|digest| self.store.by_manifest(digest))
        {
            self.store
                .put(reference, entry.clone())
                .map_err(|error| failed(error.to_string()))?;
            return Ok(entry);
        }
        let source = self.sources.iter().find(|source| source.serves(&image.registry));
        let source = source.ok_or_else(|| failed(format!("no source for registry {}", image.registry)))?;
        let top = verified(
            source.resolve(image, credentials).await.map_err(refused)?,
            image.digest.as_deref(),
        )
        .map_err(&failed)?;
        let (mut manifest, mut depth) = (top.clone(), 0);
        let (module, size) = loop {
            match manifest::find(&manifest.bytes).map_err(&failed)? {
                Found::Module { digest, size } => break (digest, size),
                Found::Manifest { digest } => {
                    depth += 1;
                    if depth > INDEX_DEPTH {
                        return Err(failed("too many indexes within each other".into()));
                    }
                    let image = image.with_digest(&digest);
                    let found = source.resolve(&image, credentials).await.map_err(refused)?;
                    manifest = verified(found, Some(&digest)).map_err(&failed)?;
                }
            }
        };
        if size > limits::MODULE_BYTES_MAX {
            return Err(failed(format!(
                "the module is larger than {} bytes",
                limits::MODULE_BYTES_MAX
            )));
        }
        if !self.store.has(&module) {
            let stream = source.blob(image, &module, credentials).await.map_err(refused)?;
            let written = self.store.write(&module, limits::MODULE_BYTES_MAX, stream).await;
            written.map_err(|error| failed(error.to_string()))?;
        }
        let bytes = read_module(&self.store.blob(&module)).map_err(|error| failed(error.to_string()))?;
        let inspection = inspect(&bytes).map_err(|error| RuntimeError::Unrunnable { why: error.to_string() })?;
        let entry = Entry {
            manifest: top.digest,
            module,
            size: bytes.len() as u64,
            inspection,
        };
        self.store
            .put(reference, entry.clone())
            .map_err(|error| failed(error.to_string()))?;
        Ok(entry)
    }
}

/// The reference, parsed.
pub(crate) fn parse(reference: &str) -> Result<ImageReference, RuntimeError> {
    ImageReference::parse(reference).map_err(|why| RuntimeError::InvalidImageName {
        reference: reference.to_owned(),
        why,
    })
}

/// A manifest whose digest is what its bytes say, and what was asked for.
fn verified(manifest: ResolvedManifest, asked: Option<&str>) -> Result<ResolvedManifest, String> {
    if manifest.bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
        return Err("the manifest is too large".into());
    }
    let digest = digest_of(&manifest.bytes);
    match asked {
        Some(asked) if asked != digest => Err(format!("the manifest's digest is {digest}, not {asked}")),
        _ => Ok(ResolvedManifest {
            digest,
            bytes: manifest.bytes,
        }),
    }
}
