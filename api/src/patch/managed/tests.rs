//! Field managers on ConfigMaps, Deployments and pods; expectations follow the answers of a real Kubernetes 1.36.

use expect_test::{Expect, expect};

use super::*;
use crate::schema::Schema;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:05:00Z";

fn ctx(manager: &'static str, group: &str, api_version: &'static str, kind: &'static str) -> WriteContext<'static> {
    WriteContext {
        manager,
        api_version,
        kind,
        subresource: "",
        now: NOW,
        message: Schema::get().message_for(group, "v1", kind).unwrap(),
        ignored: &["status"],
    }
}

fn config_map(manager: &'static str) -> WriteContext<'static> {
    ctx(manager, "", "v1", "ConfigMap")
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn fields(object: &Value, manager: &str) -> Value {
    object::list_at(object, "/metadata/managedFields")
        .iter()
        .find(|entry| entry["manager"] == manager)
        .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn check(value: &Value, expected: Expect) {
    expected.assert_eq(&value.to_string());
}

#[test]
fn a_create_owns_what_it_set_and_map_parents_too() {
    let mut object = config(json!({"a": "1"}));
    object["metadata"]["labels"] = json!({"x": "y"});
    update(None, &mut object, &config_map("m"));
    check(
        &fields(&object, "m"),
        expect![[r#"{"f:data":{".":{},"f:a":{}},"f:metadata":{"f:labels":{".":{},"f:x":{}}}}"#]],
    );
}

#[test]
fn a_created_deployment_is_recorded_as_kubernetes_does() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%"}}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
        "containers": [{"name": "c", "image": "x", "resources": {}, "env": [{"name": "A", "value": "b"}]}],
        "securityContext": {}}}}});
    let context = ctx("m", "apps", "apps/v1", "Deployment");
    let mut object = codec::json::normalize(&deployment, context.message).unwrap();
    update(None, &mut object, &context);
    check(
        &fields(&object, "m")["f:spec"],
        expect![[
            r#"{"f:replicas":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:name":{},"f:resources":{}}},"f:securityContext":{}}}}"#
        ]],
    );
}

