//! The table loads, and its facts come out.

use super::*;

fn field(kind: (&str, &str, &str), path: &[&str]) -> &'static Field {
    let mut message = Schema::get().message_for(kind.0, kind.1, kind.2).expect("known kind");
    let (last, parents) = path.split_last().expect("a path");
    for name in parents {
        message = message
            .field(name)
            .and_then(Field::message)
            .expect("a message on the way");
    }
    message.field(last).expect("the field")
}

#[test]
fn every_message_and_field_of_the_tables_is_loaded() {
    let schema = Schema::get();
    assert_eq!(schema.messages().len(), 1255);
    assert_eq!(schema.messages().iter().map(|m| m.fields().len()).sum::<usize>(), 4693);
    let with_number: usize = schema.messages().iter().map(|m| m.proto_fields().len()).sum();
    assert_eq!(with_number, 4313);
}

#[test]
fn list_kinds_follow_the_declaration_and_else_the_patch_strategy() {
    let pod = ("", "v1", "Pod");
    assert_eq!(
        field(pod, &["spec", "containers"]).list_kind(),
        ListKind::Map(&["name"])
    );
    assert_eq!(
        field(pod, &["spec", "containers", "ports"]).list_kind(),
        ListKind::Map(&["containerPort", "protocol"])
    );
    assert_eq!(field(pod, &["spec", "tolerations"]).list_kind(), ListKind::Atomic);
    assert_eq!(field(pod, &["metadata", "finalizers"]).list_kind(), ListKind::Set);
    assert_eq!(
        field(pod, &["metadata", "ownerReferences"]).list_kind(),
        ListKind::Map(&["uid"])
    );
    assert!(field(pod, &["spec", "volumes"]).patch_retain_keys);
    assert!(field(pod, &["spec", "nodeSelector"]).is_atomic_map());
    assert!(field(("apps", "v1", "Deployment"), &["spec", "selector"]).is_atomic_map());
    assert!(!field(pod, &["metadata", "labels"]).is_atomic_map());
}

#[test]
fn inlined_fields_are_found_by_json_name_and_nested_by_number() {
    let volume = Schema::get().message("k8s.io.api.core.v1.Volume").expect("known");
    assert!(volume.field("emptyDir").is_some());
    assert!(volume.field_by_number(2).expect("the volume source").inline);
    assert!(
        Schema::get()
            .message_for("", "v1", "Pod")
            .expect("known")
            .field("apiVersion")
            .is_some()
    );
}

#[test]
fn kinds_are_found_by_group_and_version_and_common_kinds_in_any() {
    let schema = Schema::get();
    let name = |group, version, kind| schema.message_for(group, version, kind).map(|m| m.full_name);
    assert_eq!(name("apps", "v1", "Deployment"), Some("k8s.io.api.apps.v1.Deployment"));
    assert_eq!(
        name("apps", "v1", "DeleteOptions"),
        Some("k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions")
    );
    assert_eq!(name("apps", "v1", "Pod"), None);
    assert_eq!(
        schema
            .message_for("", "v1", "PodList")
            .and_then(Message::list_item)
            .map(|m| m.name),
        Some("Pod")
    );
}

#[test]
fn names_are_as_openapi_and_go_write_them() {
    let schema = Schema::get();
    let crd = schema
        .message_for("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
        .expect("known");
    assert_eq!(
        crd.openapi_name(),
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
    );
    assert_eq!(
        field(("", "v1", "Pod"), &["spec", "containers"]).go_type(),
        "[]v1.Container"
    );
    assert_eq!(field(("", "v1", "Secret"), &["data"]).go_type(), "map[string][]uint8");
    assert_eq!(
        field(("", "v1", "Pod"), &["spec", "containers", "ports", "protocol"]).default_value(),
        Some("TCP".into())
    );
}
