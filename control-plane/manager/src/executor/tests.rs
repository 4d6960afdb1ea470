//! What becomes of plans against an API server that refuses.

use super::*;
use crate::testing::FakeApi;

const PODS: &str = "/api/v1/namespaces/d/pods";

fn executor(api: &FakeApi) -> Executor {
    let requests = api.requests();
    Executor::new(requests.clone(), Recorder::start(requests, "test".into()))
}

fn pod(name: &str, owner: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "d", "ownerReferences": [{"uid": owner, "controller": true}]},
    })
}

fn target(name: &str, uid: &str) -> Target {
    Target {
        resource: Resource::POD,
        key: ObjectKey::new("d", name),
        uid: uid.into(),
        resource_version: None,
    }
}

#[tokio::test]
async fn a_creation_done_twice_is_done_and_a_strangers_name_is_a_collision() {
    let api = FakeApi::default();
    let create = [Action::create(Resource::POD, pod("a", "set"))];
    let first = executor(&api).run("test", &create).await;
    assert!(first.failure.is_none() && first.expected.len() == 1);
    let second = executor(&api).run("test", &create).await;
    assert!(second.failure.is_none() && second.expected.len() == 1);
    let other = executor(&api)
        .run("test", &[Action::create(Resource::POD, pod("a", "other"))])
        .await;
    let (failure, race) = other.failure.unwrap();
    assert_eq!((failure.verb, race), (FailedVerb::CreateCollision, false));
}

#[tokio::test]
async fn a_creation_without_an_answer_is_looked_up() {
    let create = [Action::create(Resource::POD, pod("a", "set"))];
    // The answer to the creation is lost, and then twice that to the question.
    let api = FakeApi::default();
    api.lose_replies(3);
    let done = executor(&api).run("test", &create).await;
    assert!(done.failure.is_none() && done.expected.len() == 1);
    // It did not arrive: a failure, with nothing to wait for.
    let api = FakeApi::default();
    api.lose_requests(1);
    let failed = executor(&api).run("test", &create).await;
    let (failure, race) = failed.failure.unwrap();
    assert_eq!((failure.verb, race), (FailedVerb::Create, false));
    assert!(failed.expected.is_empty());
}

#[tokio::test]
async fn the_first_failure_ends_the_plan_and_costs_few_requests() {
    let api = FakeApi::default();
    api.refuse_creations("exceeded quota");
    let many: Vec<Action> = (0..100)
        .map(|i| Action::create(Resource::POD, pod(&format!("p{i}"), "set")))
        .collect();
    let (failure, race) = executor(&api).run("test", &many).await.failure.unwrap();
    assert_eq!((failure.message.as_str(), race), ("exceeded quota", false));
    let attempts = api.log().iter().filter(|line| **line == format!("POST {PODS}")).count();
    assert_eq!(attempts, BATCH_FIRST);
}

#[tokio::test]
async fn creations_go_in_growing_batches_until_all_are_done() {
    let api = FakeApi::default();
    let many: Vec<Action> = (0..100)
        .map(|i| Action::create(Resource::POD, pod(&format!("p{i}"), "set")))
        .collect();
    let executed = executor(&api).run("test", &many).await;
    assert!(executed.failure.is_none());
    assert_eq!(executed.expected.len(), 100);
}

#[tokio::test]
async fn what_is_gone_counts_as_deleted_and_another_object_of_the_name_stays() {
    let api = FakeApi::default();
    assert!(
        executor(&api)
            .run("test", &[Action::delete(target("a", "old"))])
            .await
            .failure
            .is_none()
    );
    api.put(&format!("{PODS}/a"), json!({"metadata": {"name": "a", "uid": "new"}}));
    let (_, race) = executor(&api)
        .run("test", &[Action::delete(target("a", "old"))])
        .await
        .failure
        .unwrap();
    assert!(race);
    assert!(api.get(&format!("{PODS}/a")).is_some());
}

#[tokio::test]
async fn what_must_be_absent_stops_the_plan_when_it_is_there() {
    let api = FakeApi::default();
    api.put(
        &format!("{PODS}/owner"),
        json!({"metadata": {"name": "owner", "uid": "o"}}),
    );
    api.put(
        &format!("{PODS}/dependent"),
        json!({"metadata": {"name": "dependent", "uid": "d"}}),
    );
    let plan = |uid| {
        [
            Action::ConfirmAbsent {
                target: target("owner", uid),
            },
            Action::delete(target("dependent", "d")),
        ]
    };
    assert!(executor(&api).run("test", &plan("o")).await.failure.is_some());
    assert!(api.get(&format!("{PODS}/dependent")).is_some());
    // The same name with another uid is another object.
    assert!(executor(&api).run("test", &plan("before")).await.failure.is_none());
    assert!(api.get(&format!("{PODS}/dependent")).is_none());
}

#[tokio::test]
async fn a_patch_carries_its_preconditions() {
    let api = FakeApi::default();
    api.put(&format!("{PODS}/a"), json!({"metadata": {"name": "a", "uid": "u"}}));
    let patch = |version: &str| {
        let target = Target {
            resource_version: Some(version.into()),
            ..target("a", "u")
        };
        [Action::patch_status(target, json!({"status": {"phase": "Failed"}}))]
    };
    let (_, race) = executor(&api).run("test", &patch("7")).await.failure.unwrap();
    assert!(race);
    assert!(executor(&api).run("test", &patch("1")).await.failure.is_none());
    assert_eq!(api.get(&format!("{PODS}/a")).unwrap()["status"]["phase"], "Failed");
}
