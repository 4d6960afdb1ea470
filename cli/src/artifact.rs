//! The standard WASM OCI artifact (CNCF TAG Runtime's "wasm OCI artifact layout"): a config that lists imports and
//! exports, one layer with the module, and the manifest that names both.

use anyhow::{Context, Result, bail};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skiff_runtime_wasm::{Inspection, Kind};

use crate::client;

pub const CONFIG_MEDIA_TYPE: &str = "application/vnd.wasm.config.v0+json";
pub const LAYER_MEDIA_TYPE: &str = "application/wasm";
const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Stands for the control plane's own registry in image references, wherever it is.
pub const BUILT_IN_REGISTRY: &str = "skiff.local";
/// Bytes of a module sent per request. Below the API server's limit on one body, so that modules of any size pass.
const UPLOAD_CHUNK_BYTES: usize = 2 << 20;

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let mut text = String::with_capacity(7 + 64);
    text.push_str("sha256:");
    for byte in hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A repository name and tag: `team/hello:v1`. The tag defaults to `latest`; the built-in registry's name may precede.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub repository: String,
    pub tag: String,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Self> {
        let name = text
            .strip_prefix(BUILT_IN_REGISTRY)
            .and_then(|rest| rest.strip_prefix('/'))
            .unwrap_or(text);
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good_part = |part: &str| {
            part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || "._-".contains(c))
        };
        if repository.len() > 255 || !repository.split('/').all(good_part) {
            bail!(
                "{text:?} is not an image name: want NAME:TAG, NAME of lower-case letters, digits and . _ - between \
                 slashes (registries other than the cluster's own are pushed to with oras or wkg)"
            );
        }
        if tag.is_empty() || tag.len() > 128 || !tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            bail!("{tag:?} in {text:?} is not a tag: want up to 128 letters, digits and . _ -");
        }
        Ok(Self {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// What a pod's `image` says.
    pub fn pullable(&self) -> String {
        format!("{BUILT_IN_REGISTRY}/{}:{}", self.repository, self.tag)
    }
}

/// The artifact's config: what a scheduler or a reader can know without the module.
pub fn config(module: &[u8], inspection: &Inspection) -> Value {
    let is_component = inspection.kind != Some(Kind::CoreP1);
    let os = if is_component { "wasip2" } else { "wasip1" };
    let mut config = json!({
        "architecture": "wasm",
        "os": os,
        "layerDigests": [digest(module)],
    });
    if is_component {
        config["component"] = json!({
            "imports": inspection.imports,
            "exports": inspection.exports,
        });
    }
    config
}

/// Pushes a module to the built-in registry; returns the manifest's digest. Blobs that are there already are not sent.
pub async fn push(client: &kube::Client, module: &[u8], inspection: &Inspection, to: &Reference) -> Result<String> {
    let config = serde_json::to_vec(&config(module, inspection)).context("write the artifact's config")?;
    push_blob(client, &to.repository, module)
        .await
        .context("push the module")?;
    push_blob(client, &to.repository, &config)
        .await
        .context("push the artifact's config")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": LAYER_MEDIA_TYPE, "digest": digest(module), "size": module.len()}],
    });
    let manifest = serde_json::to_vec(&manifest).context("write the manifest")?;
    let manifest_digest = digest(&manifest);
    let path = format!("/v2/{}/manifests/{}", to.repository, to.tag);
    let request = Request::put(&path)
        .header("content-type", MANIFEST_MEDIA_TYPE)
        .body(manifest.into())
        .context("build the request")?;
    expect(client::send(client, request).await?, &[StatusCode::CREATED], &path)?;
    Ok(manifest_digest)
}

async fn push_blob(client: &kube::Client, repository: &str, blob: &[u8]) -> Result<()> {
    let digest = digest(blob);
    let path = format!("/v2/{repository}/blobs/{digest}");
    let head = Request::head(&path)
        .body(kube::client::Body::empty())
        .context("build the request")?;
    if client::send(client, head).await?.status() == StatusCode::OK {
        return Ok(());
    }
    let path = format!("/v2/{repository}/blobs/uploads/");
    let start = Request::post(&path)
        .body(kube::client::Body::empty())
        .context("build the request")?;
    let answer = expect(client::send(client, start).await?, &[StatusCode::ACCEPTED], &path)?;
    let mut location = location(&answer)?;
    let mut offset = 0;
    for chunk in blob.chunks(UPLOAD_CHUNK_BYTES) {
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(&location)
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{offset}-{}", offset + chunk.len() - 1))
            .body(chunk.to_vec().into())
            .context("build the request")?;
        let answer = expect(client::send(client, request).await?, &[StatusCode::ACCEPTED], &location)?;
        location = self::location(&answer)?;
        offset += chunk.len();
    }
    let separator = if location.contains('?') { '&' } else { '?' };
    let finish = format!("{location}{separator}digest={digest}");
    let request = Request::put(&finish)
        .body(kube::client::Body::empty())
        .context("build the request")?;
    expect(client::send(client, request).await?, &[StatusCode::CREATED], &finish)?;
    Ok(())
}

/// The path of the Location header; whatever host it names, we stay with ours.
fn location(answer: &hyper::Response<Vec<u8>>) -> Result<String> {
    let value = answer
        .headers()
        .get("location")
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let uri: hyper::Uri = value
        .parse()
        .with_context(|| format!("the registry sent a bad Location {value:?}"))?;
    uri.path_and_query()
        .map(ToString::to_string)
        .context("the registry sent no Location")
}

fn expect(answer: hyper::Response<Vec<u8>>, good: &[StatusCode], what: &str) -> Result<hyper::Response<Vec<u8>>> {
    if good.contains(&answer.status()) {
        return Ok(answer);
    }
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let text = body["errors"][0]["message"]
        .as_str()
        .or(body["message"].as_str())
        .unwrap_or("no reason given");
    bail!("the registry refused {what} with {}: {text}", answer.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_and_bad_ones_named() {
        let parsed = Reference::parse("team/hello:v1").unwrap();
        assert_eq!(parsed.pullable(), "skiff.local/team/hello:v1");
        assert_eq!(
            Reference::parse("skiff.local/hello").unwrap().pullable(),
            "skiff.local/hello:latest"
        );
        for bad in ["", "Hello:v1", "hello:", "a//b:c", "hello:v 1", "-x:y"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(
            digest(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
