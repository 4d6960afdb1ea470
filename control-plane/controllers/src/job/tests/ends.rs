//! How Jobs end: enough successes, too many failures, a deadline, a policy.

use expect_test::expect;

use super::*;

#[test]
fn success_is_announced_and_then_confirmed() {
    check(
        job(ONE, STARTED),
        vec![pod("a", &succeeded())],
        expect![[r#"
        patch/status Job d/one uid=u rv=10 {"status":{"conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Reached expected number of succeeded pods","reason":"CompletionsReached","status":"True","type":"SuccessCriteriaMet"}],"uncountedTerminatedPods":{"succeeded":["a"]}}}
        patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        report Changing("the Job ends")
    "#]],
    );
    let announced = "status: {startTime: '2026-01-01T11:59:00Z', ready: 0, terminating: 0, uncountedTerminatedPods: {succeeded: [a]}, conditions: [{type: SuccessCriteriaMet, status: 'True', reason: CompletionsReached, message: m}]}";
    check(
        job(ONE, announced),
        vec![pod("!a", &succeeded())],
        expect![[r#"
        patch/status Job d/one uid=u rv=10 {"status":{"completionTime":"2026-01-01T12:00:00Z","conditions":[{"message":"m","reason":"CompletionsReached","status":"True","type":"SuccessCriteriaMet"},{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"m","reason":"CompletionsReached","status":"True","type":"Complete"}],"succeeded":1,"uncountedTerminatedPods":{"succeeded":null}}}
          then Normal Completed Job one: Job completed
        report Changing("the Job ends")
    "#]],
    );
    let over = announced
        .replace("uncountedTerminatedPods: {succeeded: [a]}", "succeeded: 1")
        .replace(
            "conditions: [",
            "conditions: [{type: Complete, status: 'True', lastTransitionTime: '2026-01-01T11:59:50Z'}, ",
        );
    check(job(ONE, &over), vec![pod("!a", &succeeded())], expect![""]);
    check(
        job("parallelism: 1; completions: 1; ttlSecondsAfterFinished: 15", &over),
        vec![],
        expect![[r#"
            again in 5s
        "#]],
    );
    check(
        job("parallelism: 1; completions: 1; ttlSecondsAfterFinished: 10", &over),
        vec![],
        expect![[r#"
            delete Job d/one uid=u rv=10
            report Changing("the Job's time to live is over")
        "#]],
    );
}

#[test]
fn a_job_of_another_controller_expires_as_well() {
    const OTHERS: &str = "parallelism: 1; completions: 1; managedBy: acme.io/jobs; ttlSecondsAfterFinished";
    let over = "status: {conditions: [{type: Complete, status: 'True', lastTransitionTime: '2026-01-01T11:59:50Z'}]}";
    check(
        job(&format!("{OTHERS}: 15"), over),
        vec![pod("a", &succeeded())],
        expect![[r#"
            again in 5s
            report WaitingOn("another controller")
        "#]],
    );
    check(
        job(&format!("{OTHERS}: 10"), over),
        vec![pod("a", &succeeded())],
        expect![[r#"
            delete Job d/one uid=u rv=10
            report Changing("the Job's time to live is over")
        "#]],
    );
}

#[test]
fn after_a_failure_it_waits_and_then_tries_again() {
    check(
        job(ONE, STARTED),
        vec![pod("a", &failed())],
        expect![[r#"
        patch/status Job d/one uid=u rv=10 {"status":{"uncountedTerminatedPods":{"failed":["a"]}}}
        patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        again in 5s
        report WaitingOn("the pause after a failure")
    "#]],
    );
    let counted =
        "status: {failed: 1, startTime: '2026-01-01T11:59:00Z', ready: 0, terminating: 0, uncountedTerminatedPods: {}}";
    check(
        job(ONE, counted),
        vec![pod("!a", &failed())],
        expect![[r#"
        again in 5s
        report WaitingOn("the pause after a failure")
    "#]],
    );
    let earlier = ended("Failed", 3, "11:59:50");
    check(
        job(ONE, counted),
        vec![pod("!a", &earlier)],
        expect![[r#"
        create Pod d/one-jx9vh
          then Normal SuccessfulCreate Job one: Created pod: one-jx9vh
        report TooFew { have: 0, want: 1 }
    "#]],
    );
    let twice = vec![
        pod("!a", &ended("Failed", 3, "11:59:20")),
        pod("!b", &ended("Failed", 3, "11:59:45")),
    ];
    check(
        job(ONE, &counted.replace("failed: 1", "failed: 2")),
        twice,
        expect![[r#"
        again in 5s
        report WaitingOn("the pause after a failure")
    "#]],
    );
}

#[test]
fn too_many_failures_end_it_and_its_other_pods() {
    let strict = "parallelism: 2; completions: 4; backoffLimit: 0";
    check(
        job(strict, STARTED),
        vec![pod("a", &failed()), pod("b", "phase: Running")],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"active":1,"conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Job has reached the specified backoff limit","reason":"BackoffLimitExceeded","status":"True","type":"FailureTarget"}],"uncountedTerminatedPods":{"failed":["a"]}}}
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
            delete Pod d/b uid=b
              then Normal SuccessfulDelete Job one: Deleted pod: b
            report Changing("the Job ends")
        "#]],
    );
    let announced = "status: {active: 1, startTime: '2026-01-01T11:59:00Z', ready: 0, terminating: 0, uncountedTerminatedPods: {failed: [a]}, conditions: [{type: FailureTarget, status: 'True', reason: BackoffLimitExceeded, message: Job has reached the specified backoff limit}]}";
    check(
        job(strict, announced),
        vec![pod("!a", &failed()), terminating(pod("b", "phase: Running"))],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"active":null,"failed":1,"terminating":1,"uncountedTerminatedPods":{"failed":["b"]}}}
            patch Pod d/b uid=b rv=5 {"metadata":{"finalizers":null}}
            report Changing("the Job ends")
        "#]],
    );
    let last = announced
        .replace("active: 1, ", "failed: 1, ")
        .replace("failed: [a]", "failed: [b]");
    check(
        job(strict, &last),
        vec![pod("!a", &failed())],
        expect![[r#"
        patch/status Job d/one uid=u rv=10 {"status":{"conditions":[{"message":"Job has reached the specified backoff limit","reason":"BackoffLimitExceeded","status":"True","type":"FailureTarget"},{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Job has reached the specified backoff limit","reason":"BackoffLimitExceeded","status":"True","type":"Failed"}],"failed":2,"uncountedTerminatedPods":{"failed":null}}}
          then Warning BackoffLimitExceeded Job one: Job has reached the specified backoff limit
        report Changing("the Job ends")
    "#]],
    );
    // Restarts in place count as tries.
    let restarted =
        "phase: Running, containerStatuses: [{name: c, image: x, imageID: x, ready: true, restartCount: 2}]";
    let in_place = |limit: i32| {
        let mut job = (*job(
            &format!("parallelism: 1; completions: 1; backoffLimit: {limit}"),
            STARTED,
        ))
        .clone();
        job.spec
            .as_mut()
            .unwrap()
            .template
            .spec
            .as_mut()
            .unwrap()
            .restart_policy = Some("OnFailure".to_owned());
        let text = describe(&plan(Arc::new(job), vec![pod("a", restarted)]));
        text.contains("BackoffLimitExceeded")
    };
    assert_eq!((in_place(2), in_place(3)), (true, false));
}

#[test]
fn a_deadline_ends_it() {
    check(
        job(
            "parallelism: 1; completions: 1; backoffLimit: 6; activeDeadlineSeconds: 60",
            STARTED,
        ),
        vec![pod("a", "phase: Running")],
        expect![[r#"
            delete Pod d/a uid=a
              then Normal SuccessfulDelete Job one: Deleted pod: a
            patch/status Job d/one uid=u rv=10 {"status":{"active":1,"conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Job was active longer than specified deadline","reason":"DeadlineExceeded","status":"True","type":"FailureTarget"}]}}
            report Changing("the Job ends")
        "#]],
    );
    check(
        job(
            "parallelism: 1; completions: 1; backoffLimit: 6; activeDeadlineSeconds: 75",
            STARTED,
        ),
        vec![pod("a", "phase: Running")],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"active":1}}
            again in 15s
        "#]],
    );
}

#[test]
fn a_failure_policy_decides() {
    let policy = |rules: &str, more: &str| {
        format!(
            "parallelism: 1; completions: 1; backoffLimit: 6{more}; podReplacementPolicy: Failed; podFailurePolicy: {{rules: [{rules}]}}"
        )
    };
    let by_code = "{action: FailJob, onExitCodes: {operator: In, values: [3]}}";
    check(
        job(&policy(by_code, ""), STARTED),
        vec![pod("a", &failed())],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Container c for pod d/a failed with exit code 3 matching FailJob rule at index 0","reason":"PodFailurePolicy","status":"True","type":"FailureTarget"}],"uncountedTerminatedPods":{"failed":["a"]}}}
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
            report Changing("the Job ends")
        "#]],
    );
    let ignore = "{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}";
    let disrupted = format!("{}, conditions: [{{type: DisruptionTarget, status: 'True'}}]", failed());
    check(
        job(&policy(ignore, ""), STARTED),
        vec![pod("a", &disrupted)],
        expect![[r#"
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
            again in 5s
            report WaitingOn("the pause after a failure")
        "#]],
    );
    // One on its way out is not replaced before it has ended.
    check(
        job(&policy(ignore, ""), STARTED),
        vec![terminating(pod("a", "phase: Running"))],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"terminating":1}}
        "#]],
    );
}

#[test]
fn indexes_fail_by_themselves() {
    let spec =
        "completionMode: Indexed; parallelism: 2; completions: 2; backoffLimit: 2147483647; backoffLimitPerIndex: 1";
    // The first failure of index 0: its pod keeps the number until another takes over.
    check(
        job(spec, STARTED),
        vec![pod("a/0+0", &failed()), pod("b/1+0", &succeeded())],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"completedIndexes":"1","failedIndexes":"","succeeded":1,"uncountedTerminatedPods":{"failed":["a"]}}}
            patch Pod d/b uid=b rv=5 {"metadata":{"finalizers":null}}
            again in 5s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
    let later = ended("Failed", 3, "11:59:40");
    check(
        job(spec, STARTED),
        vec![pod("a/0+0", &later), pod("b/1+0", "phase: Running")],
        expect![[r#"
            create Pod d/one-0-jx9vh
              then Normal SuccessfulCreate Job one: Created pod: one-0-jx9vh
            patch/status Job d/one uid=u rv=10 {"status":{"active":1,"failedIndexes":"","uncountedTerminatedPods":{"failed":["a"]}}}
            report TooFew { have: 1, want: 2 }
        "#]],
    );
    let noted = STARTED.replace(
        "uncountedTerminatedPods: {}",
        "active: 2, failedIndexes: '', uncountedTerminatedPods: {failed: [a]}",
    );
    check(
        job(spec, &noted),
        vec![
            pod("a/0+0", &later),
            pod("c/0+1", "phase: Running"),
            pod("b/1+0", "phase: Running"),
        ],
        expect![[r#"
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        "#]],
    );
    // The second.
    check(
        job(spec, STARTED),
        vec![pod("c/0+1", &failed()), pod("b/1+0", &succeeded())],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"completedIndexes":"1","conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Job has failed indexes","reason":"FailedIndexes","status":"True","type":"FailureTarget"}],"failedIndexes":"0","succeeded":1,"uncountedTerminatedPods":{"failed":["c"]}}}
            patch Pod d/c uid=c rv=5 {"metadata":{"finalizers":null}}
            patch Pod d/b uid=b rv=5 {"metadata":{"finalizers":null}}
            report Changing("the Job ends")
        "#]],
    );
}

#[test]
fn a_success_policy_needs_not_all() {
    let spec = format!("{INDEXED}; successPolicy: {{rules: [{{succeededIndexes: '0,2-3', succeededCount: 2}}]}}");
    let pods = || {
        vec![
            pod("a/0", &succeeded()),
            pod("b/1", "phase: Running"),
            pod("c/3", &succeeded()),
        ]
    };
    check(
        job(&spec, STARTED),
        pods(),
        expect![[r#"
        patch/status Job d/one uid=u rv=10 {"status":{"active":1,"completedIndexes":"0,3","conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Matched rules at index 0","reason":"SuccessPolicy","status":"True","type":"SuccessCriteriaMet"}],"succeeded":2}}
        patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        patch Pod d/c uid=c rv=5 {"metadata":{"finalizers":null}}
        delete Pod d/b uid=b
          then Normal SuccessfulDelete Job one: Deleted pod: b
        report Changing("the Job ends")
    "#]],
    );
    assert!(!describe(&plan(job(&spec, STARTED), pods()[..2].to_vec())).contains("SuccessPolicy"));
}
