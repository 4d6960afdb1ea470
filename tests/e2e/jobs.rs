//! Jobs and CronJobs of modules, with stock kubectl: they end, are counted once, are retried, and come by the clock.

use serde_json::Value;
use skiff_tests::{Cluster, eventually};

/// A Job of the C example; `spec` and `env` are lines of YAML in flow style.
fn job(name: &str, image: &str, spec: &str, env: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n  template:\n    spec:\n      \
         runtimeClassName: wasm\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 1\n      containers:\n      \
         - {{name: c, image: {image}, args: [\"index $(JOB_COMPLETION_INDEX)\"], env: [{env}]}}\n"
    )
}

fn status(cluster: &Cluster, job: &str) -> Value {
    cluster.kubectl(&["get", "job", job, "-o", "json"]).json()["status"].clone()
}

fn waits(cluster: &Cluster, job: &str, condition: &str) {
    let said = cluster
        .k(&format!("wait --for=condition={condition} job/{job} --timeout=60s"))
        .ok();
    assert_eq!(said, format!("job.batch/{job} condition met\n"));
}

fn events(cluster: &Cluster, name: &str) -> String {
    let columns = "custom-columns=T:.type,R:.reason,M:.message";
    cluster
        .k(&format!(
            "get events --field-selector involvedObject.name={name} --no-headers -o {columns}"
        ))
        .ok()
}

#[test]
fn jobs_run_to_their_end() {
    let cluster = Cluster::up();
    let image = cluster.push("hello-c");
    let spec = "completions: 4\n  parallelism: 2\n  completionMode: Indexed";
    assert_eq!(
        cluster.apply(&job("four", &image, spec, "")).ok(),
        "job.batch/four created\n"
    );
    waits(&cluster, "four", "complete");
    let shown = cluster.k("get jobs --no-headers").ok();
    let cells: Vec<_> = shown.split_whitespace().take(3).collect();
    assert_eq!(cells, ["four", "Complete", "4/4"]);
    let end = status(&cluster, "four");
    assert_eq!(
        (&end["completedIndexes"], &end["succeeded"]),
        (&"0-3".into(), &4.into())
    );
    let said = cluster.k("logs job/four --all-pods").ok();
    for index in 0..4 {
        assert!(said.contains(&format!("argument 1: index {index}")), "{said}");
    }
    let described = cluster.k("describe job four").ok();
    for text in [
        "0 Active (0 Ready) / 4 Succeeded / 0 Failed",
        "Completed Indexes:  0-3",
        "Job completed",
    ] {
        assert!(described.contains(text), "{text}: {described}");
    }
    assert!(
        cluster
            .pods("job-name=four")
            .iter()
            .all(|pod| pod["metadata"]["finalizers"].is_null())
    );
    assert_eq!(
        cluster.k("delete job four").ok(),
        "job.batch \"four\" deleted from default namespace\n"
    );
    eventually("its pods go with it", || match cluster.pods("job-name=four").len() {
        0 => Ok(()),
        left => Err(format!("{left} pods are left")),
    });

    // A failure that the policy takes for the end.
    let spec =
        "backoffLimit: 3\n  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [3]}}]}";
    cluster
        .apply(&job("fails", &image, spec, "{name: EXIT_CODE, value: '3'}"))
        .ok();
    waits(&cluster, "fails", "failed");
    assert_eq!(status(&cluster, "fails")["failed"], 1);
    let told = events(&cluster, "fails");
    assert!(
        told.contains("failed with exit code 3 matching FailJob rule at index 0"),
        "{told}"
    );

    // One that is tried again in place, until its limit: restarts of the container count.
    let in_place = job("again", &image, "backoffLimit: 1", "{name: EXIT_CODE, value: '1'}");
    cluster
        .apply(&in_place.replace("restartPolicy: Never", "restartPolicy: OnFailure"))
        .ok();
    waits(&cluster, "again", "failed");
    let told = events(&cluster, "again");
    assert!(
        told.contains("BackoffLimitExceeded   Job has reached the specified backoff limit"),
        "{told}"
    );
}

#[test]
fn a_job_is_suspended_resumed_and_ended_by_its_deadline() {
    let cluster = Cluster::up();
    let image = cluster.push("sensor");
    cluster
        .apply(&job(
            "long",
            &image,
            "suspend: true\n  ttlSecondsAfterFinished: 3600",
            "",
        ))
        .ok();
    waits(&cluster, "long", "suspended");
    assert!(cluster.pods("job-name=long").is_empty());
    cluster.k(r#"patch job long -p {"spec":{"suspend":false}}"#).ok();
    cluster.wait_ready_pods("job-name=long", 1);
    cluster.k(r#"patch job long -p {"spec":{"suspend":true}}"#).ok();
    eventually("its pod goes, uncounted", || {
        let now = status(&cluster, "long");
        let gone = cluster.pods("job-name=long").is_empty() && now["active"].is_null() && now["failed"].is_null();
        if gone { Ok(()) } else { Err(now.to_string()) }
    });
    cluster
        .k(r#"patch job long -p {"spec":{"suspend":false,"activeDeadlineSeconds":1}}"#)
        .ok();
    waits(&cluster, "long", "failed");
    let told = events(&cluster, "long");
    for text in [
        "Job suspended",
        "Job resumed",
        "DeadlineExceeded   Job was active longer than specified deadline",
    ] {
        assert!(told.contains(text), "{text}: {told}");
    }
    cluster
        .k(r#"patch job long -p {"spec":{"ttlSecondsAfterFinished":0}}"#)
        .ok();
    cluster.k("wait --for=delete job/long --timeout=60s").ok();
}

/// The control plane and its node are killed in the middle: what ended meanwhile is counted, and once.
#[test]
fn a_job_survives_a_crash_of_everything() {
    let mut cluster = Cluster::up();
    let image = cluster.push("hello-c");
    let spec = "completions: 30\n  parallelism: 3";
    cluster.apply(&job("many", &image, spec, "")).ok();
    eventually("some have ended", || {
        let now = status(&cluster, "many");
        if now["succeeded"].as_i64().unwrap_or(0) >= 3 {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
    cluster.restart();
    waits(&cluster, "many", "complete");
    let end = status(&cluster, "many");
    assert_eq!((&end["succeeded"], &end["failed"]), (&30.into(), &Value::Null), "{end}");
    let succeeded = cluster
        .pods("job-name=many")
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Succeeded")
        .count();
    assert_eq!(succeeded, 30);
}

#[test]
fn a_cron_job_ticks() {
    let cluster = Cluster::up();
    let image = cluster.push("hello-c");
    let made = cluster.kubectl(&[
        "create",
        "cronjob",
        "tick",
        "--image",
        &image,
        "--schedule",
        "0 0 31 2 *",
    ]);
    assert_eq!(made.ok(), "cronjob.batch/tick created\n");
    let bad = cluster
        .kubectl(&["create", "cronjob", "bad", "--image", &image, "--schedule", "1 2 3"])
        .err();
    assert!(bad.contains("expected exactly 5 fields, found 3: [1 2 3]"), "{bad}");
    let wasm = r#"{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"runtimeClassName":"wasm"}}}}}}"#;
    cluster.kubectl(&["patch", "cronjob", "tick", "-p", wasm]).ok();
    assert_eq!(
        cluster.k("create job by-hand --from=cronjob/tick").ok(),
        "job.batch/by-hand created\n"
    );
    waits(&cluster, "by-hand", "complete");
    // Its time comes in a second.
    let often = r#"{"spec":{"schedule":"@every 1s"}}"#;
    cluster.kubectl(&["patch", "cronjob", "tick", "-p", often]).ok();
    eventually("the clock makes a Job, and it succeeds", || {
        let jobs = cluster.k("get jobs --no-headers").ok();
        let ticked = jobs
            .lines()
            .any(|line| line.starts_with("tick-") && line.contains(" Complete "));
        let status = cluster.kubectl(&["get", "cronjob", "tick", "-o", "json"]).json()["status"].clone();
        let told = status["lastScheduleTime"].is_string() && status["lastSuccessfulTime"].is_string();
        if ticked && told {
            Ok(())
        } else {
            Err(format!("{jobs}{status}"))
        }
    });
    cluster.k(r#"patch cronjob tick -p {"spec":{"suspend":true}}"#).ok();
    let told = events(&cluster, "tick");
    assert!(
        told.contains("Created job tick-") && told.contains("Saw completed job: tick-"),
        "{told}"
    );
    assert!(cluster.k("get cj tick --no-headers").ok().contains("True"));
    // All that it made goes with it.
    assert_eq!(
        cluster.k("delete cronjob tick").ok(),
        "cronjob.batch \"tick\" deleted from default namespace\n"
    );
    eventually("its Jobs go with it, and their pods", || {
        let left = cluster.k("get jobs,pods -o name").ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
