//! Each filter against nodes in columns; the sentences are those of a recorded Kubernetes 1.36.

use expect_test::expect;

use crate::testing::{nodes, outcome, pod};

#[test]
fn the_sentence_counts_each_nodes_first_broken_rule() {
    let cluster = nodes(
        "n1 1  64Gi 110
         n2 64 64Gi 110 !a:NoSchedule
         n3 64 64Gi 110 x=y",
    );
    expect!["0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."]
        .assert_eq(&outcome(&cluster, "{spec: {containers: [], nodeSelector: {x: z}}}"));
    expect!["0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."]
        .assert_eq(&outcome(&cluster, "{spec: {containers: [{name: c, resources: {requests: {cpu: '100'}}}]}}"));
}

#[test]
fn several_resources_can_be_short_on_one_node() {
    let mut cluster = nodes(
        "n1 1 1Gi 3
         n2 2 1Gi 3",
    );
    expect!["0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient example.com/dev, 2 Insufficient memory. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."]
        .assert_eq(&outcome(&cluster, "{spec: {containers: [{name: c, resources: {requests: {cpu: '9', memory: 9Gi}, limits: {example.com/dev: '3'}}}]}}"));
    cluster.place_pod(
        "n1",
        pod("{metadata: {uid: a}, spec: {containers: [{name: c, resources: {requests: {cpu: 900m}}}]}}"),
    );
    cluster.place_pod(
        "n2",
        pod("{metadata: {uid: b}, spec: {containers: [{name: c, resources: {requests: {cpu: 1500m}}}]}}"),
    );
    let wants = "{spec: {containers: [{name: c, resources: {requests: {cpu: 600m}}}]}}";
    expect!["0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."]
        .assert_eq(&outcome(&cluster, wants));
    assert_eq!(cluster.remove_pod("a").as_deref(), Some("n1"));
    assert_eq!(outcome(&cluster, wants), "n1");
}

#[test]
fn a_node_takes_only_so_many_pods() {
    let mut cluster = nodes("n1 9 9Gi 1");
    cluster.place_pod("n1", pod("{metadata: {uid: a}, spec: {containers: []}}"));
    expect!["0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."]
        .assert_eq(&outcome(&cluster, "{spec: {containers: []}}"));
}

#[test]
fn cordons_taints_and_tolerations() {
    let cluster = nodes("n1 9 9Gi 9 cordoned");
    expect!["0/1 nodes are available: 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."]
        .assert_eq(&outcome(&cluster, "{spec: {containers: []}}"));
    assert_eq!(
        outcome(&cluster, "{spec: {containers: [], tolerations: [{operator: Exists}]}}"),
        "n1"
    );
    let cluster = nodes("n1 9 9Gi 9 !a:NoExecute !b:PreferNoSchedule");
    assert_eq!(
        outcome(
            &cluster,
            "{spec: {containers: [], tolerations: [{key: a, operator: Exists}]}}"
        ),
        "n1"
    );
    assert!(
        outcome(
            &cluster,
            "{spec: {containers: [], tolerations: [{key: b, operator: Exists}]}}"
        )
        .contains("untolerated")
    );
}

#[test]
fn host_ports_collide_by_address_protocol_and_number() {
    let mut cluster = nodes("n1 9 9Gi 9");
    let with = |ports: &str| format!("{{metadata: {{uid: a}}, spec: {{containers: [{{name: c, ports: [{ports}]}}]}}}}");
    cluster.place_pod("n1", pod(&with("{containerPort: 80, hostPort: 80, hostIP: 127.0.0.1}")));
    let refused = |ports: &str| outcome(&cluster, &with(ports)).contains("didn't have free ports");
    assert!(refused("{containerPort: 1, hostPort: 80}"));
    assert!(refused("{containerPort: 1, hostPort: 80, hostIP: 127.0.0.1}"));
    assert!(!refused("{containerPort: 1, hostPort: 80, hostIP: 10.0.0.1}"));
    assert!(!refused("{containerPort: 1, hostPort: 80, protocol: UDP}"));
    assert!(!refused("{containerPort: 80}"));
}