#[test]
fn an_update_takes_changed_fields_from_their_owner() {
    let mut first = config(json!({"a": "1", "b": "2"}));
    update(None, &mut first, &config_map("one"));
    let mut second = first.clone();
    second["data"] = json!({"a": "1", "b": "3"});
    update(
        Some(&first),
        &mut second,
        &WriteContext {
            now: LATER,
            ..config_map("two")
        },
    );
    check(&fields(&second, "one"), expect![[r#"{"f:data":{".":{},"f:a":{}}}"#]]);
    check(&fields(&second, "two"), expect![[r#"{"f:data":{"f:b":{}}}"#]]);
}

#[test]
fn a_write_that_changes_nothing_changes_no_record() {
    let mut first = config(json!({"a": "1"}));
    update(None, &mut first, &config_map("one"));
    let mut again = first.clone();
    update(
        Some(&first),
        &mut again,
        &WriteContext {
            now: LATER,
            ..config_map("two")
        },
    );
    assert_eq!(again, first);
}

#[test]
fn one_empty_entry_resets_the_records() {
    let mut first = config(json!({"a": "1"}));
    update(None, &mut first, &config_map("one"));
    let mut reset = first.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    update(Some(&first), &mut reset, &config_map("two"));
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[test]
fn managers_share_an_object_until_they_disagree() {
    let one = apply(None, &config(json!({"x": "1", "y": "2"})), &config_map("m1"), false).unwrap();
    check(&fields(&one, "m1"), expect![[r#"{"f:data":{"f:x":{},"f:y":{}}}"#]]);
    let two = apply(Some(&one), &config(json!({"z": "3"})), &config_map("m2"), false).unwrap();
    assert_eq!(two["data"], json!({"x": "1", "y": "2", "z": "3"}));

    let error = apply(Some(&two), &config(json!({"y": "5"})), &config_map("m2"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"m1\": .data.y"
    );
    let error = apply(
        Some(&two),
        &config(json!({"y": "5", "x": "6"})),
        &config_map("m2"),
        false,
    )
    .unwrap_err();
    let want = "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .data.x\n- .data.y";
    assert_eq!(error.to_string(), want);

    let forced = apply(Some(&two), &config(json!({"y": "5"})), &config_map("m2"), true).unwrap();
    assert_eq!(
        forced["data"],
        json!({"x": "1", "y": "5"}),
        "z was m2's alone and is no longer wanted"
    );
    check(&fields(&forced, "m1"), expect![[r#"{"f:data":{"f:x":{}}}"#]]);
}

#[test]
fn applying_the_same_again_is_no_change() {
    let one = apply(None, &config(json!({"x": "1"})), &config_map("m1"), false).unwrap();
    let again = apply(
        Some(&one),
        &config(json!({"x": "1"})),
        &WriteContext {
            now: LATER,
            ..config_map("m1")
        },
        false,
    )
    .unwrap();
    assert_eq!(again, one);
}

#[test]
fn what_a_manager_drops_goes_unless_another_wants_it() {
    let one = apply(None, &config(json!({"x": "1", "y": "2"})), &config_map("m1"), false).unwrap();
    let two = apply(Some(&one), &config(json!({"y": "2"})), &config_map("m2"), false).unwrap();
    let three = apply(Some(&two), &config(json!({})), &config_map("m1"), false).unwrap();
    assert_eq!(three["data"], json!({"y": "2"}));
    check(&fields(&three, "m1"), expect![[r#"{"f:data":{}}"#]]);
}

#[test]
fn list_items_are_owned_by_key_with_defaults_in_it() {
    let context = ctx("m1", "", "v1", "Pod");
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
    let one = pod(json!([{"name": "a", "image": "x", "ports": [{"containerPort": 80}], "args": ["1"]}]));
    let one = apply(None, &one, &context, false).unwrap();
    check(
        &fields(&one, "m1"),
        expect![[
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:args":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}"#
        ]],
    );
    let other = WriteContext {
        manager: "m2",
        ..context.clone()
    };
    let error = apply(Some(&one), &pod(json!([{"name": "a", "args": ["2"]}])), &other, false).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("conflict with \"m1\": .spec.containers[name=\"a\"].args"),
        "{error}"
    );

    let two = apply(Some(&one), &pod(json!([{"name": "b", "image": "y"}])), &other, false).unwrap();
    let three = apply(Some(&two), &pod(json!([{"name": "a", "image": "x"}])), &context, false).unwrap();
    assert_eq!(three["spec"]["containers"][0], json!({"name": "a", "image": "x"}));
    assert_eq!(three["spec"]["containers"][1]["name"], "b");

    let double = pod(json!([{"name": "a"}, {"name": "a"}]));
    let want = "failed to create typed patch object (/p; v1, Kind=Pod): .spec.containers: duplicate entries for key [name=\"a\"]";
    assert_eq!(apply(None, &double, &context, false).unwrap_err().to_string(), want);
}

#[test]
fn a_dropped_probe_goes_with_its_defaults() {
    let context = ctx("m", "", "v1", "Pod");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "a", "image": "x", "livenessProbe": {"httpGet": {"port": 1}}}]}});
    let mut live = apply(None, &pod, &context, false).unwrap();
    live["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = json!(10);
    let mut without = pod.clone();
    object::as_map(&mut without["spec"]["containers"][0]).remove("livenessProbe");
    let next = apply(Some(&live), &without, &context, false).unwrap();
    assert_eq!(next["spec"]["containers"][0], json!({"name": "a", "image": "x"}));
}

#[test]
fn the_oldest_updates_are_folded() {
    let mut object = config(json!({}));
    for i in 0..12 {
        let before = object.clone();
        object["data"][format!("k{i:02}")] = json!("1");
        let manager: &'static str = Box::leak(format!("m{i:02}").into_boxed_str());
        let now: &'static str = Box::leak(format!("2026-01-02T03:04:{i:02}Z").into_boxed_str());
        update(
            (i > 0).then_some(&before),
            &mut object,
            &WriteContext {
                now,
                ..config_map(manager)
            },
        );
    }
    let entries = object::list_at(&object, "/metadata/managedFields");
    assert_eq!(entries.len(), UPDATE_MANAGERS_MAX);
    check(
        &fields(&object, "ancient-changes"),
        expect![[r#"{"f:data":{".":{},"f:k00":{},"f:k01":{},"f:k02":{}}}"#]],
    );
}

#[test]
fn an_object_without_records_belongs_to_its_past() {
    let live = config(json!({"x": "1"}));
    let error = apply(Some(&live), &config(json!({"x": "2"})), &config_map("m"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x"
    );
}

#[test]
fn an_apply_that_only_claims_has_no_time() {
    let one = apply(None, &config(json!({"x": "1"})), &config_map("m1"), false).unwrap();
    let later = WriteContext {
        now: LATER,
        ..config_map("m2")
    };
    let two = apply(Some(&one), &config(json!({"x": "1"})), &later, false).unwrap();
    let time = |object: &Value, manager: &str| {
        let entries = object::list_at(object, "/metadata/managedFields").iter();
        entries.clone().find(|entry| entry["manager"] == manager).unwrap()["time"].clone()
    };
    assert_eq!((time(&two, "m1"), time(&two, "m2")), (json!(NOW), Value::Null));
    let three = apply(Some(&two), &config(json!({"x": "1", "y": "2"})), &later, false).unwrap();
    assert_eq!(time(&three, "m2"), json!(LATER));
}

#[test]
fn items_that_share_a_key_are_owned_together() {
    let context = ctx("m", "", "v1", "Pod");
    let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "env": env}]}});
    update(None, &mut pod, &context);
    let owned = fields(&pod, "m");
    let owned = owned.pointer("/f:spec/f:containers/k:{\"name\":\"c\"}/f:env").unwrap();
    check(owned, expect![[r#"{".":{},"k:{\"name\":\"A\"}":{}}"#]]);
}
