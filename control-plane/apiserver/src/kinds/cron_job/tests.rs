//! CronJobs: defaults, what is refused, the table.

use expect_test::{Expect, expect};

use super::*;
use crate::kinds::testing::{check_create, check_invalid, check_table};

fn cron_job(spec: &str) -> String {
    format!(
        "{{metadata: {{name: v}}, spec: {{jobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: c, image: 'x:1'}}], restartPolicy: OnFailure}}}}}}}}, {spec}}}}}"
    )
}

fn refused(spec: &str, expected: Expect) {
    check_invalid(&CronJobStrategy, &cron_job(spec), expected);
}

#[test]
fn defaults() {
    check_create(
        &CronJobStrategy,
        &cron_job("schedule: '@daily'"),
        expect![[r#"
        {
          "metadata": {
            "name": "v"
          },
          "spec": {
            "concurrencyPolicy": "Allow",
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
              "metadata": {},
              "spec": {
                "template": {
                  "metadata": {},
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
                    "restartPolicy": "OnFailure",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30
                  }
                }
              }
            },
            "schedule": "@daily",
            "successfulJobsHistoryLimit": 3,
            "suspend": false
          },
          "status": {}
        }
    "#]],
    );
}

/// The texts are those that Kubernetes 1.36 answers.
#[test]
fn what_is_refused() {
    refused(
        "schedule: ''",
        expect![[r#"
        spec.schedule: Required value
    "#]],
    );
    refused(
        "schedule: '* * *'",
        expect![[r#"
        spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]
    "#]],
    );
    refused(
        "schedule: '99 * * * *'",
        expect![[r#"
        spec.schedule: Invalid value: "99 * * * *": end of range (99) above maximum (59): 99
    "#]],
    );
    refused(
        "schedule: 'TZ=UTC * * * * *'",
        expect![[r#"
        spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
    "#]],
    );
    refused(
        "schedule: '@daily', timeZone: Mars/Olympus",
        expect![[r#"
        spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus
    "#]],
    );
    refused(
        "schedule: '@daily', timeZone: ''",
        expect![[r#"
        spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string
    "#]],
    );
    refused(
        "schedule: '@daily', timeZone: local",
        expect![[r#"
        spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones
    "#]],
    );
    refused(
        "schedule: '@daily', concurrencyPolicy: Odd",
        expect![[r#"
        spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"
    "#]],
    );
    refused(
        "schedule: '@daily', startingDeadlineSeconds: -1, successfulJobsHistoryLimit: -1, failedJobsHistoryLimit: -1",
        expect![[r#"
            spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
            spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
    check_invalid(
        &CronJobStrategy,
        &cron_job("schedule: '@daily'").replace("OnFailure", "Always"),
        expect![[r#"
            spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
    );
    check_invalid(
        &CronJobStrategy,
        "{metadata: {name: v}, spec: {schedule: '@daily'}}",
        expect![[r#"
            spec.jobTemplate.spec.template.spec.containers: Required value
            spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
    );
    let long = "a".repeat(53);
    check_invalid(
        &CronJobStrategy,
        &cron_job("schedule: '@daily'").replace("name: v", &format!("name: {long}")),
        expect![[r#"
            metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 52 characters
        "#]],
    );
    let selecting = "spec: {manualSelector: true, selector: {matchLabels: {a: b}}, template";
    check_invalid(
        &CronJobStrategy,
        &cron_job("schedule: '@daily'").replace("spec: {template", selecting),
        expect![[r#"
            spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated
            spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"
        "#]],
    );
}

#[test]
fn the_table() {
    check_table(
        &CronJobStrategy,
        &cron_job("schedule: '@daily', timeZone: Etc/UTC, suspend: true"),
        expect![[r#"
            Name: "v"
            Schedule: "@daily"
            Timezone: "Etc/UTC"
            Suspend: "True"
            Active: 0
            Last Schedule: "<none>"
            Age: "5m"
            Containers: "c"
            Images: "x:1"
            Selector: "<none>"
        "#]],
    );
    let ran = cron_job("schedule: '@daily'").replace(
        "metadata: {name: v}",
        "metadata: {name: v}, status: {active: [{}], lastScheduleTime: '2026-01-01T00:04:00Z'}",
    );
    check_table(
        &CronJobStrategy,
        &ran,
        expect![[r#"
        Name: "v"
        Schedule: "@daily"
        Timezone: "<none>"
        Suspend: "<unset>"
        Active: 1
        Last Schedule: "60s"
        Age: "5m"
        Containers: "c"
        Images: "x:1"
        Selector: "<none>"
    "#]],
    );
}
