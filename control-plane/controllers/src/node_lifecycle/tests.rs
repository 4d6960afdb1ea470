//! What becomes of nodes that report, fail, fall silent and come back.

use expect_test::expect;

use super::*;
use crate::testing::{describe, from_yaml, now};

const GRACE: Duration = Duration::from_secs(40);
const READY: &str = "{type: Ready, status: 'True', reason: KubeletReady, lastHeartbeatTime: '2026-01-01T11:59:00Z'}";

fn node(taints: &str, conditions: &str) -> Arc<Node> {
    from_yaml(&format!(
        "metadata: {{name: n, uid: n, resourceVersion: '5', creationTimestamp: '2026-01-01T11:00:00Z'}}
spec: {{taints: [{taints}]}}
status: {{conditions: [{conditions}]}}"
    ))
}

fn world(node: Arc<Node>, silent_seconds: i64) -> World {
    let heard_at = Timestamp::from_second(now().as_second() - silent_seconds).unwrap();
    World {
        node,
        heard_at: Some(heard_at),
        pods: vec![],
        all_nodes_down: false,
    }
}

fn plan(world: &World) -> String {
    describe(&reconcile(
        world,
        GRACE,
        &Context {
            now: now(),
            failure: None,
        },
    ))
}

#[test]
fn a_node_that_reports_loses_its_first_taint() {
    let first = "{key: node.kubernetes.io/not-ready, effect: NoSchedule}, {key: mine, effect: NoExecute}";
    expect![[r#"
        patch Node n uid=n rv=5 {"spec":{"taints":[{"effect":"NoExecute","key":"mine"}]}}
        again in 30s
        report Changing("taints follow the conditions")
    "#]]
    .assert_eq(&plan(&world(node(first, READY), 10)));
    expect![[r#"
        again in 30s
    "#]]
    .assert_eq(&plan(&world(node("", READY), 10)));
}

#[test]
fn a_silent_node_becomes_unknown_then_tainted() {
    let text = plan(&world(node("", READY), 41));
    assert!(
        text.starts_with("event Normal NodeNotReady Node n: Node n status is now: NodeNotReady\n"),
        "{text}"
    );
    assert!(text.contains(r#""message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready""#), "{text}");
    assert!(text.contains(r#""message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure""#), "{text}");
    let unknown = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .map(|kind| format!("{{type: {kind}, status: Unknown}}"));
    let silent = world(node("", &unknown.join(", ")), 50);
    expect![[r#"
        patch Node n uid=n rv=5 {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T12:00:00Z"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T12:00:00Z"}]}}
        report Changing("taints follow the conditions")
    "#]]
    .assert_eq(&plan(&silent));
}

#[test]
fn when_no_node_is_ready_nobody_is_evicted() {
    let mut alone = world(node("", "{type: Ready, status: 'False'}"), 1);
    alone.all_nodes_down = true;
    let text = plan(&alone);
    assert!(text.contains("NoSchedule") && !text.contains("NoExecute"), "{text}");
    alone.node = node(
        "{key: node.kubernetes.io/not-ready, effect: NoExecute}, {key: node.kubernetes.io/not-ready, effect: NoSchedule}",
        "{type: Ready, status: 'False'}",
    );
    let text = plan(&alone);
    assert!(!text.contains("NoExecute"), "{text}");
}

#[test]
fn pressure_and_cordon_are_taints_too() {
    let pressed = format!("{READY}, {{type: DiskPressure, status: 'True'}}");
    let mut cordoned = (*node("", &pressed)).clone();
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    let text = plan(&world(Arc::new(cordoned), 1));
    assert!(
        text.contains("node.kubernetes.io/disk-pressure") && text.contains("node.kubernetes.io/unschedulable"),
        "{text}"
    );
}

#[test]
fn pods_of_a_node_that_is_not_ready_are_not_ready() {
    let mut down = world(node("", "{type: Ready, status: 'False'}"), 1);
    down.pods = vec![from_yaml(
        "metadata: {name: p, namespace: d, uid: p, resourceVersion: '6'}
status: {conditions: [{type: Ready, status: 'True'}, {type: PodScheduled, status: 'True'}]}",
    )];
    let text = plan(&down);
    assert!(
        text.contains("event Warning NodeNotReady Pod p: Node is not ready"),
        "{text}"
    );
    assert!(text.contains(r#"patch/status Pod d/p uid=p rv=6 {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T12:00:00Z","status":"False","type":"Ready"},{"status":"True","type":"PodScheduled"}]}}"#), "{text}");
}

#[test]
fn a_node_that_never_reported_is_given_time_and_kept_free() {
    let mut young = (*node("{key: node.kubernetes.io/not-ready, effect: NoSchedule}", "")).clone();
    young.metadata.creation_timestamp = Some(whole_second("2026-01-01T11:59:30Z".parse().unwrap()));
    expect![[r#"
        again in 30s
    "#]]
    .assert_eq(&plan(&world(Arc::new(young), 1)));
}
