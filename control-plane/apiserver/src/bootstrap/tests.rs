//! The objects that every cluster has: complete, and made once.

use serde_json::json;
use skiff_api::object::str_at;

use super::*;
use crate::authn::testing::{TestServer, admin};

#[test]
fn every_binding_names_a_role_of_the_table() {
    let objects = rbac_defaults();
    let exists = |kind: &str, namespace: &str, name: &str| {
        objects
            .iter()
            .any(|o| object::kind(o) == kind && object::namespace(o) == namespace && object::name(o) == name)
    };
    for binding in objects.iter().filter(|o| object::kind(o).ends_with("Binding")) {
        let (kind, name) = (str_at(binding, "/roleRef/kind"), str_at(binding, "/roleRef/name"));
        let namespace = if kind == "Role" { object::namespace(binding) } else { "" };
        assert!(
            exists(kind, namespace, name),
            "{} → {kind} {name}",
            object::name(binding)
        );
    }
}

#[test]
fn aggregated_roles_hold_the_rules_of_their_parts() {
    let objects = rbac_defaults();
    let rules = |name: &str| {
        let role = objects
            .iter()
            .find(|o| object::kind(o) == "ClusterRole" && object::name(o) == name)
            .unwrap();
        Rule::list_of(role)
    };
    assert!(uncovered(&rules("view"), &rules("system:aggregate-to-view")).is_empty());
    assert!(uncovered(&rules("edit"), &rules("view")).is_empty());
    assert!(uncovered(&rules("admin"), &rules("edit")).is_empty());
    assert!(!uncovered(&rules("view"), &rules("edit")).is_empty());
    let secrets = [Rule::from_json(
        &json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}),
    )];
    assert!(
        !uncovered(&rules("view"), &secrets).is_empty(),
        "view must not show secrets"
    );
}

#[test]
fn what_users_added_stays_and_what_is_missing_comes_back() {
    let wanted = rbac_defaults()
        .into_iter()
        .find(|o| object::name(o) == "system:discovery" && o.get("rules").is_some())
        .unwrap();
    assert_eq!(merged(&wanted, &wanted), None);
    let mut present = wanted.clone();
    present["metadata"]["labels"] = json!({"mine": "yes"});
    present["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/mine"]}]);
    let repaired = merged(&present, &wanted).unwrap();
    assert_eq!(str_at(&repaired, "/metadata/labels/mine"), "yes");
    assert_eq!(
        str_at(&repaired, "/metadata/labels/kubernetes.io~1bootstrapping"),
        "rbac-defaults"
    );
    assert!(uncovered(&Rule::list_of(&repaired), &Rule::list_of(&wanted)).is_empty());
    assert!(uncovered(&Rule::list_of(&repaired), &Rule::list_of(&present)).is_empty());
    present["metadata"]["annotations"][AUTOUPDATE] = "false".into();
    assert_eq!(merged(&present, &wanted), None);
}

#[tokio::test]
async fn a_second_start_changes_nothing() {
    let test = TestServer::start().await;
    let state = async || {
        let mut texts = Vec::new();
        for path in [
            "/api/v1/namespaces",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "/apis/node.k8s.io/v1/runtimeclasses",
        ] {
            texts.push(test.get(admin(), path).await.json()["items"].to_string());
        }
        texts
    };
    let before = state().await;
    assert!(before[0].contains("kube-node-lease") && before[1].contains("system:node") && before[2].contains("wasm"));
    ensure(&test.server.registry, &test.pki).await.unwrap();
    assert_eq!(before, state().await);
}
