//! Plans of CronJobs, as text. It is noon.

use expect_test::{Expect, expect};

use super::*;
use crate::testing::{describe, from_yaml, now};

fn cron_job(spec: &str, status: &str) -> Arc<CronJob> {
    from_yaml(&format!(
        "metadata: {{name: tick, namespace: d, uid: t, resourceVersion: '10', creationTimestamp: '2026-01-01T11:50:30Z'}}
spec: {{jobTemplate: {{metadata: {{labels: {{app: x}}, annotations: {{note: y}}}}, spec: {{template: {{spec: {{containers: []}}}}}}}}, {spec}}}
status: {{{status}}}"
    ))
}

/// A Job that was made for a time; `conditions` as in its status.
fn job(name: &str, status: &str) -> Arc<Job> {
    from_yaml(&format!(
        "metadata: {{name: {name}, namespace: d, uid: {name}, resourceVersion: '5', annotations: {{{SCHEDULED_FOR}: x}}, ownerReferences: [{{apiVersion: batch/v1, kind: CronJob, name: tick, uid: t, controller: true}}]}}
status: {{{status}}}"
    ))
}
fn ended(kind: &str, minute: u8) -> String {
    let completion = format!("completionTime: '2026-01-01T11:{minute}:20Z', ");
    format!(
        "{}startTime: '2026-01-01T11:{minute}:00Z', conditions: [{{type: {kind}, status: 'True'}}]",
        if kind == "Complete" { completion.as_str() } else { "" }
    )
}

fn plan(cron_job: Arc<CronJob>, jobs: Vec<Arc<Job>>) -> Plan {
    let ctx = Context {
        now: now(),
        failure: None,
    };
    reconcile(&World { cron_job, jobs }, &ctx)
}

fn check(cron_job: Arc<CronJob>, jobs: Vec<Arc<Job>>, expected: Expect) {
    expected.assert_eq(&describe(&plan(cron_job, jobs)));
}

