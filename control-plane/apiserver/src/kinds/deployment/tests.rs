//! Deployments: defaults, what is refused, the table.

use expect_test::{Expect, expect};

use super::*;
use crate::kinds::testing::{check_create, check_invalid, check_invalid_update, check_table};

fn spec(extra: &str) -> String {
    format!(
        "{{metadata: {{name: v}}, spec: {{replicas: 0, selector: {{matchLabels: {{app: kd}}}}, template: {{metadata: {{labels: {{app: kd}}}}, spec: {{containers: [{{name: c, image: 'x:1'}}]}}}}, {extra}}}}}"
    )
}

fn refused(extra: &str, expected: Expect) {
    check_invalid(&DeploymentStrategy, &spec(extra), expected);
}

#[test]
fn defaults() {
    check_create(
        &DeploymentStrategy,
        "{metadata: {name: v}, spec: {selector: {matchLabels: {app: kd}}, template: {metadata: {labels: {app: kd}}, spec: {containers: [{name: c, image: x}]}}}}",
        expect![[r#"
            {
              "metadata": {
                "name": "v"
              },
              "spec": {
                "progressDeadlineSeconds": 600,
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "selector": {
                  "matchLabels": {
                    "app": "kd"
                  }
                },
                "strategy": {
                  "rollingUpdate": {
                    "maxSurge": "25%",
                    "maxUnavailable": "25%"
                  },
                  "type": "RollingUpdate"
                },
                "template": {
                  "metadata": {
                    "labels": {
                      "app": "kd"
                    }
                  },
                  "spec": {
                    "containers": [
                      {
                        "image": "x",
                        "imagePullPolicy": "Always",
                        "name": "c",
                        "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File"
                      }
                    ],
                    "dnsPolicy": "ClusterFirst",
                    "restartPolicy": "Always",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30
                  }
                }
              },
              "status": {}
            }
        "#]],
    );
}

#[test]
fn an_empty_deployment_is_told_everything_it_lacks() {
    check_invalid(
        &DeploymentStrategy,
        "{metadata: {name: v}}",
        expect![[r#"
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
        "#]],
    );
}

#[test]
fn numbers_are_checked() {
    refused(
        "minReadySeconds: -1",
        expect![[r#"
        spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
    "#]],
    );
    refused(
        "minReadySeconds: 600",
        expect![[r#"
        spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
    "#]],
    );
    refused(
        "progressDeadlineSeconds: 0",
        expect![[r#"
        spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds
    "#]],
    );
    refused(
        "revisionHistoryLimit: -1",
        expect![[r#"
        spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0
    "#]],
    );
}

#[test]
fn strategies_are_checked() {
    refused(
        "strategy: {type: Odd}",
        expect![[r#"
        spec.strategy: Unsupported value: {"Type":"Odd","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate"
    "#]],
    );
    refused(
        "strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}",
        expect![[r#"
        spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
    "#]],
    );
    refused(
        "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}",
        expect![[r#"
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
    "#]],
    );
    refused(
        "strategy: {rollingUpdate: {maxSurge: 'x%', maxUnavailable: '101%'}}",
        expect![[r#"
        spec.strategy.rollingUpdate.maxSurge: Invalid value: "x%": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
    "#]],
    );
}

#[test]
fn selectors_are_checked_and_never_change() {
    check_invalid(
        &DeploymentStrategy,
        "{metadata: {name: v}, spec: {selector: {matchLabels: {app: kd}, matchExpressions: [{key: a, operator: Odd}]}, template: {metadata: {labels: {app: kd}}, spec: {containers: [{name: c, image: x}]}}}}",
        expect![[r#"
            spec.selector.matchExpressions[0].operator: Invalid value: "Odd": not a valid selector operator
            spec.selector: Invalid value: {"matchLabels":{"app":"kd"},"matchExpressions":[{"key":"a","operator":"Odd"}]}: invalid label selector
        "#]],
    );
    check_invalid_update(
        &DeploymentStrategy,
        &spec(""),
        &spec("").replace("matchLabels: {app: kd}", "matchLabels: {app: kd, x: y}"),
        expect![[r#"
            spec.template.metadata.labels: Invalid value: {"app":"kd"}: `selector` does not match template `labels`
            spec.selector: Invalid value: {"matchLabels":{"app":"kd","x":"y"}}: field is immutable
        "#]],
    );
}

#[test]
fn annotations_raise_the_generation() {
    let old = crate::kinds::testing::object(&spec(""));
    let mut new = old.clone();
    assert!(!DeploymentStrategy.raises_generation(&new, &old));
    new["metadata"]["annotations"] = json!({"a": "b"});
    assert!(DeploymentStrategy.raises_generation(&new, &old));
}

#[test]
fn table_and_scale() {
    let yaml = "{metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: 'i:1'}, {name: b, image: 'j:2'}]}}}, status: {replicas: 3, readyReplicas: 2, updatedReplicas: 1, availableReplicas: 2}}";
    check_table(
        &DeploymentStrategy,
        yaml,
        expect![[r#"
            Name: "web"
            Ready: "2/3"
            Up-to-date: 1
            Available: 2
            Age: "5m"
            Containers: "a,b"
            Images: "i:1,j:2"
            Selector: "app=web"
        "#]],
    );
    assert_eq!(
        DeploymentStrategy.scale(&crate::kinds::testing::object(yaml)),
        Some((3, 3, "app=web".to_owned()))
    );
}
