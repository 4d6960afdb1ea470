//! The documents as clients use them.

use std::collections::BTreeSet;

use serde_json::Value;
use skiff_api::object::str_at;

use crate::authn::testing::{TestServer, admin};

/// Every `$ref` of a document.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn check_references(document: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let target = document.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some_and(Value::is_object), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn every_v3_document_is_complete_and_cacheable() {
    let test = TestServer::start().await;
    let index = test.get(admin(), "/openapi/v3").await.json();
    let paths = index["paths"].as_object().unwrap();
    assert!(
        paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"),
        "{index}"
    );
    for (path, entry) in paths {
        let url = str_at(entry, "/serverRelativeURL");
        let answer = test.get(admin(), url).await;
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(answer.header("cache-control"), "public, immutable", "{path}");
        assert!(answer.header("expires").ends_with(" GMT"));
        let known = hyper::Request::get(url).header("if-none-match", answer.header("etag"));
        assert_eq!(test.send(admin(), known, "").await.status, 304, "{path}");
        check_references(&answer.json());
    }
    let stale = test.get(admin(), "/openapi/v3/api/v1?hash=OLD").await;
    assert_eq!(stale.status, 301);
    assert_eq!(
        stale.header("location"),
        str_at(&index, "/paths/api~1v1/serverRelativeURL")
    );
    assert_eq!(test.get(admin(), "/openapi/v3/apis/nothing/v1").await.status, 404);
}

#[tokio::test]
async fn patch_operations_tell_kubectl_what_the_server_can_do() {
    let test = TestServer::start().await;
    let document = test.get(admin(), "/openapi/v3/apis/apps/v1").await.json();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| str_at(p, "/name"))
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(str_at(patch, "/x-kubernetes-group-version-kind/kind"), "Deployment");
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["operationId"], "readAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["description"], "read scale of the specified Deployment");
    let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], serde_json::json!(["name"]));
    let spec = &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], serde_json::json!(["selector", "template"]));
    assert_eq!(spec["properties"]["template"]["default"], serde_json::json!({}));
}

#[tokio::test]
async fn v2_is_served_as_json_and_protobuf() {
    let test = TestServer::start().await;
    let json = test.get(admin(), "/openapi/v2").await;
    let document = json.json();
    check_references(&document);
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request = hyper::Request::get("/openapi/v2").header("accept", accept);
    let protobuf = test.send(admin(), request, "").await;
    assert_eq!(
        protobuf.header("content-type"),
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    // Walks the outermost message: swagger = 1, info = 2, paths = 8, definitions = 9.
    let mut rest = &protobuf.body[..];
    let varint = |rest: &mut &[u8]| {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    };
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        assert_eq!(key & 7, 2, "every field of the document is a message or text");
        let length = usize::try_from(varint(&mut rest)).unwrap();
        fields.push(key >> 3);
        rest = &rest[length..];
    }
    assert_eq!(fields, [1, 2, 8, 9]);
}

#[tokio::test]
async fn compressed_when_asked() {
    let test = TestServer::start().await;
    let request = hyper::Request::get("/openapi/v3/api/v1").header("accept-encoding", "gzip");
    let answer = test.send(admin(), request, "").await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut plain).unwrap();
    assert_eq!(plain, test.get(admin(), "/openapi/v3/api/v1").await.body);
}
