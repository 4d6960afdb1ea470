//! Plans of Jobs, as text; how they end is in `ends`.

mod ends;

use expect_test::{Expect, expect};

use super::*;
use crate::testing::{describe, from_yaml, now};

fn job(spec: &str, more: &str) -> Arc<Job> {
    from_yaml(&format!(
        "metadata: {{name: one, namespace: d, uid: u, resourceVersion: '10'}}
spec:
  selector: {{matchLabels: {{controller-uid: u}}}}
  template: {{metadata: {{labels: {{controller-uid: u}}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: x}}]}}}}
  {}
{more}",
        spec.replace("; ", "\n  ")
    ))
}

/// One at a time, seven tries.
const ONE: &str = "parallelism: 1; completions: 1; backoffLimit: 6";
const INDEXED: &str = "completionMode: Indexed; parallelism: 3; completions: 5; backoffLimit: 6";
const STARTED: &str =
    "status: {startTime: '2026-01-01T11:59:00Z', ready: 0, terminating: 0, uncountedTerminatedPods: {}}";

/// A pod of the Job: its name is its uid. `!` before the name: its finalizer is gone. `name/3` is for that index.
fn pod(name: &str, status: &str) -> Arc<Pod> {
    let (finalizers, name) = match name.strip_prefix('!') {
        Some(name) => ("", name),
        None => (TRACKING, name),
    };
    let (name, index) = name.split_once('/').unwrap_or((name, ""));
    let annotations = index
        .split_once('+')
        .map(|(index, failures)| format!("{COMPLETION_INDEX}: '{index}', {FAILURE_COUNT}: '{failures}'"))
        .unwrap_or_else(|| format!("{COMPLETION_INDEX}: '{index}'"));
    from_yaml(&format!(
        "metadata: {{name: {name}, namespace: d, uid: {name}, resourceVersion: '5', creationTimestamp: '2026-01-01T11:59:00Z', labels: {{controller-uid: u}}, annotations: {{{annotations}}}, finalizers: [{finalizers}], ownerReferences: [{{apiVersion: batch/v1, kind: Job, name: one, uid: u, controller: true}}]}}
status: {{{status}}}"
    ))
}

fn ended(phase: &str, code: i32, at: &str) -> String {
    format!(
        "phase: {phase}, containerStatuses: [{{name: c, image: x, imageID: x, ready: false, restartCount: 0, state: {{terminated: {{exitCode: {code}, finishedAt: '2026-01-01T{at}Z'}}}}}}]"
    )
}
fn succeeded() -> String {
    ended("Succeeded", 0, "11:59:30")
}
fn failed() -> String {
    ended("Failed", 3, "11:59:55")
}

fn terminating(pod: Arc<Pod>) -> Arc<Pod> {
    let mut pod = (*pod).clone();
    pod.metadata.deletion_timestamp = Some(crate::conditions::whole_second(now()));
    Arc::new(pod)
}

fn plan(job: Arc<Job>, pods: Vec<Arc<Pod>>) -> Plan {
    let ctx = Context {
        now: now(),
        failure: None,
    };
    reconcile(&World { job, pods }, &ctx)
}

fn check(job: Arc<Job>, pods: Vec<Arc<Pod>>, expected: Expect) {
    expected.assert_eq(&describe(&plan(job, pods)));
}

#[test]
fn a_new_job_makes_its_pods() {
    check(
        job(
            "parallelism: 2; completions: 3; backoffLimit: 6; activeDeadlineSeconds: 90",
            "",
        ),
        vec![],
        expect![[r#"
            create Pod d/one-jx9vh
              then Normal SuccessfulCreate Job one: Created pod: one-jx9vh
            create Pod d/one-cv68p
              then Normal SuccessfulCreate Job one: Created pod: one-cv68p
            patch/status Job d/one uid=u rv=10 {"status":{"ready":0,"startTime":"2026-01-01T12:00:00Z","terminating":0,"uncountedTerminatedPods":{}}}
            again in 90s
            report TooFew { have: 0, want: 2 }
        "#]],
    );
    check(
        job(ONE, STARTED),
        vec![pod("a", "phase: Running, conditions: [{type: Ready, status: 'True'}]")],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"active":1,"ready":1}}
        "#]],
    );
}

