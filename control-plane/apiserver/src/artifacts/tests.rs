//! The registry as clients use it: pushing in every way, pulling, resuming, deleting, collecting.

use std::time::{Duration, SystemTime};

use hyper::Request;
use serde_json::{Value, json};

use super::path::Digest;
use super::*;
use crate::authn::UserInfo;
use crate::authn::testing::{Answer, TestServer, admin, node, user};

struct Client {
    test: TestServer,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Client {
    async fn start() -> Self {
        Self {
            test: TestServer::start().await,
        }
    }
    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.call_as(admin(), method, path, headers, body).await
    }
    async fn call_as(
        &self,
        user: UserInfo,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.test.send(user, request, body).await
    }
    async fn push_blob(&self, name: &str, content: &[u8]) -> String {
        let digest = Digest::of(content).to_string();
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.call("POST", &path, &[], content.to_vec()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        assert_eq!(answer.header("location"), format!("/v2/{name}/blobs/{digest}"));
        digest
    }
    async fn begin(&self, name: &str) -> String {
        let answer = self.call("POST", &format!("/v2/{name}/blobs/uploads/"), &[], "").await;
        assert_eq!(answer.status, 202);
        answer.header("location").to_owned()
    }
    /// Pushes config, layer and manifest; the manifest's digest.
    async fn push_image(&self, name: &str, tag: &str, layer: &[u8], extra: Value) -> String {
        let config = self.push_blob(name, b"{}").await;
        let layer_digest = self.push_blob(name, layer).await;
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/wasm", "digest": layer_digest, "size": layer.len()}],
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            manifest[key] = value.clone();
        }
        let path = format!("/v2/{name}/manifests/{tag}");
        let answer = self
            .call("PUT", &path, &[("content-type", MANIFEST)], manifest.to_string())
            .await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.header("docker-content-digest").to_owned()
    }
    fn registry(&self) -> Arc<Registry> {
        Registry::open(&self.test.directory.path().join("registry")).unwrap()
    }
}

fn code(answer: &Answer) -> String {
    skiff_api::object::str_at(&answer.json(), "/errors/0/code").to_owned()
}

#[tokio::test]
async fn an_image_is_pushed_and_pulled() {
    let client = Client::start().await;
    let digest = client.push_image("team/app", "v1", b"\0asm layer", json!({})).await;
    for reference in ["v1", &digest] {
        let path = format!("/v2/team/app/manifests/{reference}");
        for method in ["GET", "HEAD"] {
            let answer = client.call_as(user("reader", &[]), method, &path, &[], "").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), MANIFEST);
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
    }
    let layer = Digest::of(b"\0asm layer");
    let blob = format!("/v2/team/app/blobs/{layer}");
    let whole = client.call_as(node("n1"), "GET", &blob, &[], "").await;
    assert_eq!((whole.status, &whole.body[..]), (200, &b"\0asm layer"[..]));
    let part = client.call("GET", &blob, &[("range", "bytes=5-")], "").await;
    assert_eq!((part.status, &part.body[..]), (206, &b"layer"[..]));
    assert_eq!(part.header("content-range"), "bytes 5-9/10");
    let outside = client.call("GET", &blob, &[("range", "bytes=10-")], "").await;
    assert_eq!((outside.status, outside.header("content-range")), (416, "bytes */10"));
    // Another repository does not have it.
    let elsewhere = client.call("GET", &format!("/v2/other/blobs/{layer}"), &[], "").await;
    assert_eq!((elsewhere.status, code(&elsewhere).as_str()), (404, "BLOB_UNKNOWN"));
}

