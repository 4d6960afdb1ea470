//! Replica sets: what is refused, the table.

use expect_test::expect;

use super::*;
use crate::kinds::testing::{check_invalid, check_table};

#[test]
fn templates_must_match_and_run_for_ever() {
    check_invalid(
        &ReplicaSetStrategy,
        "{metadata: {name: v}, spec: {replicas: -1, selector: {matchLabels: {app: kd}}, template: {metadata: {labels: {x: y}}, spec: {restartPolicy: OnFailure, activeDeadlineSeconds: 5}}}}",
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"x":"y"}: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
            spec.template.spec.restartPolicy: Unsupported value: "OnFailure": supported values: "Always"
            spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported
        "#]],
    );
}

#[test]
fn counters_of_a_status_fit_together() {
    let mut errors = FieldErrors::new();
    let set = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "observedGeneration": -1}});
    ReplicaSetStrategy.validate_status_update(&set, &set, &mut errors);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "status.observedGeneration: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
        ]
    );
}

#[test]
fn table() {
    check_table(
        &ReplicaSetStrategy,
        "{metadata: {name: web-1}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: 'i:1'}]}}}, status: {replicas: 2, readyReplicas: 1}}",
        expect![[r#"
            Name: "web-1"
            Desired: 3
            Current: 2
            Ready: 1
            Age: "5m"
            Containers: "a"
            Images: "i:1"
            Selector: "app=web"
        "#]],
    );
}
