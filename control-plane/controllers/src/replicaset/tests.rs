//! Plans of ReplicaSets, as text.

use expect_test::expect;

use super::*;
use crate::controller::{FailedVerb, Failure};
use crate::testing::{describe, from_yaml, now};

fn ctx() -> Context {
    Context {
        now: now(),
        failure: None,
    }
}

fn set(replicas: i32, more: &str) -> Arc<ReplicaSet> {
    from_yaml(&format!(
        "metadata: {{name: web, namespace: d, uid: set, resourceVersion: '10', generation: 4}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: x}}]}}}}
{more}"
    ))
}

/// A pod of the set: its name is its uid.
fn pod(name: &str, more: &str) -> Arc<Pod> {
    from_yaml(&format!(
        "metadata: {{name: {name}, namespace: d, uid: {name}, labels: {{app: web}}, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: set, controller: true}}]}}
{more}"
    ))
}

const READY: &str = "spec: {nodeName: n1, containers: []}
status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T11:00:00Z'}]}";

fn plan(set: Arc<ReplicaSet>, pods: Vec<Arc<Pod>>) -> Plan {
    reconcile(
        &World {
            set,
            pods,
            related: BTreeMap::new(),
        },
        &ctx(),
    )
}

#[test]
fn missing_pods_are_created_and_the_same_world_gives_the_same_names() {
    let first = describe(&plan(set(2, ""), vec![]));
    expect![[r#"
        create Pod d/web-x687d
          then Normal SuccessfulCreate ReplicaSet web: Created pod: web-x687d
        create Pod d/web-lx22r
          then Normal SuccessfulCreate ReplicaSet web: Created pod: web-lx22r
        report TooFew { have: 0, want: 2 }
    "#]]
    .assert_eq(&first);
    assert_eq!(first, describe(&plan(set(2, ""), vec![])));
}

#[test]
fn a_pod_carries_the_template_and_its_owner() {
    let made = plan(set(1, ""), vec![]);
    let Action::Create { object, .. } = &made.actions[0] else {
        panic!("no pod")
    };
    expect![[r#"{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-","labels":{"app":"web"},"name":"web-x687d","namespace":"d","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"set"}]},"spec":{"containers":[{"image":"x","name":"c"}]}}"#]]
        .assert_eq(&object.to_string());
}

#[test]
fn scaling_down_deletes_pods_that_are_not_ready_first() {
    let settled = "status: {replicas: 3, readyReplicas: 2, availableReplicas: 2, fullyLabeledReplicas: 3, terminatingReplicas: 0, observedGeneration: 4}";
    expect![[r#"
        delete Pod d/b uid=b
          then Normal SuccessfulDelete ReplicaSet web: Deleted pod: b
        report TooMany { have: 3, want: 2 }
    "#]]
    .assert_eq(&describe(&plan(
        set(2, settled),
        vec![
            pod("a", READY),
            pod("b", "spec: {nodeName: n1, containers: []}\nstatus: {phase: Running}"),
            pod("c", READY),
        ],
    )));
}

#[test]
fn the_order_of_deletion_is_that_of_kubernetes() {
    let pods = [
        pod("ready-long", &READY.replace("11:00", "10:00")),
        pod("ready", READY),
        pod("costly", READY),
        pod(
            "running",
            "spec: {nodeName: n2, containers: []}\nstatus: {phase: Running}",
        ),
        pod(
            "assigned",
            "spec: {nodeName: n2, containers: []}\nstatus: {phase: Pending}",
        ),
        pod("unassigned", "spec: {containers: []}\nstatus: {phase: Pending}"),
        pod(
            "restarted",
            &READY.replace(
                "phase: Running,",
                "phase: Running, containerStatuses: [{name: c, image: x, imageID: x, ready: true, restartCount: 3}],",
            ),
        ),
        pod("crowded", &READY.replace("n1", "n9")),
    ];
    let mut pods = pods.map(|pod| (*pod).clone());
    pods[2].metadata.annotations =
        Some([("controller.kubernetes.io/pod-deletion-cost".to_owned(), "5".to_owned())].into());
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(Arc::new).collect();
    let related = [("n1".to_owned(), 1), ("n9".to_owned(), 4)].into();
    let all: Vec<&Arc<Pod>> = pods.iter().collect();
    let names: Vec<&str> = rank::deletion_order(&all, &related)
        .iter()
        .map(|pod| pod.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "unassigned",
            "assigned",
            "running",
            "crowded",
            "restarted",
            "ready",
            "ready-long",
            "costly"
        ]
    );
}

#[test]
fn strangers_are_adopted_and_leavers_released_before_anything_else() {
    let orphan: Arc<Pod> =
        from_yaml("metadata: {name: o, namespace: d, uid: o, resourceVersion: '7', labels: {app: web}}");
    let mut leaver = (*pod("l", "")).clone();
    leaver.metadata.labels = Some([("app".to_owned(), "other".to_owned())].into());
    leaver.metadata.resource_version = Some("8".to_owned());
    let other: Arc<Pod> = from_yaml(
        "metadata: {name: x, namespace: d, labels: {app: web}, ownerReferences: [{apiVersion: v1, kind: Other, name: y, uid: y, controller: true}]}",
    );
    let finished: Arc<Pod> =
        from_yaml("metadata: {name: f, namespace: d, labels: {app: web}}\nstatus: {phase: Failed}");
    expect![[r#"
        patch Pod d/o uid=o rv=7 {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"set"}]}}
        patch Pod d/l uid=l rv=8 {"metadata":{"ownerReferences":null}}
        report Changing("pods adopted or released")
    "#]]
    .assert_eq(&describe(&plan(set(1, ""), vec![orphan, Arc::new(leaver), other, finished])));
}

#[test]
fn finished_and_terminating_pods_do_not_count() {
    let pods = || {
        vec![
            pod("done", "status: {phase: Failed}"),
            pod("going", "").as_ref().clone().into_terminating(),
        ]
    };
    assert!(describe(&plan(set(1, ""), pods())).contains("report TooFew { have: 0, want: 1 }"));
    let text = describe(&plan(set(0, ""), pods()));
    assert!(text.contains(r#""terminatingReplicas":1"#), "{text}");
}

trait IntoTerminating {
    fn into_terminating(self) -> Arc<Pod>;
}
impl IntoTerminating for Pod {
    fn into_terminating(mut self) -> Arc<Pod> {
        self.metadata.deletion_timestamp = Some(crate::conditions::whole_second(now()));
        Arc::new(self)
    }
}

#[test]
fn a_pod_becomes_available_after_min_ready_seconds() {
    let mut waiting = (*set(1, "")).clone();
    waiting.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let text = describe(&plan(
        Arc::new(waiting),
        vec![pod("a", &READY.replace("11:00:00", "11:59:53"))],
    ));
    assert!(
        text.contains(r#""availableReplicas":null"#) && text.contains(r#""readyReplicas":1"#),
        "{text}"
    );
    assert!(text.contains("again in 3s"), "{text}");
}

#[test]
fn a_failure_is_told_in_the_status_and_taken_back() {
    let failure = Failure {
        verb: FailedVerb::Create,
        message: "pods \"x\" is forbidden: exceeded quota".into(),
    };
    let world = World {
        set: set(1, ""),
        pods: vec![],
        related: BTreeMap::new(),
    };
    let told = reconcile(
        &world,
        &Context {
            now: now(),
            failure: Some(failure),
        },
    );
    let Some(Action::Patch { patch, .. }) = &told.status else {
        panic!("no status")
    };
    assert_eq!(patch["status"]["conditions"][0]["reason"], "FailedCreate");
    assert_eq!(
        patch["status"]["conditions"][0]["message"],
        "pods \"x\" is forbidden: exceeded quota"
    );
    let failed = format!("status: {}", patch["status"]);
    let again = plan(set(1, &failed), vec![]);
    assert!(again.status.is_none(), "still failing: {:?}", again.status);
    let over = plan(set(1, &failed), vec![pod("a", READY)]);
    let Some(Action::Patch { patch, .. }) = &over.status else {
        panic!("no status")
    };
    assert!(patch["status"]["conditions"].is_null());
}

#[test]
fn a_set_that_is_being_deleted_makes_no_pods() {
    let mut going = (*set(3, "")).clone();
    going.metadata.deletion_timestamp = Some(crate::conditions::whole_second(now()));
    assert!(plan(Arc::new(going), vec![]).actions.is_empty());
}
