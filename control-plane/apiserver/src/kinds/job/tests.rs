//! Jobs: defaults, what is refused, what may change, the table.

use expect_test::{Expect, expect};

use super::*;
use crate::kinds::testing::{check_create, check_invalid, check_invalid_update, check_table, object};

/// A Job as it is stored: `spec` and more beside it.
fn job(spec: &str, more: &str) -> String {
    format!(
        "{{metadata: {{name: one, uid: u}}, spec: {{selector: {{matchLabels: {{batch.kubernetes.io/controller-uid: u}}}}, template: {{metadata: {{labels: {{batch.kubernetes.io/controller-uid: u, batch.kubernetes.io/job-name: one, controller-uid: u, job-name: one}}}}, spec: {{containers: [{{name: c, image: 'x:1'}}], restartPolicy: Never}}}}, {spec}}}{more}}}"
    )
}

fn refused(spec: &str, expected: Expect) {
    check_invalid(&JobStrategy, &job(spec, ""), expected);
}

fn refused_change(old: &str, new: &str, expected: Expect) {
    check_invalid_update(&JobStrategy, old, new, expected);
}

#[test]
fn a_job_gets_a_selector_of_its_own() {
    let mut made = object(
        "{metadata: {name: one}, spec: {template: {metadata: {labels: {j: one}}, spec: {containers: [{name: c, image: 'x:1'}], restartPolicy: Never}}}}",
    );
    JobStrategy.apply_defaults(&mut made);
    let context = WriteContext {
        now: crate::kinds::testing::NOW.into(),
        uuid: "u".into(),
        subresource: "",
    };
    JobStrategy.prepare_for_create(&mut made, &context);
    expect![[r#"
        {
          "metadata": {
            "labels": {
              "batch.kubernetes.io/controller-uid": "u",
              "batch.kubernetes.io/job-name": "one",
              "controller-uid": "u",
              "j": "one",
              "job-name": "one"
            },
            "name": "one"
          },
          "spec": {
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "completions": 1,
            "manualSelector": false,
            "parallelism": 1,
            "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {
              "matchLabels": {
                "batch.kubernetes.io/controller-uid": "u"
              }
            },
            "suspend": false,
            "template": {
              "metadata": {
                "labels": {
                  "batch.kubernetes.io/controller-uid": "u",
                  "batch.kubernetes.io/job-name": "one",
                  "controller-uid": "u",
                  "j": "one",
                  "job-name": "one"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "x:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Never",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            }
          },
          "status": {}
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&made).unwrap());
    made["metadata"]["uid"] = "u".into();
    let mut errors = FieldErrors::new();
    JobStrategy.validate(&made, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn a_selector_by_hand_is_left_alone() {
    check_create(
        &JobStrategy,
        "{metadata: {name: one, labels: {own: x}}, spec: {manualSelector: true, completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1, podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: 'x:1'}], restartPolicy: Never}}}}",
        expect![[r#"
            {
              "metadata": {
                "labels": {
                  "own": "x"
                },
                "name": "one"
              },
              "spec": {
                "backoffLimit": 2147483647,
                "backoffLimitPerIndex": 1,
                "completionMode": "Indexed",
                "completions": 3,
                "manualSelector": true,
                "parallelism": 1,
                "podFailurePolicy": {
                  "rules": [
                    {
                      "action": "Ignore",
                      "onPodConditions": [
                        {
                          "status": "True",
                          "type": "DisruptionTarget"
                        }
                      ]
                    }
                  ]
                },
                "podReplacementPolicy": "Failed",
                "selector": {
                  "matchLabels": {
                    "a": "b"
                  }
                },
                "suspend": false,
                "template": {
                  "metadata": {
                    "labels": {
                      "a": "b"
                    }
                  },
                  "spec": {
                    "containers": [
                      {
                        "image": "x:1",
                        "imagePullPolicy": "IfNotPresent",
                        "name": "c",
                        "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File"
                      }
                    ],
                    "dnsPolicy": "ClusterFirst",
                    "restartPolicy": "Never",
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
fn an_empty_job_is_told_everything_it_lacks() {
    check_invalid(
        &JobStrategy,
        "{metadata: {name: one}}",
        expect![[r#"
        spec.template.spec.containers: Required value
        spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
    "#]],
    );
}

#[test]
fn labels_of_others_are_refused() {
    check_invalid(
        &JobStrategy,
        "{metadata: {name: one, uid: u}, spec: {selector: {matchLabels: {batch.kubernetes.io/controller-uid: other}}, template: {metadata: {labels: {controller-uid: other, job-name: one, batch.kubernetes.io/job-name: one}}, spec: {containers: [{name: c, image: 'x:1'}], restartPolicy: Never}}}}",
        expect![[r#"
            spec.template.metadata.labels[controller-uid]: Invalid value: {"batch.kubernetes.io/job-name":"one","controller-uid":"other","job-name":"one"}: must be 'u'
            spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Required value: must be 'u'
            spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Invalid value: {"batch.kubernetes.io/job-name":"one","controller-uid":"other","job-name":"one"}: must be 'u'
            spec.selector: Invalid value: {"matchLabels":{"batch.kubernetes.io/controller-uid":"other"}}: `selector` not auto-generated
            spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/job-name":"one","controller-uid":"other","job-name":"one"}: `selector` does not match template `labels`
        "#]],
    );
}

#[test]
fn numbers_and_modes_are_checked() {
    refused(
        "parallelism: -1, completions: -1, backoffLimit: -1, activeDeadlineSeconds: -1, ttlSecondsAfterFinished: -1",
        expect![[r#"
            spec.parallelism: Invalid value: -1: must be greater than or equal to 0
            spec.completions: Invalid value: -1: must be greater than or equal to 0
            spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0
            spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
    refused(
        "completionMode: Odd",
        expect![[r#"
        spec.completionMode: Unsupported value: "Odd": supported values: "NonIndexed", "Indexed"
    "#]],
    );
    refused(
        "completionMode: Indexed, parallelism: 100001",
        expect![[r#"
        spec.completions: Required value: when completion mode is Indexed
        spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed
    "#]],
    );
    refused(
        "completionMode: Indexed, completions: 2, maxFailedIndexes: 3",
        expect![[r#"
            spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions
            spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
        "#]],
    );
    refused(
        "completionMode: Indexed, completions: 100001, backoffLimitPerIndex: 1, parallelism: 10001",
        expect![[r#"
            spec.maxFailedIndexes: Required value: must be specified when completions is above 100000
            spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index
        "#]],
    );
    refused(
        "backoffLimitPerIndex: 1, maxFailedIndexes: 1",
        expect![[r#"
        spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
        spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode
    "#]],
    );
    refused(
        "managedBy: me",
        expect![[r#"
        spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")
    "#]],
    );
    refused(
        "podReplacementPolicy: Odd",
        expect![[r#"
        spec.podReplacementPolicy: Unsupported value: "Odd": supported values: "Failed", "TerminatingOrFailed"
    "#]],
    );
    refused(
        "successPolicy: {rules: [{succeededCount: 1}]}",
        expect![[r#"
        spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode
    "#]],
    );
    let long = "a".repeat(62);
    check_invalid(
        &JobStrategy,
        &job("completionMode: Indexed, completions: 1", "").replace("one", &long),
        expect![[r#"
            metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": will not able to create pod with invalid DNS label: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0
        "#]],
    );
}

#[test]
fn pods_must_end() {
    check_invalid(
        &JobStrategy,
        &job("suspend: true", "").replace("restartPolicy: Never", "restartPolicy: Always"),
        expect![[r#"
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
    );
    check_invalid(
        &JobStrategy,
        &job(
            "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [3]}}]}",
            "",
        )
        .replace("restartPolicy: Never", "restartPolicy: OnFailure"),
        expect![[r#"
            spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified
        "#]],
    );
}

#[test]
fn policies_are_checked() {
    refused(
        "podReplacementPolicy: TerminatingOrFailed, podFailurePolicy: {rules: [{action: Odd, onExitCodes: {operator: In, values: [3, 0, 3], containerName: d}}, {action: FailIndex, onPodConditions: [{type: '-', status: Odd}]}, {}, {action: Count, onExitCodes: {operator: NotIn}, onPodConditions: [{type: A}]}]}",
        expect![[r#"
            spec.podFailurePolicy.rules[0].action: Unsupported value: "Odd": supported values: "Count", "FailIndex", "FailJob", "Ignore"
            spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "d": must be one of the container or initContainer names in the pod template
            spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator
            spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3
            spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered
            spec.podFailurePolicy.rules[1].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
            spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.podFailurePolicy.rules[1].onPodConditions[0].status: Unsupported value: "Odd": supported values: "False", "True", "Unknown"
            spec.podFailurePolicy.rules[2].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]
            spec.podFailurePolicy.rules[2]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
            spec.podFailurePolicy.rules[3].onExitCodes.values: Invalid value: []: at least one value is required
            spec.podFailurePolicy.rules[3]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported
            spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"
        "#]],
    );
    refused(
        "completionMode: Indexed, completions: 5, successPolicy: {rules: [{}, {succeededIndexes: '0-1-2'}, {succeededIndexes: '3,2'}, {succeededIndexes: '5'}, {succeededIndexes: 'x'}, {succeededIndexes: '0,2-3', succeededCount: 4}, {succeededCount: 6}]}",
        expect![[r#"
            spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
            spec.successPolicy.rules[1].succeededIndexes: Invalid value: "0-1-2": error parsing succeededIndexes: the fragment "0-1-2" violates the requirement that an index interval can have at most two parts separated by '-'
            spec.successPolicy.rules[2].succeededIndexes: Invalid value: "3,2": error parsing succeededIndexes: non-increasing order, previous: 3, current: 2
            spec.successPolicy.rules[3].succeededIndexes: Invalid value: "5": error parsing succeededIndexes: too large index: "5"
            spec.successPolicy.rules[4].succeededIndexes: Invalid value: "x": error parsing succeededIndexes: cannot convert string to integer for index: "x"
            spec.successPolicy.rules[5].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of indexes in the specified succeededIndexes field)
            spec.successPolicy.rules[6].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)
        "#]],
    );
    refused(
        "completionMode: Indexed, completions: 5, successPolicy: {rules: []}",
        expect![[r#"
            spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified
        "#]],
    );
}

#[test]
fn what_a_job_does_is_fixed() {
    let old = job("completions: 1", "");
    refused_change(
        &old,
        &job("completions: 2, suspend: true, parallelism: 5, backoffLimit: 1", ""),
        expect![[r#"
            spec.completions: Invalid value: 2: field is immutable
        "#]],
    );
    refused_change(
        &old,
        &old.replace("x:1", "x:2"),
        expect![[r#"
        spec.template: Invalid value: {"labels":{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"one","controller-uid":"u","job-name":"one"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":[{"Name":"c","Image":"x:2","Command":null,"Args":null,"WorkingDir":"","Ports":null,"EnvFrom":null,"Env":null,"Resources":{"Limits":null,"Requests":null,"Claims":null},"ResizePolicy":null,"RestartPolicy":null,"RestartPolicyRules":null,"VolumeMounts":null,"VolumeDevices":null,"LivenessProbe":null,"ReadinessProbe":null,"StartupProbe":null,"Lifecycle":null,"TerminationMessagePath":"/dev/termination-log","TerminationMessagePolicy":"File","ImagePullPolicy":"IfNotPresent","SecurityContext":null,"Stdin":false,"StdinOnce":false,"TTY":false}],"EphemeralContainers":null,"RestartPolicy":"Never","TerminationGracePeriodSeconds":30,"ActiveDeadlineSeconds":null,"DNSPolicy":"ClusterFirst","NodeSelector":null,"ServiceAccountName":"","AutomountServiceAccountToken":null,"NodeName":"","SecurityContext":{"HostNetwork":false,"HostPID":false,"HostIPC":false,"ShareProcessNamespace":null,"HostUsers":null,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"SupplementalGroups":null,"SupplementalGroupsPolicy":null,"FSGroup":null,"FSGroupChangePolicy":null,"Sysctls":null,"SeccompProfile":null,"AppArmorProfile":null,"SELinuxChangePolicy":null},"ImagePullSecrets":null,"Hostname":"","Subdomain":"","SetHostnameAsFQDN":null,"Affinity":null,"SchedulerName":"default-scheduler","Tolerations":null,"HostAliases":null,"PriorityClassName":"","Priority":null,"PreemptionPolicy":null,"DNSConfig":null,"ReadinessGates":null,"RuntimeClassName":null,"Overhead":null,"EnableServiceLinks":null,"TopologySpreadConstraints":null,"OS":null,"SchedulingGates":null,"ResourceClaims":null,"Resources":null,"HostnameOverride":null,"SchedulingGroup":null}}: field is immutable
    "#]],
    );
    refused_change(
        &old,
        &job(
            "completions: 1, completionMode: Indexed, successPolicy: {rules: [{succeededCount: 1}]}",
            "",
        ),
        expect![[r#"
            spec.completionMode: Invalid value: "Indexed": field is immutable
            spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: field is immutable
        "#]],
    );
}

#[test]
fn an_indexed_job_is_elastic_and_a_suspended_one_can_be_moved() {
    let old = job("completionMode: Indexed, completions: 2, parallelism: 2", "");
    refused_change(
        &old,
        &job("completionMode: Indexed, completions: 3, parallelism: 2", ""),
        expect![[r#"
            spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism
        "#]],
    );
    refused_change(
        &old,
        &job("completionMode: Indexed, completions: 3, parallelism: 3", ""),
        expect![""],
    );
    let moved = |spec: &str| job(spec, "").replace("restartPolicy", "nodeSelector: {disk: ssd}, restartPolicy");
    refused_change(&job("suspend: true", ""), &moved("suspend: false"), expect![""]);
    refused_change(
        &job("suspend: true", ", status: {startTime: '2026-01-01T00:00:00Z'}"),
        &moved("suspend: true"),
        expect![[r#"
            spec.template: Invalid value: {"labels":{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"one","controller-uid":"u","job-name":"one"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":[{"Name":"c","Image":"x:1","Command":null,"Args":null,"WorkingDir":"","Ports":null,"EnvFrom":null,"Env":null,"Resources":{"Limits":null,"Requests":null,"Claims":null},"ResizePolicy":null,"RestartPolicy":null,"RestartPolicyRules":null,"VolumeMounts":null,"VolumeDevices":null,"LivenessProbe":null,"ReadinessProbe":null,"StartupProbe":null,"Lifecycle":null,"TerminationMessagePath":"/dev/termination-log","TerminationMessagePolicy":"File","ImagePullPolicy":"IfNotPresent","SecurityContext":null,"Stdin":false,"StdinOnce":false,"TTY":false}],"EphemeralContainers":null,"RestartPolicy":"Never","TerminationGracePeriodSeconds":30,"ActiveDeadlineSeconds":null,"DNSPolicy":"ClusterFirst","NodeSelector":{"disk":"ssd"},"ServiceAccountName":"","AutomountServiceAccountToken":null,"NodeName":"","SecurityContext":{"HostNetwork":false,"HostPID":false,"HostIPC":false,"ShareProcessNamespace":null,"HostUsers":null,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"SupplementalGroups":null,"SupplementalGroupsPolicy":null,"FSGroup":null,"FSGroupChangePolicy":null,"Sysctls":null,"SeccompProfile":null,"AppArmorProfile":null,"SELinuxChangePolicy":null},"ImagePullSecrets":null,"Hostname":"","Subdomain":"","SetHostnameAsFQDN":null,"Affinity":null,"SchedulerName":"default-scheduler","Tolerations":null,"HostAliases":null,"PriorityClassName":"","Priority":null,"PreemptionPolicy":null,"DNSConfig":null,"ReadinessGates":null,"RuntimeClassName":null,"Overhead":null,"EnableServiceLinks":null,"TopologySpreadConstraints":null,"OS":null,"SchedulingGates":null,"ResourceClaims":null,"Resources":null,"HostnameOverride":null,"SchedulingGroup":null}}: field is immutable
        "#]],
    );
}

#[test]
fn a_status_is_checked() {
    let mut errors = FieldErrors::new();
    let wrong = object(
        "{status: {active: 1, ready: 2, failed: -1, completionTime: '2026-01-01T00:00:00Z', conditions: [{type: Complete, status: 'True'}, {type: Failed, status: 'True'}]}}",
    );
    JobStrategy.validate_status_update(&wrong, &Value::Null, &mut errors);
    let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
    expect![[r#"
        status.failed: Invalid value: -1: must be greater than or equal to 0
        status.ready: Invalid value: 2: cannot set more ready pods than active
        status.active: Invalid value: 1: active>0 is invalid for finished job
        status.startTime: Required value: startTime is required for finished job
        status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions
        status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition
        status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition
    "#]].assert_eq(&text);
}

#[test]
fn the_table() {
    let shown = |status: &str, expected: Expect| {
        check_table(
            &JobStrategy,
            &job("completions: 3", &format!(", status: {{{status}}}")),
            expected,
        );
    };
    shown(
        "",
        expect![[r#"
        Name: "one"
        Status: "Running"
        Completions: "0/3"
        Duration: ""
        Age: "5m"
        Containers: "c"
        Images: "x:1"
        Selector: "batch.kubernetes.io/controller-uid=u"
    "#]],
    );
    shown(
        "succeeded: 3, startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:01:30Z', conditions: [{type: SuccessCriteriaMet, status: 'True'}, {type: Complete, status: 'True'}]",
        expect![[r#"
            Name: "one"
            Status: "Complete"
            Completions: "3/3"
            Duration: "90s"
            Age: "5m"
            Containers: "c"
            Images: "x:1"
            Selector: "batch.kubernetes.io/controller-uid=u"
        "#]],
    );
    check_table(
        &JobStrategy,
        &job(
            "parallelism: 2, suspend: true",
            ", status: {conditions: [{type: Suspended, status: 'True'}]}",
        ),
        expect![[r#"
            Name: "one"
            Status: "Suspended"
            Completions: "0/1 of 2"
            Duration: ""
            Age: "5m"
            Containers: "c"
            Images: "x:1"
            Selector: "batch.kubernetes.io/controller-uid=u"
        "#]],
    );
}
