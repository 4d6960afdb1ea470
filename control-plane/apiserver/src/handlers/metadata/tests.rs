//! Metadata rules, worded as Kubernetes words them.

use expect_test::expect;
use serde_json::json;

use super::*;

fn check(object: Value) -> String {
    let strategy = crate::generic::strategy("", "v1", "configmaps");
    let mut errors = FieldErrors::new();
    validate(&*strategy, &object, &mut errors);
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_good_object_has_no_errors() {
    assert_eq!(
        check(json!({"metadata": {"name": "a.b", "namespace": "x", "labels": {"a/b": "c"}}})),
        ""
    );
}

#[test]
fn each_mistake_is_named() {
    let found = check(json!({"metadata": {
        "namespace": "x", "labels": {"a b": "-"}, "annotations": {"/": "1"}, "finalizers": ["odd"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}],
    }}));
    expect![[r#"
        metadata.name: Required value: name or generateName is required
        metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        metadata.annotations: Invalid value: "/": prefix part must be non-empty
        metadata.annotations: Invalid value: "/": name part must be non-empty
        metadata.annotations: Invalid value: "/": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.ownerReferences.uid: Invalid value: "": must not be empty
        metadata.finalizers[0]: Invalid value: "odd": name is neither a standard finalizer name nor is it fully qualified"#]]
    .assert_eq(&found);
}

#[test]
fn identity_cannot_change() {
    let old = json!({"metadata": {"name": "a", "uid": "1"}});
    let new = json!({"metadata": {"name": "b", "uid": "1"}});
    let mut errors = FieldErrors::new();
    validate_update(&new, &old, &mut errors);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["metadata.name: Invalid value: \"b\": field is immutable"]);
}

#[test]
fn generated_names_fit_and_differ() {
    let long = "x".repeat(100);
    let name = generate_name(&long);
    assert_eq!(name.len(), 63);
    assert_ne!(generate_name("a-"), generate_name("a-"));
    assert!(generate_name("web-").starts_with("web-"));
}
