//! Plans of Deployments, as text.

use expect_test::expect;
use serde_json::{Value, json};

use super::*;
use crate::testing::{describe, from_yaml, now, yaml};

fn ctx() -> Context {
    Context {
        now: now(),
        failure: None,
    }
}

fn deployment(replicas: i32, image: &str, more: &str) -> Value {
    let mut object = yaml(&format!(
        "metadata: {{name: web, namespace: d, uid: dep, resourceVersion: '10', generation: 2}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  revisionHistoryLimit: 10
  progressDeadlineSeconds: 600
  strategy: {{type: RollingUpdate, rollingUpdate: {{maxSurge: 25%, maxUnavailable: 25%}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: '{image}'}}]}}}}"
    ));
    merge(&mut object, &yaml(more));
    object
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, Value::Null) if into.is_object() => {}
        (into, from) => *into = from.clone(),
    }
}

/// A set of the Deployment with as many pods as wanted, of which `available` serve.
fn set(name: &str, image: &str, replicas: i32, available: i32, revision: i64, desired: i32) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "d", "uid": name, "resourceVersion": "5", "generation": 1,
            "creationTimestamp": format!("2026-01-01T0{revision}:00:00Z"),
            "labels": {"app": "web", "pod-template-hash": name},
            "annotations": {
                "deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": (desired + (desired + 3) / 4).to_string(),
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "dep", "controller": true}],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": name}},
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": name}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
        "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available, "terminatingReplicas": 0, "observedGeneration": 1},
    })
}

fn world(deployment: Value, sets: Vec<Value>) -> World {
    World {
        deployment: Arc::new(serde_json::from_value(deployment).unwrap()),
        sets: sets
            .into_iter()
            .map(|set| Arc::new(serde_json::from_value(set).unwrap()))
            .collect(),
        pods: vec![],
    }
}

/// The plan without the status, which has tests of its own.
fn actions(world: &World) -> String {
    let mut plan = reconcile(world, &ctx());
    plan.status = None;
    plan.requeue_after = None;
    describe(&plan)
}

fn status(world: &World) -> Value {
    match reconcile(world, &ctx()).status {
        Some(Action::Patch { patch, .. }) => patch["status"].clone(),
        _ => Value::Null,
    }
}

fn condition(status: &Value, kind: &str) -> String {
    let list = status["conditions"].as_array().cloned().unwrap_or_default();
    let one = list.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    format!(
        "{} {} {}",
        one["status"].as_str().unwrap_or(""),
        one["reason"].as_str().unwrap_or(""),
        one["message"].as_str().unwrap_or("")
    )
}

#[test]
fn a_new_deployment_makes_its_set() {
    let new = world(deployment(3, "x:1", ""), vec![]);
    let plan = reconcile(&new, &ctx());
    expect![[r#"
        create ReplicaSet d/web-5xcszvbh6f
          then Normal ScalingReplicaSet Deployment web: Scaled up replica set web-5xcszvbh6f from 0 to 3
        report Changing("replica sets towards 3 replicas")
    "#]]
    .assert_eq(&actions(&new));
    let Action::Create { object, .. } = &plan.actions[0] else {
        panic!("no set")
    };
    expect![[r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"3","deployment.kubernetes.io/max-replicas":"4","deployment.kubernetes.io/revision":"1"},"labels":{"app":"web","pod-template-hash":"5xcszvbh6f"},"name":"web-5xcszvbh6f","namespace":"d","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"Deployment","name":"web","uid":"dep"}]},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web","pod-template-hash":"5xcszvbh6f"}},"template":{"metadata":{"labels":{"app":"web","pod-template-hash":"5xcszvbh6f"}},"spec":{"containers":[{"image":"x:1","name":"c"}]}}}}"#]]
        .assert_eq(&object.to_string());
    let status = status(&new);
    assert_eq!(
        condition(&status, "Progressing"),
        r#"True NewReplicaSetCreated Created new replica set "web-5xcszvbh6f""#
    );
    assert_eq!(
        condition(&status, "Available"),
        "False MinimumReplicasUnavailable Deployment does not have minimum availability."
    );
    assert_eq!(status["unavailableReplicas"], 3);
}

