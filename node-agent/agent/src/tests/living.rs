//! A pod's life from binding to deletion.

use serde_json::json;
use skiff_runtime::Runtime;
use skiff_runtime::fake::Behaviour;

use super::harness::Harness;

#[tokio::test]
async fn a_bound_pod_runs_and_its_status_and_events_tell() {
    let harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    let status = harness.pod("web")["status"].clone();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert!(
        status["podIP"].as_str().is_some_and(|ip| ip.ends_with(".42.0.2")),
        "{status}"
    );
    assert_eq!(status["containerStatuses"][0]["imageID"], "hello@sha256:fake-hello:v1");
    let ready = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == "Ready");
    assert_eq!(ready.unwrap()["status"], "True");
    let expected = [
        "Pulled Container image \"hello:v1\" already present on machine and can be accessed by the pod",
        "Created Container created",
        "Started Container started",
    ];
    harness
        .eventually("the events", || harness.api.events() == expected)
        .await;
}

#[tokio::test]
async fn an_ended_container_starts_again() {
    let harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    harness.runtime.exit("web", "web", 3, "Error", "boom");
    harness
        .eventually("a restart", || harness.container("web")["restartCount"] == 1)
        .await;
    harness.running("web").await;
    assert_eq!(harness.container("web")["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(harness.container("web")["lastState"]["terminated"]["message"], "boom");
}

#[tokio::test]
async fn a_deleted_pod_leaves_nothing_behind() {
    let harness = Harness::start().await;
    harness.create(
        "web",
        json!({ "volumes": [{ "name": "v", "emptyDir": {} }], "containers": [{
        "name": "web", "image": "hello:v1", "volumeMounts": [{ "name": "v", "mountPath": "/v" }]
    }] }),
    );
    harness.running("web").await;
    let directory = harness.directory.path().join("pods/web");
    assert!(directory.join("volumes/v").exists());
    harness.delete("web");
    harness
        .eventually("the pod's end", || harness.pod("web").is_null())
        .await;
    let log = harness.api.log();
    let deletion = log.iter().find(|line| line.starts_with("DELETE")).unwrap();
    assert!(
        deletion.contains("\"gracePeriodSeconds\":0") && deletion.contains("\"uid\":\"web\""),
        "{deletion}"
    );
    assert!(!directory.exists());
    let checkpoint = harness.directory.path().join("checkpoints/web.json");
    harness.eventually("no checkpoint", || !checkpoint.exists()).await;
    let calls = harness.runtime.take_calls();
    assert!(
        calls.contains(&"stop_container web web grace=30".to_owned()),
        "{calls:?}"
    );
    assert!(calls.contains(&"remove_sandbox web".to_owned()), "{calls:?}");
    harness
        .eventually("Killing", || {
            harness
                .api
                .events()
                .contains(&"Killing Stopping container web".to_owned())
        })
        .await;
}

#[tokio::test]
async fn a_pod_removed_by_force_ends_here_too() {
    let harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    harness.api.remove(&Harness::path("web"));
    let removed = || harness.runtime.take_calls().contains(&"remove_sandbox web".to_owned());
    harness.eventually("no sandbox", removed).await;
}

#[tokio::test]
async fn volumes_and_variables_come_from_the_api() {
    let harness = Harness::start().await;
    let metadata = json!({ "name": "c", "namespace": "default" });
    let map = json!({ "metadata": metadata, "data": { "mode": "fast" } });
    harness.api.put("/api/v1/namespaces/default/configmaps/c", map);
    let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } });
    let root = json!({ "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } });
    let field = json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" }, "path": "namespace" });
    let sources = json!([token, root, { "downwardAPI": { "items": [field] } }]);
    harness.create(
        "web",
        json!({
            "volumes": [
                { "name": "c", "configMap": { "name": "c", "defaultMode": 420 } },
                { "name": "api", "projected": { "sources": sources, "defaultMode": 420 } },
            ],
            "containers": [{
                "name": "web", "image": "hello:v1", "args": ["--mode=$(MODE)"],
                "env": [
                    { "name": "MODE", "valueFrom": { "configMapKeyRef": { "name": "c", "key": "mode" } } },
                    { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                ],
                "volumeMounts": [{ "name": "c", "mountPath": "/c" }, { "name": "api", "mountPath": "/api" }],
            }],
        }),
    );
    harness.running("web").await;
    let spec = harness.runtime.spec("web", "web").unwrap();
    assert_eq!(spec.args, ["web", "--mode=fast"]);
    assert_eq!(spec.env[0], ("MODE".to_owned(), "fast".to_owned()));
    assert!(spec.env.contains(&("HOSTNAME".to_owned(), "web".to_owned())));
    assert_eq!(spec.env[1].1, harness.pod("web")["status"]["podIP"].as_str().unwrap());
    let read = |mount: usize, file: &str| std::fs::read_to_string(spec.mounts[mount].host_path.join(file)).unwrap();
    assert!(spec.mounts[0].read_only);
    assert_eq!(read(0, "mode"), "fast");
    assert_eq!(read(1, "token"), "a-token");
    assert_eq!(read(1, "namespace"), "default");
    assert!(read(1, "ca.crt").starts_with("-----BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn an_exec_hook_after_the_start_ends_the_container_and_says_why() {
    let harness = Harness::start().await;
    let hook = json!({ "postStart": { "exec": { "command": ["true"] } } });
    harness.create(
        "web",
        json!({ "restartPolicy": "Never", "containers": [{ "name": "web", "image": "hello:v1", "lifecycle": hook }] }),
    );
    harness
        .eventually("the pod's end", || harness.pod("web")["status"]["phase"] == "Failed")
        .await;
    let told = "FailedPostStartHook PostStartHook failed: exec hooks are not available for WASM containers, use sleep or \
                httpGet";
    harness
        .eventually("the event", || harness.api.events().iter().any(|event| event == told))
        .await;
}

#[tokio::test]
async fn images_of_pods_outlive_garbage_collection() {
    let harness = Harness::start().await;
    harness.runtime.add_image("old:v1", true, Behaviour::Runs);
    harness
        .runtime
        .add_image("setup:v1", true, Behaviour::Exits { code: 0 });
    harness.create(
        "web",
        json!({ "initContainers": [{ "name": "setup", "image": "setup:v1" }] }),
    );
    harness.running("web").await;
    crate::image_gc::collect(harness.agent.as_ref().expect("it runs").pods()).await;
    let present = async |image: &str| harness.runtime.ensure_image(image, false, &[]).await.is_ok();
    assert!(present("hello:v1").await && present("setup:v1").await);
    assert!(!present("old:v1").await);
}
