//! What this server serves, told to clients: the aggregated document and the older ones, all derived from the list of
//! kinds and the resource table.

use std::collections::BTreeMap;

use hyper::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use skiff_api::kind::{self, ResourceInfo, api_version};
use skiff_api::status::{ApiResult, ApiStatus};

use crate::body::Body;
use crate::negotiate::{self, JSON};
use crate::server::ApiServer;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Rows that are served: kinds with a strategy, their `status`, and what plugins add.
pub(crate) fn served(server: &ApiServer) -> impl Iterator<Item = &'static ResourceInfo> {
    kind::all().iter().filter(|row| {
        let stored = server
            .registry
            .resource(row.group, row.resource)
            .is_some_and(|r| r.info.version == row.version);
        if stored && matches!(row.subresource, "" | "status") {
            return true;
        }
        server.plugins.subresources.iter().any(|plugin| {
            plugin.group() == row.group
                && plugin.subresource() == row.subresource
                && plugin.resources().contains(&row.resource)
        })
    })
}

/// Versions of a group with their rows.
type Versions = Vec<(&'static str, Vec<&'static ResourceInfo>)>;

/// Group → version → rows of resources and subresources, groups and versions in the order that clients should prefer.
fn groups(server: &ApiServer) -> Vec<(&'static str, Versions)> {
    let mut by_group: BTreeMap<&str, BTreeMap<&str, Vec<&'static ResourceInfo>>> = BTreeMap::new();
    for row in served(server) {
        by_group
            .entry(row.group)
            .or_default()
            .entry(row.version)
            .or_default()
            .push(row);
    }
    let priority = |rows: &[&'static ResourceInfo]| {
        rows.iter()
            .map(|r| (r.group_priority_minimum, r.version_priority))
            .max()
    };
    let mut groups: Vec<_> = by_group
        .into_iter()
        .map(|(group, versions)| {
            let mut versions: Vec<_> = versions.into_iter().collect();
            versions.sort_by_key(|(_, rows)| std::cmp::Reverse(priority(rows).map(|p| p.1)));
            (group, versions)
        })
        .collect();
    groups.sort_by_key(|(group, versions)| {
        let highest = versions
            .iter()
            .filter_map(|(_, rows)| priority(rows))
            .map(|p| p.0)
            .max();
        (std::cmp::Reverse(highest), *group)
    });
    groups
}

/// All served (group, version) pairs.
pub fn group_versions(server: &ApiServer) -> Vec<(&'static str, &'static str)> {
    let versions = |(group, versions): (&'static str, Vec<(&'static str, Vec<_>)>)| {
        versions
            .into_iter()
            .map(move |(version, _)| (group, version))
            .collect::<Vec<_>>()
    };
    groups(server).into_iter().flat_map(versions).collect()
}

/// Answers `/api…` and `/apis…` above resources.
pub fn handle(server: &ApiServer, segments: &[&str], parts: &Parts) -> ApiResult<Response<Body>> {
    match segments {
        ["api"] | ["apis"] => {
            let legacy = segments[0] == "api";
            match wanted(parts) {
                Wanted::Aggregated => Ok(aggregated(server, legacy, parts)),
                Wanted::Nothing => Err(ApiStatus::not_acceptable(format!(
                    "only the following media types are accepted: {JSON}, {}, {}",
                    negotiate::YAML,
                    negotiate::PROTOBUF
                ))),
                Wanted::Plain if legacy => negotiate::respond_object(parts, 200, &api_versions(server, parts)),
                Wanted::Plain => negotiate::respond_object(parts, 200, &group_list(server)),
            }
        }
        ["api", version] => resource_list(server, "", version, parts),
        ["apis", group] => match groups(server)
            .into_iter()
            .find(|(name, _)| name == group && !name.is_empty())
        {
            Some((group, versions)) => {
                let mut document = api_group(group, &versions);
                document["kind"] = "APIGroup".into();
                document["apiVersion"] = "v1".into();
                negotiate::respond_object(parts, 200, &document)
            }
            None => Ok(negotiate::text(404, "404 page not found\n")),
        },
        ["apis", group, version] => resource_list(server, group, version, parts),
        _ => Err(ApiStatus::no_such_path()),
    }
}

enum Wanted {
    Aggregated,
    Plain,
    Nothing,
}

/// The aggregated form is asked for by parameters of Accept; v2beta1 is gone in 1.36.
fn wanted(parts: &Parts) -> Wanted {
    let accept = parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !accept.contains("as=APIGroupDiscoveryList") {
        return Wanted::Plain;
    }
    for clause in accept.split(',') {
        let mut parameters: Vec<&str> = clause.split(';').map(str::trim).collect();
        let media = parameters.remove(0);
        if !matches!(media, JSON | "*/*") {
            continue;
        }
        let has = |parameter: &str| parameters.contains(&parameter);
        if has("as=APIGroupDiscoveryList") {
            if has("g=apidiscovery.k8s.io") && has("v=v2") {
                return Wanted::Aggregated;
            }
        } else {
            return Wanted::Plain;
        }
    }
    Wanted::Nothing
}