#[test]
fn a_rolling_update_goes_step_by_step() {
    let old = |replicas, available| set("old", "x:1", replicas, available, 1, 4);
    let new = |replicas, available| set("new", "x:2", replicas, available, 2, 4);
    let at = |sets| {
        actions(&world(
            deployment(
                4,
                "x:2",
                "{metadata: {annotations: {deployment.kubernetes.io/revision: '2'}}}",
            ),
            sets,
        ))
    };
    assert!(at(vec![old(4, 4)]).contains("from 0 to 1"));
    expect![[r#"
        patch ReplicaSet d/old uid=old rv=5 {"spec":{"replicas":3}}
          then Normal ScalingReplicaSet Deployment web: Scaled down replica set old from 4 to 3
        report Changing("replica sets towards 4 replicas")
    "#]]
    .assert_eq(&at(vec![old(4, 4), new(1, 0)]));
    expect![[r#"
        patch ReplicaSet d/new uid=new rv=5 {"spec":{"replicas":2}}
          then Normal ScalingReplicaSet Deployment web: Scaled up replica set new from 1 to 2
        report Changing("replica sets towards 4 replicas")
    "#]]
    .assert_eq(&at(vec![old(3, 3), new(1, 0)]));
    // Nothing more may go before something of the new is there.
    expect![""].assert_eq(&at(vec![old(3, 3), new(2, 0)]));
    expect![[r#"
        patch ReplicaSet d/old uid=old rv=5 {"spec":{"replicas":1}}
          then Normal ScalingReplicaSet Deployment web: Scaled down replica set old from 3 to 1
        report Changing("replica sets towards 4 replicas")
    "#]]
    .assert_eq(&at(vec![old(3, 3), new(2, 2)]));
    expect![""].assert_eq(&at(vec![old(0, 0), new(4, 4)]));
}

#[test]
fn pods_that_do_not_serve_go_first() {
    let text = actions(&world(
        deployment(4, "x:3", ""),
        vec![
            set("sick", "x:1", 2, 0, 1, 4),
            set("well", "x:2", 2, 2, 2, 4),
            set("new", "x:3", 1, 0, 3, 4),
        ],
    ));
    assert!(text.contains("Scaled down replica set sick from 2 to 1"), "{text}");
    assert!(!text.contains("replica set well"), "{text}");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let strategy = "{spec: {strategy: {type: Recreate, rollingUpdate: }}}";
    let recreate = |sets| {
        let mut object = deployment(2, "x:2", strategy);
        object["spec"]["strategy"] = json!({"type": "Recreate"});
        world(object, sets)
    };
    let text = actions(&recreate(vec![set("old", "x:1", 2, 2, 1, 2)]));
    assert!(
        text.contains("Scaled down replica set old from 2 to 0") && !text.contains("create"),
        "{text}"
    );
    let mut gone = recreate(vec![set("old", "x:1", 0, 0, 1, 2)]);
    gone.pods = vec![(
        "old".to_owned(),
        from_yaml("metadata: {name: p, deletionTimestamp: '2026-01-01T00:00:00Z'}\nstatus: {phase: Running}"),
    )];
    assert_eq!(actions(&gone), "");
    gone.pods.clear();
    assert!(actions(&gone).contains("create ReplicaSet"));
}

#[test]
fn scaling_during_a_rollout_is_in_proportion() {
    // The recorded case: maxSurge 2, maxUnavailable 0, 4 → 8 replicas with 4 old and 2 new.
    let mut object = deployment(8, "x:2", "");
    object["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 2, "maxUnavailable": 0});
    let mut sets = vec![set("old", "x:1", 4, 4, 1, 4), set("new", "x:2", 2, 0, 2, 4)];
    sets.iter_mut()
        .for_each(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"] = json!("6"));
    let text = actions(&world(object, sets));
    assert!(text.contains("Scaled up replica set old from 4 to 7"), "{text}");
    assert!(text.contains("Scaled up replica set new from 2 to 3"), "{text}");
}

#[test]
fn a_plain_scale_touches_the_one_set() {
    expect![[r#"
        patch ReplicaSet d/s uid=s rv=5 {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"5","deployment.kubernetes.io/max-replicas":"7"}},"spec":{"replicas":5}}
          then Normal ScalingReplicaSet Deployment web: Scaled up replica set s from 3 to 5
        report Changing("replica sets towards 5 replicas")
    "#]]
    .assert_eq(&actions(&world(deployment(5, "x:1", ""), vec![set("s", "x:1", 3, 3, 1, 3)])));
}

#[test]
fn going_back_to_an_old_template_renumbers_its_set() {
    let back = world(
        deployment(
            4,
            "x:1",
            "{metadata: {annotations: {deployment.kubernetes.io/revision: '2', note: why}}}",
        ),
        vec![set("one", "x:1", 0, 0, 1, 4), set("two", "x:2", 4, 4, 2, 4)],
    );
    let text = describe(&reconcile(&back, &ctx()));
    assert!(
        text.contains(
            r#""deployment.kubernetes.io/revision":"3","deployment.kubernetes.io/revision-history":"1","note":"why""#
        ),
        "{text}"
    );
    assert!(text.contains("Scaled up replica set one from 0 to 1"), "{text}");
    let revision = r#"patch/status Deployment d/web uid=dep {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3"}}"#;
    assert!(text.contains(revision), "{text}");
}

#[test]
fn old_sets_beyond_the_limit_go_oldest_first() {
    let sets = vec![
        set("one", "x:1", 0, 0, 1, 2),
        set("two", "x:2", 0, 0, 2, 2),
        set("three", "x:3", 0, 0, 3, 2),
        set("four", "x:4", 2, 2, 4, 2),
    ];
    let more = "{metadata: {annotations: {deployment.kubernetes.io/revision: '4'}}, spec: {revisionHistoryLimit: 1}}";
    expect![[r#"
        delete ReplicaSet d/one uid=one rv=5
        delete ReplicaSet d/two uid=two rv=5
        report Changing("replica sets towards 2 replicas")
    "#]]
    .assert_eq(&actions(&world(deployment(2, "x:4", more), sets)));
}

#[test]
fn a_paused_deployment_rolls_nothing_out_but_still_scales() {
    let paused = |replicas| {
        world(
            deployment(replicas, "x:2", "{spec: {paused: true}}"),
            vec![set("s", "x:1", 3, 3, 1, 3)],
        )
    };
    assert_eq!(actions(&paused(3)), "");
    assert!(actions(&paused(4)).contains("from 3 to 4"));
    assert_eq!(
        condition(&status(&paused(3)), "Progressing"),
        "Unknown DeploymentPaused Deployment is paused"
    );
}

#[test]
fn progress_is_told_until_the_deadline() {
    let with = |reason: &str, at: &str| {
        format!(
            "{{status: {{observedGeneration: 2, replicas: 2, updatedReplicas: 2, unavailableReplicas: 2, terminatingReplicas: 0, conditions: [{{type: Available, status: 'False', reason: MinimumReplicasUnavailable}}, {{type: Progressing, status: 'True', reason: {reason}, lastUpdateTime: '{at}', lastTransitionTime: '{at}'}}]}}, metadata: {{annotations: {{deployment.kubernetes.io/revision: '1'}}}}}}"
        )
    };
    let at = |available, more: &str| world(deployment(2, "x:1", more), vec![set("s", "x:1", 2, available, 1, 2)]);
    let standing = at(0, &with("ReplicaSetUpdated", "2026-01-01T11:55:00Z"));
    let plan = reconcile(&standing, &ctx());
    assert!(
        plan.is_empty() && plan.requeue_after == Some(std::time::Duration::from_secs(301)),
        "{}",
        describe(&plan)
    );
    let late = at(0, &with("ReplicaSetUpdated", "2026-01-01T11:49:59Z"));
    assert_eq!(
        condition(&status(&late), "Progressing"),
        r#"False ProgressDeadlineExceeded ReplicaSet "s" has timed out progressing."#
    );
    let moving = at(1, &with("ReplicaSetUpdated", "2026-01-01T11:55:00Z"));
    assert_eq!(
        condition(&status(&moving), "Progressing"),
        r#"True ReplicaSetUpdated ReplicaSet "s" is progressing."#
    );
    let done = status(&at(2, &with("ReplicaSetUpdated", "2026-01-01T11:55:00Z")));
    assert_eq!(
        condition(&done, "Progressing"),
        r#"True NewReplicaSetAvailable ReplicaSet "s" has successfully progressed."#
    );
    assert_eq!(
        condition(&done, "Available"),
        "True MinimumReplicasAvailable Deployment has minimum availability."
    );
    // A pod that fails later is not a failed rollout.
    let after = at(1, &with("NewReplicaSetAvailable", "2026-01-01T01:00:00Z"));
    assert!(condition(&status(&after), "Progressing").starts_with("True NewReplicaSetAvailable"));
}

#[test]
fn a_taken_name_makes_another_one() {
    let failure = crate::controller::Failure {
        verb: crate::controller::FailedVerb::CreateCollision,
        message: String::new(),
    };
    let new = world(deployment(1, "x:1", ""), vec![]);
    let plan = reconcile(
        &new,
        &Context {
            now: now(),
            failure: Some(failure),
        },
    );
    let Some(Action::Patch { patch, .. }) = &plan.status else {
        panic!("no status")
    };
    assert!(plan.actions.is_empty());
    assert_eq!(patch["status"]["collisionCount"], 1);
    let text = actions(&world(deployment(1, "x:1", "{status: {collisionCount: 1}}"), vec![]));
    assert!(
        !text.contains("web-5xcszvbh6f") && text.contains("create ReplicaSet"),
        "{text}"
    );
}

#[test]
fn percentages_round_surge_up_and_unavailability_down() {
    let of = |replicas, surge: Value, unavailable: Value| {
        let mut object = deployment(replicas, "x", "");
        object["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let world = world(object, vec![]);
        let rollout = Rollout::new(&world.deployment, world.deployment.spec.as_ref().unwrap(), vec![]);
        (rollout.max_surge(), rollout.max_unavailable())
    };
    assert_eq!(of(10, json!("25%"), json!("25%")), (3, 2));
    assert_eq!(of(1, json!("25%"), json!("25%")), (1, 0));
    assert_eq!(of(10, json!(0), json!("1%")), (0, 1));
    assert_eq!(of(0, json!("50%"), json!("50%")), (0, 0));
    assert_eq!(of(2, json!(1), json!(5)), (1, 2));
}
