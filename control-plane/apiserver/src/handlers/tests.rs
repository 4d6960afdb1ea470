//! The verbs end to end, in process: one story a test.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::{Value, json};

use crate::body::Body;
use crate::test_server::TestServer;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// The lines of a watch, until it ends.
async fn lines(body: Body) -> Vec<Value> {
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The next line of a watch.
async fn line(body: &mut Body) -> Value {
    let frame = tokio::time::timeout(std::time::Duration::from_secs(20), body.frame())
        .await
        .expect("a line in time");
    serde_json::from_slice(&frame.unwrap().unwrap().into_data().unwrap()).unwrap()
}

async fn open(server: &TestServer, path: &str) -> Body {
    let response = server
        .send(Request::get(path).body(Full::new(Bytes::new())).unwrap())
        .await;
    assert_eq!(response.status(), 200);
    response.into_body()
}

fn shown(event: &Value) -> (&str, &str) {
    (
        event["type"].as_str().unwrap(),
        event["object"]["metadata"]["name"].as_str().unwrap_or(""),
    )
}

#[tokio::test]
async fn an_object_lives_and_dies() {
    let server = TestServer::start().await;
    let made = server.ok(&format!("POST {MAPS}"), map("m", json!({}))).await;
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["resourceVersion"].is_string());
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "test");

    let (code, twice) = server.call(&format!("POST {MAPS}"), map("m", json!({}))).await;
    assert_eq!(
        (code, twice["message"].as_str().unwrap()),
        (409, "configmaps \"m\" already exists")
    );

    assert_eq!(server.ok(&format!("GET {MAPS}/m"), None).await, made);

    // The same again changes nothing, not even the version.
    let mut same = made.clone();
    assert_eq!(server.ok(&format!("PUT {MAPS}/m"), same.clone()).await, made);
    same["data"]["b"] = "2".into();
    let changed = server.ok(&format!("PUT {MAPS}/m"), same.clone()).await;
    assert_ne!(
        changed["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let (code, stale) = server.call(&format!("PUT {MAPS}/m"), same).await;
    assert_eq!((code, stale["reason"].as_str().unwrap()), (409, "Conflict"));

    let gone = server.ok(&format!("DELETE {MAPS}/m"), None).await;
    assert_eq!(
        gone["details"],
        json!({"name": "m", "kind": "configmaps", "uid": made["metadata"]["uid"]})
    );
    let (code, missing) = server.call(&format!("GET {MAPS}/m"), None).await;
    assert_eq!(
        (code, missing["message"].as_str().unwrap()),
        (404, "configmaps \"m\" not found")
    );
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let server = TestServer::start().await;
    server.ok(&format!("POST {MAPS}?dryRun=All"), map("m", json!({}))).await;
    assert_eq!(server.call(&format!("GET {MAPS}/m"), None).await.0, 404);
    server.ok(&format!("POST {MAPS}"), map("m", json!({}))).await;
    server.ok(&format!("DELETE {MAPS}/m"), json!({"dryRun": ["All"]})).await;
    server.ok(&format!("GET {MAPS}/m"), None).await;
    assert_eq!(
        server
            .call(&format!("POST {MAPS}?dryRun=Odd"), map("n", json!({})))
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_dropped() {
    let server = TestServer::start().await;
    let mut odd = map("m", json!({}));
    odd["bogus"] = 1.into();
    let (code, status) = server
        .call(&format!("POST {MAPS}?fieldValidation=Strict"), odd.clone())
        .await;
    assert_eq!(code, 400);
    assert_eq!(
        status["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"bogus\""
    );
    let request = Request::post(MAPS)
        .body(Full::new(Bytes::from(odd.to_string())))
        .unwrap();
    let response = server.send(request).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"bogus\\\"\"");
}

#[tokio::test]
async fn a_list_comes_in_pages_of_one_state() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        server
            .ok(
                &format!("POST {MAPS}"),
                map(name, json!({"even": (name == "b" || name == "d").to_string()})),
            )
            .await;
    }
    let first = server.ok(&format!("GET {MAPS}?limit=2"), None).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    assert!(first["items"][0].get("kind").is_none(), "items of a list carry no kind");
    // What happens meanwhile does not show.
    server.ok(&format!("DELETE {MAPS}/c"), None).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.ok(&format!("GET {MAPS}?limit=2&continue={token}"), None).await;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = server.ok(&format!("GET {MAPS}?limit=2&continue={token}"), None).await;
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"].get("continue").is_none());

    let selected = server
        .ok(&format!("GET {MAPS}?labelSelector=even%3Dtrue&limit=1"), None)
        .await;
    assert_eq!(names(&selected), ["b"]);
    assert!(selected["metadata"].get("remainingItemCount").is_none());
    let by_name = server
        .ok(&format!("GET {MAPS}?fieldSelector=metadata.name%3De"), None)
        .await;
    assert_eq!(names(&by_name), ["e"]);
}

#[tokio::test]
async fn a_version_of_the_future_times_out_and_a_match_needs_a_version() {
    let server = TestServer::start().await;
    let (code, status) = server
        .call(&format!("GET {MAPS}?resourceVersionMatch=Exact"), None)
        .await;
    assert_eq!(code, 422, "{status}");
    let (code, _) = server.call(&format!("GET {MAPS}?resourceVersion=x"), None).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn a_watch_shows_what_enters_and_leaves_its_view() {
    let server = TestServer::start().await;
    server
        .ok(&format!("POST {MAPS}"), map("before", json!({"w": "1"})))
        .await;
    let mut watch = open(
        &server,
        &format!("{MAPS}?watch=true&labelSelector=w%3D1&timeoutSeconds=60"),
    )
    .await;
    assert_eq!(shown(&line(&mut watch).await), ("ADDED", "before"));
    server
        .ok(&format!("POST {MAPS}"), map("other", json!({"w": "2"})))
        .await;
    server
        .ok(&format!("PUT {MAPS}/other"), map("other", json!({"w": "1"})))
        .await;
    assert_eq!(shown(&line(&mut watch).await), ("ADDED", "other"));
    let left = server.ok(&format!("PUT {MAPS}/other"), map("other", json!({}))).await;
    let event = line(&mut watch).await;
    assert_eq!(shown(&event), ("DELETED", "other"));
    assert_eq!(
        event["object"]["metadata"]["labels"],
        json!({"w": "1"}),
        "shown as it last matched"
    );
    assert_eq!(
        event["object"]["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    server.ok(&format!("DELETE {MAPS}/before"), None).await;
    assert_eq!(shown(&line(&mut watch).await), ("DELETED", "before"));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = TestServer::start().await;
    server.ok(&format!("POST {MAPS}"), map("m", json!({}))).await;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let all = lines(open(&server, &path).await).await;
    assert_eq!(shown(&all[0]), ("ADDED", "m"));
    assert_eq!(all[1]["type"], "BOOKMARK");
    assert_eq!(
        all[1]["object"]["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
    let (code, _) = server
        .call(&format!("GET {MAPS}?watch=true&sendInitialEvents=true"), None)
        .await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn every_kind_of_patch_changes_the_object() {
    let server = TestServer::start().await;
    server.ok(&format!("POST {MAPS}"), map("m", json!({}))).await;
    let patch = format!("PATCH {MAPS}/m");
    for (content_type, body) in [
        (
            "application/json-patch+json",
            json!([{"op": "add", "path": "/data/json", "value": "1"}]),
        ),
        ("application/merge-patch+json", json!({"data": {"merge": "1"}})),
        (
            "application/strategic-merge-patch+json",
            json!({"data": {"strategic": "1"}}),
        ),
    ] {
        let (code, value) = server.call_with(&patch, content_type, body.to_string()).await;
        assert_eq!(code, 200, "{content_type}: {value}");
    }
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"apply": "1"}});
    let apply = "application/apply-patch+yaml";
    let (code, value) = server
        .call_with(&format!("{patch}?fieldManager=me"), apply, applied.to_string())
        .await;
    assert_eq!(code, 200, "{value}");
    assert_eq!(
        value["data"],
        json!({"a": "1", "json": "1", "merge": "1", "strategic": "1", "apply": "1"})
    );

    let (code, status) = server.call_with(&patch, apply, applied.to_string()).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    assert_eq!(server.call_with(&patch, "text/plain", "{}".into()).await.0, 415);
}

#[tokio::test]
async fn apply_creates_and_finds_conflicts() {
    let server = TestServer::start().await;
    let apply = "application/apply-patch+yaml";
    let one = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}});
    let (code, _) = server
        .call_with(&format!("PATCH {MAPS}/m?fieldManager=m1"), apply, one.to_string())
        .await;
    assert_eq!(code, 201);
    let two = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "2"}});
    let (code, status) = server
        .call_with(&format!("PATCH {MAPS}/m?fieldManager=m2"), apply, two.to_string())
        .await;
    assert_eq!(code, 409);
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"m1\": .data.a"
    );
    let (code, _) = server
        .call_with(
            &format!("PATCH {MAPS}/m?fieldManager=m2&force=true"),
            apply,
            two.to_string(),
        )
        .await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn a_finalizer_delays_the_end() {
    let server = TestServer::start().await;
    let mut object = map("m", json!({}));
    object["metadata"]["finalizers"] = json!(["test.example/x"]);
    server.ok(&format!("POST {MAPS}"), object).await;
    let marked = server.ok(&format!("DELETE {MAPS}/m"), None).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let (code, status) = server.call(&format!("POST {MAPS}"), map("m", json!({}))).await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (409, "object is being deleted: configmaps \"m\" already exists")
    );
    let body = json!({"metadata": {"finalizers": null}}).to_string();
    server
        .call_with(&format!("PATCH {MAPS}/m"), "application/merge-patch+json", body)
        .await;
    assert_eq!(server.call(&format!("GET {MAPS}/m"), None).await.0, 404);
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let server = TestServer::start().await;
    for (name, label) in [("a", "1"), ("b", "2"), ("c", "1")] {
        server.ok(&format!("POST {MAPS}"), map(name, json!({"w": label}))).await;
    }
    let list = server.ok(&format!("DELETE {MAPS}?labelSelector=w%3D1"), None).await;
    assert_eq!(names(&list), ["a", "c"]);
    assert_eq!(
        names(&server.ok(&format!("GET {MAPS}?labelSelector=w"), None).await),
        ["b"]
    );
}