fn aggregated(server: &ApiServer, legacy: bool, parts: &Parts) -> Response<Body> {
    let items: Vec<Value> = groups(server)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == legacy)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, rows)| {
                    json!({"version": version, "freshness": "Current", "resources": aggregated_resources(rows)})
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({ "name": group })
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
    .to_string();
    let tag = format!("\"{}\"", hex(&Sha512::digest(body.as_bytes())).to_ascii_uppercase());
    let known = parts
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|given| given == tag);
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let form = negotiate::Form {
            gzip: negotiate::accepts_gzip(&parts.headers),
            ..negotiate::Form::PLAIN
        };
        let mut response = negotiate::respond_bytes(&form, 200, body.into());
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static(AGGREGATED));
        response
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn aggregated_resources(rows: &[&'static ResourceInfo]) -> Vec<Value> {
    let mut resources: BTreeMap<&str, Value> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.subresource.is_empty()) {
        let mut resource = json!({
            "resource": row.resource, "responseKind": response_kind(row), "scope": scope(row),
            "singularResource": row.singular, "verbs": row.verbs,
        });
        if !row.short_names.is_empty() {
            resource["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            resource["categories"] = json!(row.categories);
        }
        resources.insert(row.resource, resource);
    }
    for row in rows.iter().filter(|row| !row.subresource.is_empty()) {
        // A subresource may be served where its resource is not stored; Kubernetes then shows the resource without verbs.
        let resource = resources.entry(row.resource).or_insert_with(|| {
            json!({"resource": row.resource, "responseKind": null, "scope": scope(row), "singularResource": row.singular, "verbs": []})
        });
        let entry = json!({
            "subresource": row.subresource, "responseKind": response_kind(row), "verbs": row.verbs,
        });
        match resource.get_mut("subresources").and_then(Value::as_array_mut) {
            Some(list) => list.push(entry),
            None => resource["subresources"] = json!([entry]),
        }
    }
    resources.into_values().collect()
}

fn scope(row: &ResourceInfo) -> &'static str {
    if row.namespaced { "Namespaced" } else { "Cluster" }
}

/// Group and version are left empty where they are those of the document.
fn response_kind(row: &ResourceInfo) -> Value {
    if (row.kind_group, row.kind_version) == (row.group, row.version) {
        json!({"group": "", "version": "", "kind": row.kind})
    } else {
        json!({"group": row.kind_group, "version": row.kind_version, "kind": row.kind})
    }
}

fn api_versions(server: &ApiServer, parts: &Parts) -> Value {
    let versions: Vec<&str> = group_versions(server)
        .into_iter()
        .filter(|(group, _)| group.is_empty())
        .map(|(_, version)| version)
        .collect();
    let host = parts
        .headers
        .get("host")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let address = host
        .or_else(|| parts.uri.authority().map(ToString::to_string))
        .unwrap_or_else(|| server.config.public_url.trim_start_matches("https://").to_owned());
    json!({
        "kind": "APIVersions", "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn group_list(server: &ApiServer) -> Value {
    let groups: Vec<Value> = groups(server)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| api_group(group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn api_group(group: &str, versions: &[(&'static str, Vec<&'static ResourceInfo>)]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions[0]})
}

fn resource_list(server: &ApiServer, group: &str, version: &str, parts: &Parts) -> ApiResult<Response<Body>> {
    let rows: Vec<&ResourceInfo> = served(server)
        .filter(|row| row.group == group && row.version == version)
        .collect();
    if rows.is_empty() {
        return Ok(negotiate::text(404, "404 page not found\n"));
    }
    let mut resources: Vec<(String, Value)> = rows
        .into_iter()
        .map(|row| {
            let name = if row.subresource.is_empty() {
                row.resource.to_owned()
            } else {
                format!("{}/{}", row.resource, row.subresource)
            };
            (name.clone(), legacy_resource(row, &name))
        })
        .collect();
    resources.sort_by(|a, b| a.0.cmp(&b.0));
    let resources: Vec<Value> = resources.into_iter().map(|(_, resource)| resource).collect();
    let mut document = json!({
        "kind": "APIResourceList", "groupVersion": api_version(group, version), "resources": resources,
    });
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    negotiate::respond_object(parts, 200, &document)
}

fn legacy_resource(row: &ResourceInfo, name: &str) -> Value {
    let singular = if row.subresource.is_empty() { row.singular } else { "" };
    let mut resource = json!({
        "name": name, "singularName": singular, "namespaced": row.namespaced, "kind": row.kind, "verbs": row.verbs,
    });
    if (row.kind_group, row.kind_version) != (row.group, row.version) {
        resource["group"] = row.kind_group.into();
        resource["version"] = row.kind_version.into();
    }
    if !row.short_names.is_empty() {
        resource["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        resource["categories"] = json!(row.categories);
    }
    if !row.storage_version_hash.is_empty() && row.subresource.is_empty() {
        resource["storageVersionHash"] = row.storage_version_hash.into();
    }
    resource
}
