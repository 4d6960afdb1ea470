//! Which of several nodes wins, and why.

use crate::testing::{nodes, outcome, pod};

#[test]
fn the_emptier_node_wins() {
    let mut cluster = nodes("n1 4 4Gi 9\nn2 4 4Gi 9");
    cluster.place_pod(
        "n1",
        pod("{metadata: {uid: a}, spec: {containers: [{name: c, resources: {requests: {cpu: '1', memory: 1Gi}}}]}}"),
    );
    assert_eq!(outcome(&cluster, "{spec: {containers: []}}"), "n2");
}

#[test]
fn replicas_of_one_set_spread_even_onto_a_fuller_node() {
    let mut cluster = nodes("n1 4 4Gi 9\nn2 4 4Gi 9");
    let of_set = "{metadata: {uid: a, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: s, uid: s, controller: true}]}, spec: {containers: []}}";
    cluster.place_pod("n1", pod(of_set));
    cluster.place_pod(
        "n2",
        pod("{metadata: {uid: b}, spec: {containers: [{name: c, resources: {requests: {cpu: '1'}}}]}}"),
    );
    let next = of_set.replace("uid: a,", "uid: c,");
    assert_eq!(outcome(&cluster, &next), "n2");
}

#[test]
fn preferences_and_soft_taints_count() {
    let cluster = nodes("n1 4 4Gi 9 disk=fast\nn2 4 4Gi 9");
    let likes = "{spec: {containers: [], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: disk, operator: In, values: [fast]}]}}]}}}}";
    assert_eq!(outcome(&cluster, likes), "n1");
    let cluster = nodes("n1 4 4Gi 9 !soft:PreferNoSchedule\nn2 4 4Gi 9");
    assert_eq!(outcome(&cluster, "{spec: {containers: []}}"), "n2");
}
