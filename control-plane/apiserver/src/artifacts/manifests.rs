//! Manifests: images, indexes and artifacts, by tag and by digest.

use std::fs;

use hyper::Response;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};
use skiff_api::object::{list_at, str_at};

use super::error::{Code, OciError, answer};
use super::path::{Digest, Reference};
use super::storage::{MANIFEST_BYTES_MAX, Storage, names_in, remove, write_whole};
use super::{Call, next_bytes};
use crate::body::Body;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Descriptors in one manifest; image specs stay far below.
const DESCRIPTORS_MAX: usize = 10_000;

fn unknown() -> OciError {
    OciError::new(404, Code::ManifestUnknown, "manifest unknown to registry")
}

fn invalid(message: impl Into<String>) -> OciError {
    OciError::new(400, Code::ManifestInvalid, message)
}

/// The digest that a reference stands for, if the repository has it.
pub(super) fn resolve(storage: &Storage, name: &str, reference: &Reference) -> Result<Digest, OciError> {
    let digest = match reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(tag) => match fs::read_to_string(storage.tag_path(name, tag)) {
            Ok(text) => Digest::parse(&text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            Err(e) => return Err(e.into()),
        },
    };
    if storage.manifest_path(name, &digest).exists() {
        Ok(digest)
    } else {
        Err(unknown())
    }
}

pub(super) async fn get(storage: &Storage, name: &str, reference: &Reference) -> Result<Response<Body>, OciError> {
    let digest = resolve(storage, name, reference)?;
    let media_type = fs::read_to_string(storage.manifest_path(name, &digest))?;
    let content = fs::read(storage.blob_path(&digest)).map_err(|_| unknown())?;
    let digest = digest.to_string();
    let headers = [
        ("content-type", media_type.as_str()),
        ("docker-content-digest", &digest),
        ("etag", &format!("\"{digest}\"")),
        ("content-length", &content.len().to_string()),
    ];
    Ok(answer(200, &headers, Body::full(content)))
}

pub(super) async fn put(
    storage: &Storage,
    name: &str,
    reference: &Reference,
    call: Call,
) -> Result<(Response<Body>, Vec<String>), OciError> {
    let given_type = call
        .head
        .header(CONTENT_TYPE)
        .map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
    let mut body = call.body;
    let mut content = Vec::new();
    while let Some(data) = next_bytes(&mut body).await? {
        if content.len() + data.len() > MANIFEST_BYTES_MAX {
            let message = format!("a manifest may have at most {MANIFEST_BYTES_MAX} bytes");
            return Err(OciError::new(413, Code::SizeInvalid, message));
        }
        content.extend_from_slice(&data);
    }
    let digest = Digest::of(&content);
    if let Reference::Digest(wanted) = reference
        && *wanted != digest
    {
        let message = format!("provided digest {wanted} did not match uploaded content {digest}");
        return Err(OciError::new(400, Code::DigestInvalid, message));
    }
    let manifest: Value = serde_json::from_slice(&content).map_err(|e| invalid(format!("not JSON: {e}")))?;
    let media_type = media_type(&manifest, given_type.as_deref())?;

    storage.check_space()?;
    let _guard = storage.collecting.read().await;
    check_descriptors(storage, name, &manifest)?;
    storage.write_blob(&digest, content.clone()).await?;
    write_whole(storage.manifest_path(name, &digest), media_type.clone().into_bytes()).await?;
    let subject = manifest
        .get("subject")
        .map(|subject| Digest::parse(str_at(subject, "/digest")))
        .transpose()?;
    if let Some(subject) = &subject {
        let descriptor = descriptor(&manifest, &media_type, &digest, content.len()).to_string();
        write_whole(
            storage.referrers_path(name, subject).join(digest.hex()),
            descriptor.into_bytes(),
        )
        .await?;
    }
    // The tag last: it never names a manifest that is not there.
    if let Reference::Tag(tag) = reference {
        write_whole(storage.tag_path(name, tag), digest.to_string().into_bytes()).await?;
    }
    let digest = digest.to_string();
    let location = format!("/v2/{name}/manifests/{digest}");
    let mut headers = vec![
        ("location", location.as_str()),
        ("docker-content-digest", &digest),
        ("content-length", "0"),
    ];
    let subject = subject.map(|subject| subject.to_string());
    headers.extend(subject.as_deref().map(|subject| ("oci-subject", subject)));
    let layers = list_at(&manifest, "/layers").iter().filter(|layer| is_module(layer));
    let layers = layers.map(|layer| str_at(layer, "/digest").to_owned()).collect();
    Ok((answer(201, &headers, Body::empty()), layers))
}

