//! What there is: the catalog, tags, and referrers.

use std::collections::BTreeSet;
use std::path::Path;

use hyper::Response;
use serde_json::{Value, json};

use super::Head;
use super::error::{Code, OciError, answer, header};
use super::path::Digest;
use super::storage::{Storage, names_in};
use crate::body::Body;

/// Page size when the client asks for none, and at most.
const PAGE: usize = 1000;
/// How deep repository names may nest; each level is a directory.
const DEPTH_MAX: usize = 16;

fn json_answer(content_type: &str, value: &Value) -> Response<Body> {
    answer(200, &[("content-type", content_type)], Body::full(value.to_string()))
}

/// `GET /v2/`: yes, this is a registry.
pub(super) fn version() -> Response<Body> {
    json_answer("application/json", &json!({}))
}

/// The page of `names` that `n` and `last` ask for, and the Link header when there is more.
fn page(names: Vec<String>, head: &Head) -> Result<(Vec<String>, Option<String>), OciError> {
    let limit = match head.query("n") {
        Some(n) => n
            .parse::<usize>()
            .map_err(|_| OciError::new(400, Code::Unsupported, "n must be a number of entries"))?
            .min(PAGE),
        None => PAGE,
    };
    let last = head.query("last").unwrap_or_default();
    let rest: Vec<String> = names
        .into_iter()
        .filter(|name| last.is_empty() || *name > last)
        .collect();
    let page: Vec<String> = rest.iter().take(limit).cloned().collect();
    let link = match page.last() {
        Some(last) if rest.len() > page.len() => Some(format!("<{}?n={limit}&last={last}>; rel=\"next\"", head.path())),
        _ => None,
    };
    Ok((page, link))
}

fn with_link(mut response: Response<Body>, link: Option<String>) -> Response<Body> {
    if let Some(link) = link {
        response.headers_mut().insert("link", header(&link));
    }
    response
}

pub(super) async fn tags(storage: &Storage, name: &str, head: &Head) -> Result<Response<Body>, OciError> {
    let tags = names_in(&storage.repository(name).join("_tags"))?;
    if tags.is_empty() && !storage.repository(name).join("_manifests").exists() {
        return Err(OciError::new(
            404,
            Code::NameUnknown,
            "repository name not known to registry",
        ));
    }
    let (tags, link) = page(tags, head)?;
    Ok(with_link(
        json_answer("application/json", &json!({"name": name, "tags": tags})),
        link,
    ))
}

pub(super) async fn catalog(storage: &Storage, head: &Head) -> Result<Response<Body>, OciError> {
    let (repositories, link) = page(repositories(storage)?.into_iter().collect(), head)?;
    Ok(with_link(
        json_answer("application/json", &json!({"repositories": repositories})),
        link,
    ))
}

/// Every repository that has a manifest.
pub(super) fn repositories(storage: &Storage) -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    walk(&storage.repositories_directory(), "", 0, &mut found)?;
    Ok(found)
}

fn walk(directory: &Path, name: &str, depth: usize, found: &mut BTreeSet<String>) -> std::io::Result<()> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    for entry in names_in(directory)? {
        if entry == "_manifests" && !names_in(&directory.join(&entry))?.is_empty() {
            found.insert(name.to_owned());
        }
        if !entry.starts_with('_') {
            let name = if name.is_empty() {
                entry.clone()
            } else {
                format!("{name}/{entry}")
            };
            walk(&directory.join(&entry), &name, depth + 1, found)?;
        }
    }
    Ok(())
}

pub(super) async fn referrers(
    storage: &Storage,
    name: &str,
    digest: &Digest,
    head: &Head,
) -> Result<Response<Body>, OciError> {
    let directory = storage.referrers_path(name, digest);
    let wanted = head.query("artifactType");
    let mut descriptors: Vec<Value> = Vec::new();
    for file in names_in(&directory)? {
        if let Ok(descriptor) = serde_json::from_slice::<Value>(&std::fs::read(directory.join(file))?) {
            descriptors.push(descriptor);
        }
    }
    if let Some(wanted) = &wanted {
        descriptors.retain(|descriptor| descriptor["artifactType"] == wanted.as_str());
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors});
    let mut response = json_answer(media_type, &index);
    if wanted.is_some() {
        response
            .headers_mut()
            .insert("oci-filters-applied", header("artifactType"));
    }
    Ok(response)
}
