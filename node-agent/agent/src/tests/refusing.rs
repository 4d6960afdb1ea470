//! What cannot run, and how the user is told.

use serde_json::json;

use super::harness::Harness;

#[tokio::test]
async fn a_missing_config_map_is_named() {
    let harness = Harness::start().await;
    harness.create(
        "web",
        json!({ "containers": [{
        "name": "web", "image": "hello:v1", "envFrom": [{ "configMapRef": { "name": "c" } }]
    }] }),
    );
    let waiting = || harness.container("web")["state"]["waiting"].clone();
    harness
        .eventually("the reason", || waiting()["reason"] == "CreateContainerConfigError")
        .await;
    assert_eq!(waiting()["message"], "configmap \"c\" not found");
    let event = "Failed Error: configmap \"c\" not found".to_owned();
    harness
        .eventually("the event", || harness.api.events().contains(&event))
        .await;
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_holds_the_pod_until_it_can() {
    let harness = Harness::start().await;
    harness.create("web", json!({
        "volumes": [{ "name": "v", "secret": { "secretName": "s", "defaultMode": 420 } }],
        "containers": [{ "name": "web", "image": "hello:v1", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
    }));
    let event = "FailedMount MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found".to_owned();
    harness
        .eventually("the event", || harness.api.events().contains(&event))
        .await;
    assert_eq!(
        harness.container("web")["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    let metadata = json!({ "name": "s", "namespace": "default" });
    let secret = json!({ "metadata": metadata, "data": { "k": "dg==" } });
    harness.api.put("/api/v1/namespaces/default/secrets/s", secret);
    harness.running("web").await;
}

#[tokio::test]
async fn an_image_that_is_nowhere_shows_as_kubelet_shows_it() {
    let harness = Harness::start().await;
    harness.create(
        "web",
        json!({ "containers": [{ "name": "web", "image": "nowhere:v1" }] }),
    );
    let waiting = || harness.container("web")["state"]["waiting"].clone();
    harness
        .eventually("ErrImagePull", || waiting()["reason"] == "ErrImagePull")
        .await;
    let event = "Failed Failed to pull image \"nowhere:v1\": not found".to_owned();
    harness
        .eventually("the event", || harness.api.events().contains(&event))
        .await;
    harness
        .eventually("ImagePullBackOff", || waiting()["reason"] == "ImagePullBackOff")
        .await;
    assert_eq!(
        waiting()["message"],
        "Back-off pulling image \"nowhere:v1\": ErrImagePull: not found"
    );
}

#[tokio::test]
async fn a_pod_for_which_there_is_no_room_is_rejected() {
    let harness = Harness::start().await;
    harness.create(
        "big",
        json!({ "containers": [{
        "name": "web", "image": "hello:v1", "resources": { "requests": { "cpu": "10000" } }
    }] }),
    );
    harness
        .eventually("a verdict", || harness.pod("big")["status"]["phase"] == "Failed")
        .await;
    let status = harness.pod("big")["status"].clone();
    assert_eq!(status["reason"], "OutOfcpu");
    let message = status["message"].as_str().unwrap();
    let expected = "Pod was rejected: Node didn't have enough resource: cpu, requested: 10000000, used: 0, capacity: ";
    assert!(message.starts_with(expected), "{message}");
    // A rejected pod takes no room: three more fit, which is all that the node takes.
    for name in ["a", "b", "c"] {
        harness.create(name, json!({}));
        harness.running(name).await;
    }
    harness.create("d", json!({}));
    harness
        .eventually("a verdict", || harness.pod("d")["status"]["reason"] == "OutOfpods")
        .await;
}

#[tokio::test]
async fn an_unknown_runtime_class_is_named() {
    let harness = Harness::start().await;
    harness.create("web", json!({ "runtimeClassName": "other" }));
    let text = "FailedCreatePodSandBox Failed to create pod sandbox: failed to get sandbox runtime: \
                runtimeclass.node.k8s.io \"other\" not found";
    harness
        .eventually("the event", || harness.api.events().contains(&text.to_owned()))
        .await;
}