/// Whether a layer says that it is WebAssembly: all media types in use for it do.
fn is_module(layer: &Value) -> bool {
    str_at(layer, "/mediaType").contains("wasm")
}

/// What the manifest calls itself must be what the request calls it.
fn media_type(manifest: &Value, given: Option<&str>) -> Result<String, OciError> {
    if !manifest.is_object() || manifest["schemaVersion"] != 2 {
        return Err(invalid("schemaVersion must be 2"));
    }
    let own = str_at(manifest, "/mediaType");
    match given.filter(|given| !given.is_empty()) {
        Some(given) if !own.is_empty() && own != given => Err(invalid(format!(
            "the manifest's mediaType {own:?} is not the Content-Type {given:?}"
        ))),
        Some(given) if given.is_ascii() && given.contains('/') => Ok(given.to_owned()),
        Some(_) => Err(invalid("the Content-Type is not a media type")),
        None if !own.is_empty() => Ok(own.to_owned()),
        None => Ok(OCI_MANIFEST.to_owned()),
    }
}

/// Everything that a manifest refers to must be in the repository: blobs, or for an index manifests. Layers that say where
/// else they are (`urls`) need not.
fn check_descriptors(storage: &Storage, name: &str, manifest: &Value) -> Result<(), OciError> {
    let children = list_at(manifest, "/manifests");
    let blobs = manifest
        .get("config")
        .into_iter()
        .chain(list_at(manifest, "/layers"))
        .chain(list_at(manifest, "/blobs"));
    if children.len() + list_at(manifest, "/layers").len() > DESCRIPTORS_MAX {
        return Err(invalid("too many descriptors"));
    }
    for blob in blobs.filter(|blob| list_at(blob, "/urls").is_empty()) {
        let digest = Digest::parse(str_at(blob, "/digest"))?;
        let Some(size) = storage.blob_size(name, &digest)? else {
            return Err(OciError::new(
                404,
                Code::ManifestBlobUnknown,
                format!("blob {digest} is not in the repository"),
            ));
        };
        if blob["size"].as_u64() != Some(size) {
            return Err(OciError::new(
                400,
                Code::SizeInvalid,
                format!("blob {digest} has {size} bytes"),
            ));
        }
    }
    for child in children {
        let digest = Digest::parse(str_at(child, "/digest"))?;
        if !storage.manifest_path(name, &digest).exists() {
            let message = format!("manifest {digest} is not in the repository");
            return Err(OciError::new(404, Code::ManifestBlobUnknown, message));
        }
    }
    Ok(())
}

/// How a manifest is listed among the referrers of its subject.
fn descriptor(manifest: &Value, media_type: &str, digest: &Digest, size: usize) -> Value {
    let mut descriptor = json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
    let own = str_at(manifest, "/artifactType");
    let artifact_type = if own.is_empty() {
        str_at(manifest, "/config/mediaType")
    } else {
        own
    };
    if !artifact_type.is_empty() {
        descriptor["artifactType"] = artifact_type.into();
    }
    if let Some(annotations) = manifest.get("annotations").filter(|a| a.is_object()) {
        descriptor["annotations"] = annotations.clone();
    }
    descriptor
}

/// A tag is untied from its manifest; a manifest goes with all its tags.
pub(super) async fn delete(storage: &Storage, name: &str, reference: &Reference) -> Result<Response<Body>, OciError> {
    let _guard = storage.collecting.read().await;
    match reference {
        Reference::Tag(tag) => {
            if !remove(&storage.tag_path(name, tag))? {
                return Err(unknown());
            }
        }
        Reference::Digest(digest) => {
            resolve(storage, name, reference)?;
            for tag in names_in(&storage.repository(name).join("_tags"))? {
                if fs::read_to_string(storage.tag_path(name, &tag)).is_ok_and(|text| text == digest.to_string()) {
                    remove(&storage.tag_path(name, &tag))?;
                }
            }
            let manifest: Option<Value> = fs::read(storage.blob_path(digest))
                .ok()
                .and_then(|content| serde_json::from_slice(&content).ok());
            let subject = manifest
                .as_ref()
                .map(|manifest| str_at(manifest, "/subject/digest"))
                .unwrap_or_default();
            if let Ok(subject) = Digest::parse(subject) {
                remove(&storage.referrers_path(name, &subject).join(digest.hex()))?;
            }
            remove(&storage.manifest_path(name, digest))?;
        }
    }
    Ok(answer(202, &[("content-length", "0")], Body::empty()))
}
