//! An agent that comes back, with and without the server.

use serde_json::json;
use skiff_runtime::RuntimeError;

use super::harness::Harness;

#[tokio::test]
async fn a_restarted_agent_adopts_its_pods() {
    let mut harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    harness.stop_agent().await;
    let before = harness.pod("web")["status"]["podIP"].clone();
    harness.runtime.take_calls();
    harness.start_agent().await;
    harness.create("other", json!({}));
    harness.running("other").await;
    let calls = harness.runtime.take_calls();
    let touched = calls.iter().any(|call| call.split(' ').nth(1) == Some("web"));
    assert!(!touched, "{calls:?}");
    assert_eq!(harness.container("web")["restartCount"], 0);
    assert_eq!(harness.pod("web")["status"]["podIP"], before);
    assert_ne!(harness.pod("other")["status"]["podIP"], before);
}

#[tokio::test]
async fn pods_live_on_without_the_server_and_over_a_restart_too() {
    let mut harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    harness.api.set_away(true);
    harness.runtime.exit("web", "web", 1, "Error", "");
    let started = "create_container web web attempt=1".to_owned();
    harness
        .eventually("a restart", || harness.runtime.take_calls().contains(&started))
        .await;
    harness.stop_agent().await;
    harness.runtime.lose_sandbox("web");
    harness.start_agent().await;
    // The server is still away; the second restart waits for its back-off, so its sandbox is what shows first.
    harness.api.set_away(false);
    harness
        .eventually("the news", || harness.container("web")["restartCount"] == 1)
        .await;
    let last = harness.container("web")["state"]["waiting"]["reason"].clone();
    assert_eq!(last, "CrashLoopBackOff");
}

#[tokio::test]
async fn a_pod_deleted_while_the_agent_was_away_ends_and_leftovers_go() {
    let mut harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.create("kept", json!({}));
    harness.running("web").await;
    harness.running("kept").await;
    harness.stop_agent().await;
    harness.api.remove(&Harness::path("web"));
    std::fs::create_dir_all(harness.directory.path().join("pods/stranger")).unwrap();
    harness.start_agent().await;
    let removed = || harness.runtime.take_calls().contains(&"remove_sandbox web".to_owned());
    harness.eventually("no sandbox", removed).await;
    harness
        .eventually("no leftovers", || {
            !harness.directory.path().join("pods/stranger").exists()
        })
        .await;
    harness.running("kept").await;
}

#[tokio::test]
async fn restart_counts_go_on_when_the_agents_data_is_lost() {
    let mut harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    harness.runtime.exit("web", "web", 1, "Error", "");
    harness
        .eventually("a restart", || harness.container("web")["restartCount"] == 1)
        .await;
    harness.running("web").await;
    harness.stop_agent().await;
    std::fs::remove_dir_all(harness.directory.path().join("checkpoints")).unwrap();
    harness.runtime.lose_sandbox("web");
    harness.start_agent().await;
    harness
        .eventually("another restart", || harness.container("web")["restartCount"] == 2)
        .await;
}

#[tokio::test]
async fn a_status_that_someone_else_changed_is_set_right() {
    let harness = Harness::start().await;
    harness.create("web", json!({}));
    harness.running("web").await;
    let ready = || {
        let conditions = harness.pod("web")["status"]["conditions"].clone();
        let all = conditions.as_array().unwrap().clone();
        all.iter().find(|condition| condition["type"] == "Ready").unwrap()["status"].clone()
    };
    let mut pod = harness.pod("web");
    for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
        condition["status"] = json!("False");
    }
    harness.api.put(&Harness::path("web"), pod);
    harness.eventually("Ready again", || ready() == "True").await;
}

#[tokio::test]
async fn a_container_starts_again_while_the_registry_is_out_of_reach() {
    let harness = Harness::start().await;
    let container = json!({ "name": "web", "image": "hello:v1", "imagePullPolicy": "Always" });
    harness.create("web", json!({ "containers": [container] }));
    harness.running("web").await;
    let error = RuntimeError::Pull {
        reference: "hello:v1".to_owned(),
        why: "i/o timeout".to_owned(),
    };
    harness.runtime.fail_next("ensure_image", error);
    harness.runtime.exit("web", "web", 1, "Error", "");
    harness
        .eventually("a restart", || harness.container("web")["restartCount"] == 1)
        .await;
    let event = "Failed Failed to pull image \"hello:v1\": i/o timeout".to_owned();
    harness
        .eventually("the event", || harness.api.events().contains(&event))
        .await;
}
