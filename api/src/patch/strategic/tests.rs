//! Strategic merge patch on pods, as kubectl sends it.

use serde_json::json;

use super::*;
use crate::schema::Schema;

fn pod_patch(original: Value, patch: Value) -> Result<Value, PatchError> {
    apply(&original, &patch, Schema::get().message_for("", "v1", "Pod").unwrap())
}

#[test]
fn containers_meet_by_name_and_new_ones_are_appended() {
    let original = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let patch = json!({"spec": {"containers": [{"name": "b", "image": "z"}, {"name": "c", "image": "w"}]}});
    let want = json!({"spec": {"containers": [
        {"name": "a", "image": "x"}, {"name": "b", "image": "z"}, {"name": "c", "image": "w"}]}});
    assert_eq!(pod_patch(original, patch).unwrap(), want);
}

#[test]
fn the_order_directive_decides_among_named_items() {
    let original = json!({"spec": {"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}});
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
        "containers": [{"name": "c"}]}});
    let merged = pod_patch(original, patch).unwrap();
    let names: Vec<&str> = merged["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "server", "b", "a"]);
}

#[test]
fn items_are_deleted_and_whole_lists_replaced() {
    let original = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "tolerations": [{"key": "x"}]}});
    let patch = json!({"spec": {
        "containers": [{"name": "a", "$patch": "delete"}], "tolerations": [{"key": "y"}]}});
    let want = json!({"spec": {"containers": [{"name": "b"}], "tolerations": [{"key": "y"}]}});
    assert_eq!(pod_patch(original.clone(), patch).unwrap(), want);
    let patch = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "n"}]}});
    assert_eq!(
        pod_patch(original, patch).unwrap()["spec"]["containers"],
        json!([{"name": "n"}])
    );
}

#[test]
fn finalizers_are_a_set_and_can_be_deleted_from() {
    let original = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["b", "c"]}});
    assert_eq!(
        pod_patch(original.clone(), patch).unwrap()["metadata"]["finalizers"],
        json!(["a", "b", "c"])
    );
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}});
    assert_eq!(
        pod_patch(original, patch).unwrap()["metadata"]["finalizers"],
        json!(["b"])
    );
}

#[test]
fn retained_keys_drop_the_other_members_of_a_union() {
    let original = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [
        {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}});
    let want = json!([{"name": "v", "hostPath": {"path": "/x"}}]);
    assert_eq!(pod_patch(original, patch).unwrap()["spec"]["volumes"], want);
}

#[test]
fn null_removes_and_sets_nothing_where_there_is_nothing() {
    let original = json!({"metadata": {"labels": {"a": "1"}}});
    let patch = json!({"metadata": {"labels": {"a": null, "b": "2"}, "annotations": {"c": null, "d": "e"}}});
    let want = json!({"metadata": {"labels": {"b": "2"}, "annotations": {"d": "e"}}});
    assert_eq!(pod_patch(original, patch).unwrap(), want);
}

#[test]
fn an_item_without_its_key_is_refused() {
    let original = json!({"spec": {"containers": [{"name": "a"}]}});
    let error = pod_patch(original, json!({"spec": {"containers": [{"image": "x"}]}})).unwrap_err();
    let want = "map: map[image:x] does not contain declared merge key: name";
    assert_eq!(error, PatchError::Broken(want.to_owned()));
}

#[test]
fn an_item_that_is_new_to_the_server_comes_first_as_in_kubernetes() {
    let original = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let merged = pod_patch(original, json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
    assert_eq!(
        merged["spec"]["containers"],
        json!([{"name": "c"}, {"name": "a"}, {"name": "b"}])
    );
}

#[test]
fn broken_rules_are_told_in_kubernetes_words() {
    let original = json!({"spec": {"containers": [{"name": "a"}]}});
    let text = |patch: Value| {
        pod_patch(original.clone(), json!({"spec": patch}))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "q", "image": "x"}]})),
        "The order in patch list:\n[map[image:x name:q]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n"
    );
    assert_eq!(
        text(json!({"containers": [{"$patch": "odd", "name": "a"}]})),
        "unknown patch type: odd in map: map[$patch:odd name:a]"
    );
    assert_eq!(
        text(json!({"containers": [{"name": "a", "$patch": "merge"}]})),
        "merging lists cannot yet be specified in the patch"
    );
}
