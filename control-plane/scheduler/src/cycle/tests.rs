//! The search as a whole: order, rotation, ties, and the picture's bookkeeping.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{nodes, outcome, pod};

#[test]
fn without_nodes_the_sentence_is_another() {
    assert_eq!(
        outcome(&Cluster::default(), "{spec: {containers: []}}"),
        "no nodes available to schedule pods"
    );
}

#[test]
fn a_claim_that_is_not_there_ends_the_search() {
    let cluster = nodes("n1 1 1Gi 9\nn2 1 1Gi 9\nn3 1 1Gi 9");
    let text = outcome(
        &cluster,
        "{spec: {containers: [], volumes: [{name: v, persistentVolumeClaim: {claimName: absent}}]}}",
    );
    assert_eq!(
        text,
        "0/3 nodes are available: persistentvolumeclaim \"absent\" not found. not found"
    );
}

#[test]
fn a_pod_that_never_preempts_says_so() {
    let cluster = nodes("n1 1 1Gi 0");
    let text = outcome(&cluster, "{spec: {containers: [], preemptionPolicy: Never}}");
    assert!(
        text.ends_with("preemption: not eligible due to preemptionPolicy=Never."),
        "{text}"
    );
}

#[test]
fn ties_are_broken_by_the_seed_alone() {
    let cluster = nodes("n1 4 4Gi 9\nn2 4 4Gi 9\nn3 4 4Gi 9");
    let info = pod("{metadata: {uid: a}, spec: {containers: []}}");
    let choose = |seed| schedule(&cluster, &info, &mut Cursor::default(), seed);
    assert_eq!(choose(7), choose(7));
    let chosen: BTreeSet<String> = (0..20).map(|seed| format!("{:?}", choose(seed))).collect();
    assert_eq!(chosen.len(), 3);
}

#[test]
fn a_large_cluster_is_searched_in_turns() {
    let table: String = (0..400).map(|n| format!("n{n} 4 4Gi 9\n")).collect();
    let cluster = nodes(&table);
    let info = pod("{metadata: {uid: a}, spec: {containers: []}}");
    let mut cursor = Cursor::default();
    schedule(&cluster, &info, &mut cursor, 0);
    assert_eq!(cursor.0, FEASIBLE_ENOUGH);
    (0..3).for_each(|_| drop(schedule(&cluster, &info, &mut cursor, 0)));
    assert_eq!(cursor.0, 0);
}

#[test]
fn pods_of_a_node_that_comes_later_are_counted() {
    let mut cluster = Cluster::default();
    cluster.place_pod("n1", pod("{metadata: {uid: a}, spec: {containers: []}}"));
    cluster.set_node(nodes("n1 4 4Gi 1").nodes()[0].node().clone());
    assert!(outcome(&cluster, "{spec: {containers: []}}").contains("Too many pods"));
    cluster.remove_node("n1");
    cluster.remove_pod("a");
    cluster.set_node(nodes("n1 4 4Gi 1").nodes()[0].node().clone());
    assert_eq!(outcome(&cluster, "{spec: {containers: []}}"), "n1");
}

proptest! {
    /// Whatever comes and goes, the sums of a node are those of the pods that are there.
    #[test]
    fn sums_follow_the_pods(steps in proptest::collection::vec((0_usize..3, 0_usize..6, any::<bool>()), 0..60)) {
        let mut cluster = nodes("n0 99 99Gi 99\nn1 99 99Gi 99");
        for (node, id, put) in steps {
            if put {
                let text = format!("{{metadata: {{uid: u{id}}}, spec: {{containers: [{{name: c, ports: [{{containerPort: 1, hostPort: {}}}], resources: {{requests: {{cpu: {}m, x.io/y: '1'}}}}}}]}}}}", id + 1, id + 1);
                cluster.place_pod(&format!("n{node}"), pod(&text));
            } else {
                cluster.remove_pod(&format!("u{id}"));
            }
        }
        for node in cluster.nodes() {
            let cpu: i64 = node.pods().map(|pod| pod.requests.cpu_milli).sum();
            prop_assert_eq!(node.requested.cpu_milli, cpu);
            prop_assert_eq!(node.ports().len(), node.pod_count());
            prop_assert_eq!(node.requested.others.get("x.io/y").copied().unwrap_or(0), node.pod_count() as i64);
        }
    }
}