#[tokio::test]
async fn tables_and_metadata_are_other_shapes_of_the_same() {
    let server = TestServer::start().await;
    server.ok(&format!("POST {MAPS}"), map("m", json!({}))).await;
    for (accept, kind) in [
        ("application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "PartialObjectMetadataList",
        ),
    ] {
        let request = Request::get(MAPS)
            .header("accept", accept)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let bytes = server
            .send(request)
            .await
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["kind"], kind);
    }
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist() {
    let server = TestServer::start().await;
    for (line, code) in [
        ("GET /api/v1/nothing", 404),
        ("GET /api/v2/pods", 404),
        ("POST /api/v1/pods", 405),
        ("DELETE /api/v1/namespaces", 405),
        ("GET /api/v1/namespaces/default/nodes", 404),
        ("GET /apis/none", 404),
        ("GET /elsewhere", 404),
        ("GET /healthz", 200),
        ("GET /version/", 200),
    ] {
        assert_eq!(server.call(line, None).await.0, code, "{line}");
    }
}

#[tokio::test]
async fn names_are_made_and_checked() {
    let server = TestServer::start().await;
    let made = server
        .ok(&format!("POST {MAPS}"), json!({"metadata": {"generateName": "web-"}}))
        .await;
    assert_eq!(made["metadata"]["name"].as_str().unwrap().len(), 9);
    let (code, status) = server.call(&format!("POST {MAPS}"), json!({"metadata": {}})).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    let (code, _) = server
        .call(
            &format!("POST {MAPS}"),
            json!({"metadata": {"name": "a", "namespace": "other"}}),
        )
        .await;
    assert_eq!(code, 400);
    let (code, status) = server
        .call(&format!("PUT {MAPS}/a"), json!({"metadata": {"name": "b"}}))
        .await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (400, "the name of the object (b) does not match the name on the URL (a)")
    );
}
