//! What nodes may read and write.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Objects;
use crate::authn::UserInfo;
use crate::authn::testing::{TestServer, admin, node, user};
use crate::authz::node::NodeAuthorizer;
use crate::authz::{Attributes, Authorizer, Decision};

#[tokio::test]
async fn nodes_reach_their_own_and_nothing_else() {
    let objects = Arc::new(Objects::default());
    let pod = |name: &str, node: &str| {
        let annotations = json!({"config.skiff.dev/c": format!("secret/conf-{name}, configmap/map-{name}")});
        json!({"metadata": {"name": name, "namespace": "a", "annotations": annotations}, "spec": {
            "nodeName": node, "serviceAccountName": format!("sa-{name}"),
            "imagePullSecrets": [{"name": format!("pull-{name}")}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": format!("cm-{name}")}}]}],
            "containers": [{"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": format!("env-{name}"), "key": "k"}}}]}],
            "volumes": [
                {"name": "v", "secret": {"secretName": format!("vol-{name}")}},
                {"name": "w", "projected": {"sources": [{"configMap": {"name": format!("proj-{name}")}}]}},
            ],
        }})
    };
    objects.add("", "pods", pod("p1", "n1"));
    objects.add("", "pods", pod("p2", "n2"));
    let authorizer = NodeAuthorizer::new(Arc::clone(&objects) as _);
    // verb, group, resource/subresource, namespace, name, field selector, expected for n1
    let own: &[(&str, &str, &str, &str, &str, &str, bool)] = &[
        ("get", "", "secrets", "a", "pull-p1", "", true),
        ("get", "", "secrets", "a", "env-p1", "", true),
        ("watch", "", "secrets", "a", "vol-p1", "", true),
        ("get", "", "secrets", "a", "conf-p1", "", true),
        ("get", "", "configmaps", "a", "map-p1", "", true),
        ("get", "", "configmaps", "a", "conf-p1", "", false),
        ("get", "", "secrets", "a", "conf-p2", "", false),
        ("get", "", "secrets", "b", "conf-p1", "", false),
        ("get", "", "secrets", "a", "conf-p", "", false),
        ("get", "", "secrets", "a", "vol-p2", "", false),
        ("get", "", "secrets", "b", "vol-p1", "", false),
        ("list", "", "secrets", "a", "", "", false),
        ("list", "", "secrets", "", "", "", false),
        ("update", "", "secrets", "a", "vol-p1", "", false),
        ("get", "", "configmaps", "a", "cm-p1", "", true),
        ("get", "", "configmaps", "a", "proj-p1", "", true),
        ("get", "", "configmaps", "a", "cm-p2", "", false),
        ("get", "", "configmaps", "a", "vol-p1", "", false),
        ("create", "", "serviceaccounts/token", "a", "sa-p1", "", true),
        ("create", "", "serviceaccounts/token", "a", "sa-p2", "", false),
        ("get", "", "serviceaccounts", "a", "sa-p1", "", true),
        ("get", "", "pods", "a", "p1", "", true),
        ("get", "", "pods", "a", "p2", "", false),
        ("list", "", "pods", "", "", "spec.nodeName=n1", true),
        ("watch", "", "pods", "", "", "spec.nodeName=n1", true),
        ("watch", "", "pods", "", "", "spec.nodeName=n2", false),
        ("watch", "", "pods", "", "", "", false),
        ("patch", "", "pods/status", "a", "p1", "", true),
        ("update", "", "pods", "a", "p1", "", false),
        ("create", "", "pods/binding", "a", "p1", "", false),
        ("create", "", "pods/exec", "a", "p1", "", false),
        ("get", "", "nodes", "", "n1", "", true),
        ("get", "", "nodes", "", "n2", "", false),
        ("list", "", "nodes", "", "", "", false),
        ("create", "", "nodes", "", "", "", true),
        ("patch", "", "nodes/status", "", "n1", "", true),
        ("patch", "", "nodes", "", "n2", "", false),
        ("delete", "", "nodes", "", "n1", "", false),
        (
            "update",
            "coordination.k8s.io",
            "leases",
            "kube-node-lease",
            "n1",
            "",
            true,
        ),
        (
            "update",
            "coordination.k8s.io",
            "leases",
            "kube-node-lease",
            "n2",
            "",
            false,
        ),
        (
            "update",
            "coordination.k8s.io",
            "leases",
            "kube-system",
            "n1",
            "",
            false,
        ),
        ("create", "", "events", "a", "", "", true),
        ("get", "node.k8s.io", "runtimeclasses", "", "wasm", "", true),
        ("list", "rbac.authorization.k8s.io", "clusterroles", "", "", "", false),
        ("create", "apps", "deployments", "a", "", "", false),
    ];
    let ask = async |who: UserInfo, row: &(&str, &str, &str, &str, &str, &str, bool)| {
        let (resource, subresource) = row.2.split_once('/').unwrap_or((row.2, ""));
        let question = Attributes {
            user: who,
            verb: row.0.into(),
            group: row.1.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: row.3.into(),
            name: row.4.into(),
            resource_request: true,
            field_selector: row
                .5
                .split_once('=')
                .map(|(f, v)| (f.into(), v.into()))
                .into_iter()
                .collect(),
            ..Attributes::default()
        };
        matches!(authorizer.authorize(&question).await, Decision::Allow { .. })
    };
    for row in own {
        assert_eq!(ask(node("n1"), row).await, row.6, "{row:?}");
        assert!(
            !ask(user("system:node:n1", &[]), row).await,
            "a name without the group is no node: {row:?}"
        );
        assert!(!ask(user("system:node:", &["system:nodes"]), row).await, "{row:?}");
    }
}

#[tokio::test]
async fn nodes_write_only_what_is_theirs() {
    let test = TestServer::start().await;
    let node_object = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let made = test
        .post(
            node("n1"),
            "/api/v1/nodes",
            &node_object("n1", json!({"kubernetes.io/os": "wasi", "team": "x"})),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.message());
    let other = test
        .post(node("n1"), "/api/v1/nodes", &node_object("n2", json!({})))
        .await;
    assert_eq!(
        other.message(),
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    let label = json!({"node-restriction.kubernetes.io/secure": "yes"});
    let labelled = test.post(node("n3"), "/api/v1/nodes", &node_object("n3", label)).await;
    assert_eq!(labelled.status, 403);
    assert!(
        labelled
            .message()
            .ends_with("following labels: node-restriction.kubernetes.io/secure"),
        "{}",
        labelled.message()
    );

    let lease = |name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40}})
    };
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(test.post(node("n1"), leases, &lease("n1")).await.status, 201);
    assert_eq!(test.post(node("n1"), leases, &lease("n2")).await.status, 403);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(
        test.post(node("n1"), "/api/v1/namespaces/default/pods", &pod)
            .await
            .status,
        403
    );
    let admin_sees = test.get(admin(), "/api/v1/nodes/n1").await;
    assert_eq!(admin_sees.status, 200);
    assert_eq!(test.get(node("n2"), "/api/v1/nodes/n1").await.status, 403);
}