#[test]
fn an_index_is_told_in_many_ways() {
    let made = plan(
        job(INDEXED, STARTED),
        vec![pod("a/1", "phase: Running"), pod("b/0", &succeeded())],
    );
    let creates: Vec<&Value> = made
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Create { object, .. } => Some(&**object),
            _ => None,
        })
        .collect();
    assert_eq!(creates.len(), 2);
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "annotations": {
              "batch.kubernetes.io/job-completion-index": "2"
            },
            "finalizers": [
              "batch.kubernetes.io/job-tracking"
            ],
            "generateName": "one-2-",
            "labels": {
              "batch.kubernetes.io/job-completion-index": "2",
              "controller-uid": "u"
            },
            "name": "one-2-65v8l",
            "namespace": "d",
            "ownerReferences": [
              {
                "apiVersion": "batch/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Job",
                "name": "one",
                "uid": "u"
              }
            ]
          },
          "spec": {
            "containers": [
              {
                "env": [
                  {
                    "name": "JOB_COMPLETION_INDEX",
                    "valueFrom": {
                      "fieldRef": {
                        "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"
                      }
                    }
                  }
                ],
                "image": "x",
                "name": "c"
              }
            ],
            "hostname": "one-2",
            "restartPolicy": "Never"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(creates[0]).unwrap());
    assert_eq!(creates[1]["spec"]["hostname"], "one-3");
}

