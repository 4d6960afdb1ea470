//! Pods: defaults, deletion, ledgers, classes. What is refused and what tables show stand in files of their own.

mod refused;
mod table;

use expect_test::expect;

use super::*;
use crate::kinds::testing::{check_create, object};

/// A pod whose one container has these fields besides name and image.
fn with_container(fields: &str) -> String {
    format!("{{metadata: {{name: v}}, spec: {{containers: [{{name: c, image: 'x:1', {fields}}}]}}}}")
}

/// A pod whose spec has these fields besides its container.
fn with_spec(fields: &str) -> String {
    format!("{{metadata: {{name: v}}, spec: {{containers: [{{name: c, image: 'x:1'}}], {fields}}}}}")
}

#[test]
fn a_short_pod_becomes_a_whole_one() {
    check_create(
        &PodStrategy,
        &with_container(
            "ports: [{containerPort: 80}], livenessProbe: {httpGet: {port: 80}}, resources: {limits: {cpu: '1'}}, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
        ),
        expect![[r#"
            {
              "metadata": {
                "name": "v"
              },
              "spec": {
                "containers": [
                  {
                    "env": [
                      {
                        "name": "A",
                        "valueFrom": {
                          "fieldRef": {
                            "apiVersion": "v1",
                            "fieldPath": "metadata.name"
                          }
                        }
                      }
                    ],
                    "image": "x:1",
                    "imagePullPolicy": "IfNotPresent",
                    "livenessProbe": {
                      "failureThreshold": 3,
                      "httpGet": {
                        "path": "/",
                        "port": 80,
                        "scheme": "HTTP"
                      },
                      "periodSeconds": 10,
                      "successThreshold": 1,
                      "timeoutSeconds": 1
                    },
                    "name": "c",
                    "ports": [
                      {
                        "containerPort": 80,
                        "protocol": "TCP"
                      }
                    ],
                    "resources": {
                      "limits": {
                        "cpu": "1"
                      },
                      "requests": {
                        "cpu": "1"
                      }
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              },
              "status": {
                "phase": "Pending",
                "qosClass": "Burstable"
              }
            }
        "#]],
    );
}

#[test]
fn volumes_get_their_defaults() {
    let mut pod = object(&with_spec(
        "volumes: [{name: a}, {name: b, secret: {secretName: s}}, {name: c, hostPath: {path: /x}}, {name: d, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
    ));
    PodStrategy.apply_defaults(&mut pod);
    expect![[r#"[{"emptyDir":{},"name":"a"},{"name":"b","secret":{"defaultMode":420,"secretName":"s"}},{"hostPath":{"path":"/x","type":""},"name":"c"},{"name":"d","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3600,"path":"t"}}]}}]"#]]
        .assert_eq(&pod["spec"]["volumes"].to_string());
}

#[test]
fn the_pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("x", "Always"),
        ("x:latest", "Always"),
        ("x:1", "IfNotPresent"),
        ("host:5000/x", "Always"),
        ("host:5000/x:1", "IfNotPresent"),
        ("x@sha256:0", "IfNotPresent"),
    ] {
        let mut pod = object(&format!("{{spec: {{containers: [{{image: '{image}'}}]}}}}"));
        PodStrategy.apply_defaults(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn the_class_follows_requests_and_limits() {
    for (resources, class) in [
        ("{}", "BestEffort"),
        ("{requests: {cpu: 100m}}", "Burstable"),
        ("{limits: {cpu: '1', memory: 1Gi}}", "Guaranteed"),
        (
            "{limits: {cpu: '1', memory: 1Gi}, requests: {cpu: 500m, memory: 1Gi}}",
            "Burstable",
        ),
        ("{limits: {cpu: '1'}}", "Burstable"),
        ("{requests: {cpu: '0'}}", "BestEffort"),
    ] {
        let mut pod = object(&with_container(&format!("resources: {resources}")));
        PodStrategy.apply_defaults(&mut pod);
        assert_eq!(qos::class(&pod), class, "{resources}");
    }
}

#[test]
fn deleting_a_pod_waits_for_its_node() {
    let seconds = |yaml: &str, requested| match PodStrategy.delete_mode(&object(yaml), requested) {
        DeleteMode::Graceful { grace_period_seconds } => grace_period_seconds,
        DeleteMode::Immediate => panic!("pods always end gracefully"),
    };
    let bound = "{spec: {nodeName: n, terminationGracePeriodSeconds: 20}, status: {phase: Running}}";
    assert_eq!(seconds(bound, None), 20);
    assert_eq!(seconds(bound, Some(3)), 3);
    assert_eq!(seconds(bound, Some(0)), 0);
    assert_eq!(seconds("{spec: {terminationGracePeriodSeconds: 20}}", None), 0);
    assert_eq!(
        seconds(
            "{spec: {nodeName: n, terminationGracePeriodSeconds: 20}, status: {phase: Failed}}",
            None
        ),
        0
    );
}

#[test]
fn the_ledger_follows_a_pod_to_its_end() {
    let pod = |node: &str, phase: &str| {
        object(&format!(
            "{{metadata: {{uid: u}}, spec: {{nodeName: '{node}'}}, status: {{phase: {phase}}}}}"
        ))
    };
    let (free, bound, ended) = (pod("", "Pending"), pod("n", "Running"), pod("n", "Succeeded"));
    let release = Some(LedgerChange::Release {
        node: "n".into(),
        uid: "u".into(),
    });
    assert_eq!(PodStrategy.ledger_effect(None, Some(&free)), None);
    assert_eq!(
        PodStrategy.ledger_effect(None, Some(&bound)),
        Some(LedgerChange::Enter { node: "n".into() })
    );
    assert_eq!(PodStrategy.ledger_effect(Some(&bound), Some(&bound)), None);
    assert_eq!(PodStrategy.ledger_effect(Some(&bound), Some(&ended)), release);
    assert_eq!(PodStrategy.ledger_effect(Some(&bound), None), release);
    assert_eq!(PodStrategy.ledger_effect(Some(&free), None), None);
}

#[test]
fn a_status_write_changes_neither_spec_nor_owners() {
    let old = object(
        "{metadata: {name: a, ownerReferences: [{uid: o}]}, spec: {nodeName: n}, status: {qosClass: Burstable}}",
    );
    let mut new = object("{metadata: {name: a, labels: {x: y}}, spec: {nodeName: m}, status: {phase: Running}}");
    let ctx = WriteContext {
        now: String::new(),
        uuid: String::new(),
        subresource: "status",
    };
    PodStrategy.prepare_for_status_update(&mut new, &old, &ctx);
    expect![[r#"{"metadata":{"labels":{"x":"y"},"name":"a","ownerReferences":[{"uid":"o"}]},"spec":{"nodeName":"n"},"status":{"phase":"Running","qosClass":"Burstable"}}"#]]
        .assert_eq(&new.to_string());
}

#[test]
fn settings_that_are_probably_not_meant_are_warned_of() {
    let template = object(
        "{metadata: {annotations: {skiff.dev/egres: none, sockets.skiff.dev/gone: '1', skiff.dev/requests: '0'}}, \
         spec: {containers: [{name: c, image: 'x:1'}]}}",
    );
    expect![[r#"
        spec.template.metadata.annotations[skiff.dev/requests]: Invalid value: "0": must be a whole number from 1 to 1000000
        spec.template.metadata.annotations[skiff.dev/egres]: no such setting
        spec.template.metadata.annotations[sockets.skiff.dev/gone]: the pod has no container "gone""#]]
    .assert_eq(&warnings::of_template(&template, &Path::new("spec").child("template")).join("\n"));
}