#[tokio::test]
async fn a_broken_upload_is_resumed() {
    let client = Client::start().await;
    let location = client.begin("app").await;
    let first = client
        .call(
            "PATCH",
            &location,
            &[("content-range", "0-3"), ("content-length", "4")],
            "abcd",
        )
        .await;
    assert_eq!((first.status, first.header("range")), (202, "0-3"));
    let status = client.call("GET", &location, &[], "").await;
    assert_eq!((status.status, status.header("range")), (204, "0-3"));
    let gap = client.call("PATCH", &location, &[("content-range", "6-7")], "gh").await;
    assert_eq!(
        (gap.status, gap.header("range"), gap.header("location")),
        (416, "0-3", location.as_str())
    );
    let again = client
        .call("PATCH", &location, &[("content-range", "0-3")], "abcd")
        .await;
    assert_eq!(again.status, 416);
    let second = client.call("PATCH", &location, &[("content-range", "4-5")], "ef").await;
    assert_eq!((second.status, second.header("range")), (202, "0-5"));
    let digest = Digest::of(b"abcdefgh");
    let done = client
        .call("PUT", &format!("{location}?digest={digest}"), &[], "gh")
        .await;
    assert_eq!(done.status, 201, "{:?}", done.body);
    let blob = client.call("GET", &format!("/v2/app/blobs/{digest}"), &[], "").await;
    assert_eq!(&blob.body[..], b"abcdefgh");
    let over = client.call("GET", &location, &[], "").await;
    assert_eq!((over.status, code(&over).as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn content_that_is_not_its_digest_is_refused() {
    let client = Client::start().await;
    let digest = Digest::of(b"expected");
    let whole = client
        .call(
            "POST",
            &format!("/v2/app/blobs/uploads/?digest={digest}"),
            &[],
            "something else",
        )
        .await;
    assert_eq!((whole.status, code(&whole).as_str()), (400, "DIGEST_INVALID"));
    let location = client.begin("app").await;
    let piece = client
        .call("PUT", &format!("{location}?digest={digest}"), &[], "something else")
        .await;
    assert_eq!((piece.status, code(&piece).as_str()), (400, "DIGEST_INVALID"));
    let missing = client.call("PUT", &client.begin("app").await, &[], "x").await;
    assert_eq!((missing.status, code(&missing).as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(
        client
            .call("GET", &format!("/v2/app/blobs/{digest}"), &[], "")
            .await
            .status,
        404
    );
    // An upload belongs to its repository.
    let location = client.begin("app").await;
    let stolen = location.replace("/app/", "/other/");
    assert_eq!(client.call("PATCH", &stolen, &[], "x").await.status, 404);
    assert_eq!(client.call("DELETE", &location, &[], "").await.status, 204);
    assert_eq!(client.call("PATCH", &location, &[], "x").await.status, 404);
}

#[tokio::test]
async fn manifests_are_checked() {
    let client = Client::start().await;
    let put = async |reference: &str, content_type: &str, body: &str| {
        let path = format!("/v2/app/manifests/{reference}");
        let answer = client
            .call("PUT", &path, &[("content-type", content_type)], body.to_owned())
            .await;
        (answer.status, code(&answer))
    };
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    assert_eq!(put("v1", MANIFEST, "not json").await, invalid);
    assert_eq!(put("v1", MANIFEST, r#"{"schemaVersion": 1}"#).await, invalid);
    let other_type = json!({"schemaVersion": 2, "mediaType": "application/x"}).to_string();
    assert_eq!(put("v1", MANIFEST, &other_type).await, invalid);
    let wrong = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        put(&wrong, MANIFEST, r#"{"schemaVersion": 2}"#).await,
        (400, "DIGEST_INVALID".to_owned())
    );
    let absent = json!({"schemaVersion": 2, "config": {"digest": wrong, "size": 2}}).to_string();
    assert_eq!(
        put("v1", MANIFEST, &absent).await,
        (404, "MANIFEST_BLOB_UNKNOWN".to_owned())
    );
    let config = client.push_blob("app", b"{}").await;
    let size = json!({"schemaVersion": 2, "config": {"digest": config, "size": 3}}).to_string();
    assert_eq!(put("v1", MANIFEST, &size).await, (400, "SIZE_INVALID".to_owned()));
    let huge = format!("{{\"schemaVersion\": 2, \"x\": \"{}\"}}", "x".repeat(5 << 20));
    assert_eq!(put("v1", MANIFEST, &huge).await, (413, "SIZE_INVALID".to_owned()));
    assert_eq!(client.call("GET", "/v2/app/manifests/v1", &[], "").await.status, 404);
}

#[tokio::test]
async fn mounting_saves_the_upload() {
    let client = Client::start().await;
    let digest = client.push_blob("a", b"shared").await;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(client.call("POST", &path, &[], "").await.status, 201);
    assert_eq!(
        &client.call("GET", &format!("/v2/b/blobs/{digest}"), &[], "").await.body[..],
        b"shared"
    );
    let absent = format!("/v2/b/blobs/uploads/?mount={}&from=a", Digest::of(b"absent"));
    assert_eq!(
        client.call("POST", &absent, &[], "").await.status,
        202,
        "an upload is opened instead"
    );
}

#[tokio::test]
async fn lists_have_pages() {
    let client = Client::start().await;
    for tag in ["c", "a", "b"] {
        client.push_image("x/app", tag, b"layer", json!({})).await;
    }
    client.push_image("other", "v1", b"layer", json!({})).await;
    let first = client.call("GET", "/v2/x/app/tags/list?n=2", &[], "").await;
    assert_eq!(first.json(), json!({"name": "x/app", "tags": ["a", "b"]}));
    assert_eq!(first.header("link"), "</v2/x/app/tags/list?n=2&last=b>; rel=\"next\"");
    let second = client.call("GET", "/v2/x/app/tags/list?n=2&last=b", &[], "").await;
    assert_eq!(
        (second.json()["tags"].clone(), second.header("link")),
        (json!(["c"]), "")
    );
    let catalog = client.call("GET", "/v2/_catalog", &[], "").await;
    assert_eq!(catalog.json(), json!({"repositories": ["other", "x/app"]}));
    let unknown = client.call("GET", "/v2/nothing/tags/list", &[], "").await;
    assert_eq!((unknown.status, code(&unknown).as_str()), (404, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn referrers_come_and_go_with_their_manifests() {
    let client = Client::start().await;
    let image = client.push_image("app", "v1", b"layer", json!({})).await;
    let subject = json!({"mediaType": MANIFEST, "digest": image, "size": 1});
    let extra = json!({"subject": subject, "artifactType": "application/sbom", "annotations": {"by": "test"}});
    let sbom = client.push_image("app", "sbom", b"sbom", extra).await;
    let list = async |query: &str| {
        client
            .call("GET", &format!("/v2/app/referrers/{image}{query}"), &[], "")
            .await
    };
    let all = list("").await;
    assert_eq!(all.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(all.json()["manifests"][0]["digest"], sbom.as_str());
    assert_eq!(all.json()["manifests"][0]["annotations"]["by"], "test");
    let filtered = list("?artifactType=application/other").await;
    assert_eq!(
        (
            filtered.header("oci-filters-applied"),
            filtered.json()["manifests"].clone()
        ),
        ("artifactType", json!([]))
    );
    assert_eq!(
        client
            .call("DELETE", &format!("/v2/app/manifests/{sbom}"), &[], "")
            .await
            .status,
        202
    );
    assert_eq!(list("").await.json()["manifests"], json!([]));
    assert_eq!(
        client.call("GET", "/v2/app/manifests/sbom", &[], "").await.status,
        404,
        "its tag went too"
    );
}

#[tokio::test]
async fn who_may_do_what() {
    let client = Client::start().await;
    client.push_image("app", "v1", b"layer", json!({})).await;
    let stranger = client.call_as(UserInfo::anonymous(), "GET", "/v2/", &[], "").await;
    assert_eq!(
        (stranger.status, stranger.header("www-authenticate")),
        (401, "Basic realm=\"skiff\"")
    );
    let stranger = client
        .call_as(UserInfo::anonymous(), "GET", "/v2/app/manifests/v1", &[], "")
        .await;
    assert_eq!((stranger.status, code(&stranger).as_str()), (401, "UNAUTHORIZED"));
    for who in [user("ann", &[]), node("n1")] {
        assert_eq!(
            client
                .call_as(who.clone(), "GET", "/v2/app/manifests/v1", &[], "")
                .await
                .status,
            200
        );
        for (method, path) in [
            ("POST", "/v2/app/blobs/uploads/"),
            ("PUT", "/v2/app/manifests/v2"),
            ("DELETE", "/v2/app/manifests/v1"),
        ] {
            let refused = client.call_as(who.clone(), method, path, &[], "").await;
            assert_eq!(
                (refused.status, code(&refused).as_str()),
                (403, "DENIED"),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn garbage_goes_and_what_is_needed_stays() {
    let client = Client::start().await;
    let image = client.push_image("app", "v1", b"layer", json!({})).await;
    client.push_blob("app", b"orphan").await;
    client.push_blob("only/blobs", b"another orphan").await;
    let upload = client.begin("app").await;
    let registry = client.registry();
    let now = SystemTime::now();
    assert_eq!(
        registry.collect(now).await.unwrap(),
        collector::Collected::default(),
        "young things are left alone"
    );

    let later = now + Duration::from_secs(3 * 3600);
    let collected = registry.collect(later).await.unwrap();
    assert_eq!(
        collected,
        collector::Collected {
            blobs: 2,
            bytes: 20,
            uploads: 0
        }
    );
    assert_eq!(
        client
            .call("GET", &format!("/v2/app/blobs/{}", Digest::of(b"layer")), &[], "")
            .await
            .status,
        200
    );
    assert_eq!(
        client
            .call("GET", &format!("/v2/app/blobs/{}", Digest::of(b"orphan")), &[], "")
            .await
            .status,
        404
    );
    assert_eq!(client.call("PATCH", &upload, &[], "still open").await.status, 202);

    let next_day = now + Duration::from_secs(30 * 3600);
    assert_eq!(registry.collect(next_day).await.unwrap().uploads, 1);
    assert_eq!(client.call("PATCH", &upload, &[], "x").await.status, 404);

    client
        .call("DELETE", &format!("/v2/app/manifests/{image}"), &[], "")
        .await;
    assert_eq!(
        registry.collect(next_day).await.unwrap().blobs,
        3,
        "config, layer and manifest"
    );
}