#[test]
fn a_pod_is_counted_in_three_steps() {
    let wants_two = "parallelism: 1; completions: 2; backoffLimit: 6";
    check(
        job(wants_two, STARTED),
        vec![pod("a", &succeeded()), pod("b", "phase: Running")],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"active":1,"uncountedTerminatedPods":{"succeeded":["a"]}}}
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        "#]],
    );
    let noted = "status: {active: 1, startTime: '2026-01-01T11:59:00Z', ready: 0, terminating: 0, uncountedTerminatedPods: {succeeded: [a]}}";
    // It crashed before the finalizer was gone.
    check(
        job(wants_two, noted),
        vec![pod("a", &succeeded()), pod("b", "phase: Running")],
        expect![[r#"
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        "#]],
    );
    check(
        job(wants_two, noted),
        vec![pod("!a", &succeeded()), pod("b", "phase: Running")],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"succeeded":1,"uncountedTerminatedPods":{"succeeded":null}}}
        "#]],
    );
    // The pod is gone altogether.
    check(
        job(wants_two, noted),
        vec![pod("b", "phase: Running")],
        expect![[r#"
        patch/status Job d/one uid=u rv=10 {"status":{"succeeded":1,"uncountedTerminatedPods":{"succeeded":null}}}
    "#]],
    );
}

#[test]
fn suspension_takes_pods_and_gives_time_back() {
    check(
        job("parallelism: 1; completions: 1; suspend: true", STARTED),
        vec![pod("a", "phase: Running")],
        expect![[r#"
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
            delete Pod d/a uid=a
              then Normal SuccessfulDelete Job one: Deleted pod: a
            patch/status Job d/one uid=u rv=10 {"status":{"active":1,"conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Job suspended","reason":"JobSuspended","status":"True","type":"Suspended"}]}}
              then Normal Suspended Job one: Job suspended
            report TooMany { have: 1, want: 0 }
        "#]],
    );
    let suspended = STARTED.replace("ready: 0", "ready: 0, conditions: [{type: Suspended, status: 'True'}]");
    check(
        job("parallelism: 1; completions: 1; suspend: true", &suspended),
        vec![],
        expect![""],
    );
    check(
        job(
            "parallelism: 1; completions: 1; suspend: false; activeDeadlineSeconds: 100",
            &suspended,
        ),
        vec![],
        expect![[r#"
            create Pod d/one-jx9vh
              then Normal SuccessfulCreate Job one: Created pod: one-jx9vh
            patch/status Job d/one uid=u rv=10 {"status":{"conditions":[{"lastProbeTime":"2026-01-01T12:00:00Z","lastTransitionTime":"2026-01-01T12:00:00Z","message":"Job resumed","reason":"JobResumed","status":"False","type":"Suspended"}],"startTime":"2026-01-01T12:00:00Z"}}
              then Normal Resumed Job one: Job resumed
            again in 40s
            report TooFew { have: 0, want: 1 }
        "#]],
    );
}

#[test]
fn what_is_too_many_goes() {
    let pods = || vec![pod("a", "phase: Running"), pod("b", "phase: Pending")];
    check(
        job(ONE, STARTED),
        pods(),
        expect![[r#"
        patch Pod d/b uid=b rv=5 {"metadata":{"finalizers":null}}
        delete Pod d/b uid=b
          then Normal SuccessfulDelete Job one: Deleted pod: b
        patch/status Job d/one uid=u rv=10 {"status":{"active":2}}
        report TooMany { have: 2, want: 1 }
    "#]],
    );
    // Two pods of one index, and one of an index that is none.
    let pods = vec![
        pod("a/1", "phase: Running"),
        pod("b/1", "phase: Pending"),
        pod("c/9", "phase: Running"),
    ];
    check(
        job(INDEXED, STARTED),
        pods,
        expect![[r#"
        patch Pod d/b uid=b rv=5 {"metadata":{"finalizers":null}}
        patch Pod d/c uid=c rv=5 {"metadata":{"finalizers":null}}
        delete Pod d/b uid=b
          then Normal SuccessfulDelete Job one: Deleted pod: b
        delete Pod d/c uid=c
          then Normal SuccessfulDelete Job one: Deleted pod: c
        patch/status Job d/one uid=u rv=10 {"status":{"active":3}}
        report TooMany { have: 3, want: 3 }
    "#]],
    );
    // A queue of work: after one success no more are made, and the others finish.
    let queue = "parallelism: 3; backoffLimit: 6";
    let text = describe(&plan(
        job(queue, STARTED),
        vec![pod("a", &succeeded()), pod("b", "phase: Running")],
    ));
    assert!(
        !text.contains("create") && !text.contains("delete") && !text.contains("SuccessCriteriaMet"),
        "{text}"
    );
}

#[test]
fn others_are_left_alone() {
    check(
        job("parallelism: 1; completions: 1; managedBy: acme.io/jobs", ""),
        vec![],
        expect![[r#"
            report WaitingOn("another controller")
        "#]],
    );
    let mut stranger = (*pod("a", "phase: Running")).clone();
    stranger.metadata.owner_references = None;
    stranger.metadata.finalizers = None;
    check(
        job(ONE, STARTED),
        vec![Arc::new(stranger)],
        expect![[r#"
        patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":["batch.kubernetes.io/job-tracking"],"ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"one","uid":"u"}]}}
        report Changing("pods adopted or released")
    "#]],
    );
    let mut going = (*job(ONE, STARTED)).clone();
    going.metadata.deletion_timestamp = Some(crate::conditions::whole_second(now()));
    check(
        Arc::new(going),
        vec![terminating(pod("a", "phase: Running"))],
        expect![[r#"
            patch/status Job d/one uid=u rv=10 {"status":{"terminating":1,"uncountedTerminatedPods":{"failed":["a"]}}}
            patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        "#]],
    );
}

#[test]
fn a_pod_without_its_job_is_let_go() {
    let caches = Caches::default();
    let key = ObjectKey::new("d", "a");
    caches.pods.write().insert(pod("a", "phase: Running"));
    let orphan = |caches: &Caches| JobOrphansController.observe(caches, &key);
    let ctx = Context {
        now: now(),
        failure: None,
    };
    let plan = JobOrphansController.reconcile(&orphan(&caches).unwrap(), &ctx);
    expect![[r#"
        confirm absent Job d/one uid=u
        patch Pod d/a uid=a rv=5 {"metadata":{"finalizers":null}}
        report Changing("the pod's Job is gone")
    "#]]
    .assert_eq(&describe(&plan));
    caches.jobs.write().insert(job(ONE, STARTED));
    assert!(orphan(&caches).is_none(), "it has its Job");
    caches.pods.write().insert(pod("!a", "phase: Running"));
    caches.jobs.write().remove(&ObjectKey::new("d", "one"), None);
    assert!(orphan(&caches).is_none(), "nothing keeps it");
}
