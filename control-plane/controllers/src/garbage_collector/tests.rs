//! The three ways of deletion, on graphs written as text.

use expect_test::expect;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::testing::{describe, from_yaml, now};

fn graph(objects: &[&str]) -> Graph {
    let mut graph = Graph::default();
    graph.set_served(vec![Resource::CONFIG_MAP, Resource::NODE]);
    for object in objects {
        let meta: Arc<ObjectMeta> = from_yaml(object);
        graph.insert(GraphNode::new(&Resource::CONFIG_MAP, &meta));
    }
    graph
}

fn plan(graph: &Graph, uid: &str) -> String {
    let world = graph.world(uid).unwrap();
    describe(&GarbageCollector.reconcile(
        &world,
        &Context {
            now: now(),
            failure: None,
        },
    ))
}

const OWNED: &str = "{name: dep, namespace: d, uid: dep, resourceVersion: '3', ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: own, uid: own, blockOwnerDeletion: true}]}";

#[test]
fn an_object_without_its_owner_goes_after_a_second_look() {
    expect![[r#"
        confirm absent ConfigMap d/own uid=own
        delete ConfigMap d/dep uid=dep rv=3
        report Changing("its owners are gone")
    "#]]
    .assert_eq(&plan(&graph(&[OWNED]), "dep"));
    assert_eq!(plan(&graph(&[OWNED, "{name: own, namespace: d, uid: own}"]), "dep"), "");
    // The name again, but another object.
    assert!(plan(&graph(&[OWNED, "{name: own, namespace: d, uid: other}"]), "dep").contains("delete"));
    // An owner of that uid elsewhere does not count.
    assert!(plan(&graph(&[OWNED, "{name: own, namespace: e, uid: own}"]), "dep").contains("delete"));
}

#[test]
fn of_two_owners_the_one_that_is_gone_is_taken_off() {
    let two = "{name: dep, namespace: d, uid: dep, resourceVersion: '3', ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: own, uid: own}, {apiVersion: v1, kind: ConfigMap, name: gone, uid: gone}]}";
    expect![[r#"
        confirm absent ConfigMap d/gone uid=gone
        patch ConfigMap d/dep uid=dep rv=3 {"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"own","uid":"own"}]}}
        report Changing("owners that are gone are taken off")
    "#]]
    .assert_eq(&plan(&graph(&[two, "{name: own, namespace: d, uid: own}"]), "dep"));
}

#[test]
fn nothing_is_concluded_from_an_unknown_kind() {
    let odd =
        "{name: dep, namespace: d, uid: dep, ownerReferences: [{apiVersion: x.io/v1, kind: Odd, name: o, uid: o}]}";
    assert_eq!(plan(&graph(&[odd]), "dep"), "");
    let cluster_wide = "{name: dep, uid: dep, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: o, uid: o}]}";
    assert_eq!(plan(&graph(&[cluster_wide]), "dep"), "");
}

const FOREGROUND_OWNER: &str = "{name: own, namespace: d, uid: own, resourceVersion: '9', deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [foregroundDeletion, x/y]}";

#[test]
fn in_the_foreground_the_owner_goes_last() {
    let mut graph = graph(&[FOREGROUND_OWNER, OWNED]);
    expect![[r#"
        report WaitingOn("1 dependents")
    "#]]
    .assert_eq(&plan(&graph, "own"));
    expect![[r#"
        delete ConfigMap d/dep uid=dep rv=3
        report Changing("its owners are gone")
    "#]]
    .assert_eq(&plan(&graph, "dep"));
    assert_eq!(graph.remove("dep"), ["own"]);
    expect![[r#"
        patch ConfigMap d/own uid=own rv=9 {"metadata":{"finalizers":["x/y"]}}
        report Changing("nothing blocks the deletion")
    "#]]
    .assert_eq(&plan(&graph, "own"));
}

#[test]
fn orphans_lose_their_owner_and_stay() {
    let owner = "{name: own, namespace: d, uid: own, resourceVersion: '9', deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [orphan]}";
    expect![[r#"
        patch ConfigMap d/dep uid=dep rv=3 {"metadata":{"ownerReferences":null}}
        patch ConfigMap d/own uid=own rv=9 {"metadata":{"finalizers":null}}
        report Changing("dependents are orphaned")
    "#]]
    .assert_eq(&plan(&graph(&[owner, OWNED]), "own"));
}

#[test]
fn changes_wake_those_whom_they_concern() {
    let mut graph = graph(&["{name: own, namespace: d, uid: own}"]);
    let insert = |graph: &mut Graph, text: &str| {
        graph.insert(GraphNode::new(&Resource::CONFIG_MAP, &from_yaml::<ObjectMeta>(text)))
    };
    assert_eq!(insert(&mut graph, OWNED), ["dep"]);
    assert!(insert(&mut graph, OWNED).is_empty());
    assert_eq!(insert(&mut graph, FOREGROUND_OWNER), ["own", "dep"]);
    assert_eq!(graph.remove("own"), ["dep"]);
}
