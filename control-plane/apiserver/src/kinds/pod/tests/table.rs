//! The column Status and its neighbours, state by state.

use expect_test::expect;
use skiff_api::time;

use super::PodStrategy;
use crate::kinds::testing::{NOW, check_table, object};
use crate::strategy::Strategy;

/// `READY STATUS RESTARTS` of a pod with two containers and two init containers.
fn cells(fields: &str) -> String {
    let pod = object(&format!(
        "{{spec: {{containers: [{{name: a}}, {{name: b}}], initContainers: [{{name: i}}, {{name: s, restartPolicy: Always}}]}}, {fields}}}"
    ));
    let row = PodStrategy.row(&pod, time::parse_rfc3339(NOW).unwrap());
    format!(
        "{} {} {}",
        row[1].as_str().unwrap(),
        row[2].as_str().unwrap(),
        row[3].as_str().unwrap()
    )
}

#[test]
fn status_says_what_goes_on() {
    let ready = "{name: a, ready: true, state: {running: {}}}, {name: b, ready: true, state: {running: {}}}";
    let inits = "initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0}}}, {name: s, started: true, ready: true, restartCount: 1, state: {running: {}}}]";
    let states = [
        ("status: {phase: Pending}", "0/3 Pending 0"),
        ("status: {phase: Failed, reason: Evicted}", "0/3 Evicted 0"),
        (
            "status: {phase: Pending, conditions: [{type: PodScheduled, reason: SchedulingGated}]}",
            "0/3 SchedulingGated 0",
        ),
        (
            "status: {phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {}}}]}",
            "0/3 Init:0/2 0",
        ),
        (
            "status: {phase: Pending, initContainerStatuses: [{name: i, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}}]}",
            "0/3 Init:CrashLoopBackOff 2",
        ),
        (
            "status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 3}}}]}",
            "0/3 Init:ExitCode:3 0",
        ),
        (
            "status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 1, reason: Error}}}]}",
            "0/3 Init:Error 0",
        ),
        (
            &format!("status: {{phase: Running, {inits}, containerStatuses: [{ready}]}}"),
            "3/3 Running 1",
        ),
        (
            "status: {phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]}",
            "0/3 ContainerCreating 0",
        ),
        (
            "status: {phase: Running, containerStatuses: [{name: a, restartCount: 2, lastState: {terminated: {finishedAt: '2026-01-01T00:00:00Z'}}, state: {waiting: {reason: CrashLoopBackOff}}}]}",
            "0/3 CrashLoopBackOff 2 (5m ago)",
        ),
        (
            "status: {phase: Running, containerStatuses: [{name: a, state: {terminated: {exitCode: 137, signal: 9}}}]}",
            "0/3 Signal:9 0",
        ),
        (
            "status: {phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}]}",
            "0/3 Completed 0",
        ),
        (
            "status: {phase: Running, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: b, ready: true, state: {running: {}}}]}",
            "1/3 Running 0",
        ),
        (
            "status: {phase: Running, containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: b, ready: true, state: {running: {}}}]}",
            "1/3 NotReady 0",
        ),
        (
            &format!(
                "metadata: {{deletionTimestamp: '2026-01-01T00:00:00Z'}}, status: {{phase: Running, containerStatuses: [{ready}]}}"
            ),
            "2/3 Terminating 0",
        ),
        (
            "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running, reason: NodeLost}",
            "0/3 Unknown 0",
        ),
    ];
    for (fields, expected) in states {
        assert_eq!(cells(fields), expected, "{fields}");
    }
}

#[test]
fn wide_columns() {
    check_table(
        &PodStrategy,
        "{metadata: {name: web}, spec: {nodeName: n1, containers: [{name: a}], readinessGates: [{conditionType: x}, {conditionType: y}]}, status: {phase: Pending, podIP: 192.0.2.1, podIPs: [{ip: 192.0.2.1}], conditions: [{type: x, status: 'True'}]}}",
        expect![[r#"
            Name: "web"
            Ready: "0/1"
            Status: "Pending"
            Restarts: "0"
            Age: "5m"
            IP: "192.0.2.1"
            Node: "n1"
            Nominated Node: "<none>"
            Readiness Gates: "1/2"
        "#]],
    );
}

#[test]
fn ended_pods_are_marked_completed() {
    let of = |phase: &str| PodStrategy.row_conditions(&object(&format!("{{status: {{phase: {phase}}}}}")));
    assert_eq!(of("Succeeded")[0]["reason"], "Succeeded");
    assert_eq!(of("Failed")[0]["message"], "The pod failed.");
    assert!(of("Running").is_empty());
}