#[test]
fn node_affinity_knows_fields_and_numbers() {
    let cluster = nodes("n1 9 9Gi 9 cores=8");
    let fits = |term: &str| {
        let text = format!(
            "{{spec: {{containers: [], affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}}}}}}}"
        );
        outcome(&cluster, &text) == "n1"
    };
    assert!(fits(
        "{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}"
    ));
    assert!(!fits(
        "{matchFields: [{key: metadata.name, operator: In, values: [n2]}]}"
    ));
    assert!(fits("{matchExpressions: [{key: cores, operator: Gt, values: ['7']}]}"));
    assert!(!fits("{matchExpressions: [{key: cores, operator: Lt, values: ['8']}]}"));
    assert!(fits(
        "{matchExpressions: [{key: other, operator: NotIn, values: [x]}, {key: cores, operator: Exists}]}"
    ));
    assert!(fits(
        "{matchExpressions: [{key: other, operator: Exists}]}, {matchExpressions: [{key: cores, operator: In, values: ['8']}]}"
    ));
    assert!(!fits("{}"));
}

#[test]
fn pods_that_repel_each_other_are_kept_apart() {
    let anti = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}]}}";
    let db = |uid: &str, more: &str| {
        format!("{{metadata: {{uid: {uid}, namespace: d, labels: {{app: db}}}}, spec: {{containers: []{more}}}}}")
    };
    let mut cluster = nodes("n1 9 9Gi 9");
    cluster.place_pod("n1", pod(&db("a", "")));
    assert!(
        outcome(&cluster, &db("b", &format!(", {anti}"))).contains("1 node(s) didn't match pod anti-affinity rules")
    );
    cluster.place_pod("n1", pod(&db("a", &format!(", {anti}"))));
    assert!(outcome(&cluster, &db("b", "")).contains("1 node(s) didn't satisfy existing pods anti-affinity rules"));
    let elsewhere = "{metadata: {uid: c, namespace: other, labels: {app: db}}, spec: {containers: []}}";
    assert_eq!(outcome(&cluster, elsewhere), "n1");
}

#[test]
fn the_first_of_a_group_may_start_anywhere() {
    let near = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {app: a}}}]}}";
    let mut cluster = nodes("n1 9 9Gi 9 zone=z1\nn2 9 9Gi 9 zone=z2");
    let own = format!("{{metadata: {{uid: x, namespace: d, labels: {{app: a}}}}, spec: {{containers: [], {near}}}}}");
    let other = format!("{{metadata: {{uid: y, namespace: d, labels: {{app: b}}}}, spec: {{containers: [], {near}}}}}");
    assert!(outcome(&cluster, &own).starts_with('n'));
    assert!(outcome(&cluster, &other).contains("2 node(s) didn't match pod affinity rules"));
    cluster.place_pod("n2", pod(&own));
    assert_eq!(outcome(&cluster, &other), "n2");
}

#[test]
fn hard_spreading_keeps_places_level() {
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: a}}}]";
    let web = |uid: &str| {
        format!("{{metadata: {{uid: {uid}, namespace: d, labels: {{app: a}}}}, spec: {{containers: [], {spread}}}}}")
    };
    let mut cluster = nodes("n1 9 9Gi 9 zone=z1\nn2 9 9Gi 1 zone=z2\nn3 9 9Gi 9");
    cluster.place_pod("n1", pod(&web("a")));
    assert_eq!(outcome(&cluster, &web("b")), "n2");
    cluster.place_pod("n2", pod("{metadata: {uid: full}, spec: {containers: []}}"));
    expect!["0/3 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label). no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."]
        .assert_eq(&outcome(&cluster, &web("b")));
}