#[test]
fn a_job_is_made_when_its_time_has_come() {
    check(
        cron_job("schedule: '*/15 * * * *'", ""),
        vec![],
        expect![[r#"
        create Job d/tick-29454480
          then Normal SuccessfulCreate CronJob tick: Created job tick-29454480
        patch/status CronJob d/tick uid=t rv=10 {"status":{"active":null,"lastScheduleTime":"2026-01-01T12:00:00Z","lastSuccessfulTime":null}}
        again in 900s
        report TooFew { have: 0, want: 1 }
    "#]],
    );
    let made = plan(
        cron_job("schedule: '*/15 * * * *', timeZone: Europe/Berlin", ""),
        vec![],
    );
    let Action::Create { object, .. } = &made.actions[0] else {
        panic!("no Job")
    };
    expect![[r#"
        {
          "apiVersion": "batch/v1",
          "kind": "Job",
          "metadata": {
            "annotations": {
              "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T13:00:00+01:00",
              "note": "y"
            },
            "labels": {
              "app": "x"
            },
            "name": "tick-29454480",
            "namespace": "d",
            "ownerReferences": [
              {
                "apiVersion": "batch/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "CronJob",
                "name": "tick",
                "uid": "t"
              }
            ]
          },
          "spec": {
            "template": {
              "spec": {
                "containers": []
              }
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(object).unwrap());
    // Served already.
    check(
        cron_job("schedule: '*/15 * * * *'", "lastScheduleTime: '2026-01-01T12:00:00Z'"),
        vec![],
        expect![[r#"
            again in 900s
        "#]],
    );
    // In another zone the hour is another.
    check(
        cron_job("schedule: '0 7 * * *', timeZone: America/New_York", ""),
        vec![],
        expect![[r#"
            create Job d/tick-29454480
              then Normal SuccessfulCreate CronJob tick: Created job tick-29454480
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":null,"lastScheduleTime":"2026-01-01T12:00:00Z","lastSuccessfulTime":null}}
            again in 86400s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
    check(
        cron_job("schedule: '0 13 * * *'", ""),
        vec![],
        expect![[r#"
        again in 3600s
    "#]],
    );
    check(
        cron_job("schedule: '* * * * *', suspend: true", ""),
        vec![],
        expect![[r#"
            report WaitingOn("the end of its suspension")
        "#]],
    );
}

#[test]
fn a_crash_after_the_creation_makes_no_second_job() {
    let name = job_name(&cron_job("schedule: x", ""), now());
    check(
        cron_job("schedule: '0 12 * * *'", ""),
        vec![job(&name, "")],
        expect![[r#"
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":[{"apiVersion":"batch/v1","kind":"Job","name":"tick-29454480","namespace":"d","resourceVersion":"5","uid":"tick-29454480"}],"lastScheduleTime":"2026-01-01T12:00:00Z","lastSuccessfulTime":null}}
            again in 86400s
        "#]],
    );
}

#[test]
fn of_many_missed_times_the_last_counts() {
    check(
        cron_job("schedule: '* * * * *'", "lastScheduleTime: '2026-01-01T08:00:00Z'"),
        vec![],
        expect![[r#"
            event Warning TooManyMissedTimes CronJob tick: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew
            create Job d/tick-29454480
              then Normal SuccessfulCreate CronJob tick: Created job tick-29454480
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":null,"lastScheduleTime":"2026-01-01T12:00:00Z","lastSuccessfulTime":null}}
            again in 60s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
    check(
        cron_job("schedule: '0,1 0 * * *'", "lastScheduleTime: '2025-01-01T00:00:00Z'"),
        vec![],
        expect![[r#"
            event Warning TooManyMissedTimes CronJob tick: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew
            create Job d/tick-29453761
              then Normal SuccessfulCreate CronJob tick: Created job tick-29453761
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":null,"lastScheduleTime":"2026-01-01T00:01:00Z","lastSuccessfulTime":null}}
            again in 43200s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
    check(
        cron_job(
            "schedule: '30 11 * * *', startingDeadlineSeconds: 600",
            "lastScheduleTime: '2025-12-31T11:30:00Z'",
        ),
        vec![],
        expect![[r#"
            again in 84600s
        "#]],
    );
    check(
        cron_job("schedule: '@every 7m'", ""),
        vec![],
        expect![[r#"
        create Job d/tick-29454477
          then Normal SuccessfulCreate CronJob tick: Created job tick-29454477
        patch/status CronJob d/tick uid=t rv=10 {"status":{"active":null,"lastScheduleTime":"2026-01-01T11:57:30Z","lastSuccessfulTime":null}}
        again in 270s
        report TooFew { have: 0, want: 1 }
    "#]],
    );
}

#[test]
fn a_running_job_is_waited_for_or_replaced() {
    let active = "active: [{kind: Job, name: old, namespace: d, uid: old, apiVersion: batch/v1}], lastScheduleTime: '2026-01-01T11:59:00Z'";
    let running = || vec![job("old", "startTime: '2026-01-01T11:59:00Z'")];
    check(
        cron_job("schedule: '* * * * *', concurrencyPolicy: Forbid", active),
        running(),
        expect![[r#"
            event Normal JobAlreadyActive CronJob tick: Not starting job because prior execution is running and concurrency policy is Forbid
            again in 60s
            report WaitingOn("the running Job")
        "#]],
    );
    check(
        cron_job("schedule: '* * * * *', concurrencyPolicy: Replace", active),
        running(),
        expect![[r#"
            delete Job d/old uid=old
              then Normal SuccessfulDelete CronJob tick: Deleted job old
            create Job d/tick-29454480
              then Normal SuccessfulCreate CronJob tick: Created job tick-29454480
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":null,"lastScheduleTime":"2026-01-01T12:00:00Z","lastSuccessfulTime":null}}
            again in 60s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
    check(
        cron_job("schedule: '* * * * *', concurrencyPolicy: Allow", active),
        running(),
        expect![[r#"
            create Job d/tick-29454480
              then Normal SuccessfulCreate CronJob tick: Created job tick-29454480
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":[{"apiVersion":"batch/v1","kind":"Job","name":"old","namespace":"d","uid":"old"}],"lastScheduleTime":"2026-01-01T12:00:00Z","lastSuccessfulTime":null}}
            again in 60s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
}

#[test]
fn the_status_follows_the_jobs() {
    let status = "active: [{name: a, uid: a}, {name: gone, uid: gone}], lastScheduleTime: '2026-01-01T11:50:00Z'";
    let mut by_hand = (*job("by-hand", "")).clone();
    by_hand.metadata.annotations = None;
    check(
        cron_job("schedule: '50 * * * *'", status),
        vec![job("a", &ended("Complete", 51)), job("b", ""), Arc::new(by_hand)],
        expect![[r#"
            event Normal SawCompletedJob CronJob tick: Saw completed job: a, condition: Complete
            event Normal MissingJob CronJob tick: Active job went missing: gone
            patch/status CronJob d/tick uid=t rv=10 {"status":{"active":[{"apiVersion":"batch/v1","kind":"Job","name":"b","namespace":"d","resourceVersion":"5","uid":"b"}],"lastScheduleTime":"2026-01-01T11:50:00Z","lastSuccessfulTime":"2026-01-01T11:51:20Z"}}
            again in 3000s
        "#]],
    );
}

#[test]
fn old_jobs_go_beyond_the_limits() {
    let limits = "schedule: '0 13 * * *', successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0";
    let status = "lastSuccessfulTime: '2026-01-01T11:52:20Z'";
    let jobs = vec![
        job("new", &ended("Complete", 52)),
        job("old", &ended("Complete", 51)),
        job("bad", &ended("Failed", 53)),
    ];
    check(
        cron_job(limits, status),
        jobs,
        expect![[r#"
        delete Job d/old uid=old
          then Normal SuccessfulDelete CronJob tick: Deleted job old
        delete Job d/bad uid=bad
          then Normal SuccessfulDelete CronJob tick: Deleted job bad
        again in 3600s
    "#]],
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    check(
        cron_job("schedule: bad", ""),
        vec![],
        expect![[r#"
        event Warning UnparseableSchedule CronJob tick: unparseable schedule: "bad" : expected exactly 5 fields, found 1: [bad]
    "#]],
    );
    check(
        cron_job("schedule: '* * * * *', timeZone: Mars/Olympus", ""),
        vec![],
        expect![[r#"
            event Warning UnknownTimeZone CronJob tick: invalid timeZone: "Mars/Olympus": unknown time zone Mars/Olympus
        "#]],
    );
}

/// The last missed time is found without a walk, and is the one that a walk finds.
#[test]
fn the_last_missed_time_is_exact() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    for text in ["*/7 3-5 * * *", "0 0 29 2 *", "1,59 23 * * mon", "* * * 1 *", "@hourly"] {
        let times = Schedule::parse(text).unwrap();
        let (from, until) = (at("2023-12-30T00:00:30Z"), at("2026-01-01T00:00:30Z"));
        let mut walked = None;
        let mut time = from;
        while let Some(next) = times.next(time, &TimeZone::UTC).filter(|next| *next <= until) {
            (walked, time) = (Some(next), next);
        }
        assert_eq!(
            Due::at(&times, &TimeZone::UTC, from, None, until).time,
            walked,
            "{text}"
        );
    }
}
