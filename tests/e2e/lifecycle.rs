//! The order in which a pod's containers start and end, what probes decide, and that back-off outlives the agent.

use serde_json::Value;
use skiff_tests::{Cluster, eventually};

/// When a container was started or ended, as its status has it: whole seconds, so that texts have the order of times.
fn time<'a>(container: &'a Value, key: &str) -> &'a str {
    container["state"]["terminated"][key]
        .as_str()
        .unwrap_or_else(|| panic!("{container}"))
}

#[test]
fn init_containers_and_sidecars_start_in_order_and_a_job_ends_without_its_sidecar() {
    let cluster = Cluster::up();
    let (command, server) = (cluster.push("hello-c"), cluster.push("hello-http"));
    let manifest = format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: work}}
spec:
  template:
    spec:
      runtimeClassName: wasm
      restartPolicy: Never
      initContainers:
      - {{name: first, image: {command}}}
      - name: sidecar
        image: {server}
        restartPolicy: Always
        ports: [{{containerPort: 8080}}]
        startupProbe: {{httpGet: {{port: 8080}}, initialDelaySeconds: 1, periodSeconds: 1}}
      - {{name: second, image: {command}}}
      containers:
      - {{name: main, image: {command}}}
"
    );
    cluster.apply(&manifest).ok();
    cluster.k("wait --for=condition=complete job/work --timeout=60s").ok();
    let pod = cluster.pods("job-name=work").remove(0);
    let [first, sidecar, second] = [0, 1, 2].map(|i| &pod["status"]["initContainerStatuses"][i]);
    let main = &pod["status"]["containerStatuses"][0];
    assert_eq!(sidecar["name"], "sidecar");
    for ended in [first, second, main, sidecar] {
        assert_eq!(ended["state"]["terminated"]["exitCode"], 0, "{ended}");
        assert_eq!(ended["restartCount"], 0, "{ended}");
    }
    assert!(time(first, "finishedAt") <= time(sidecar, "startedAt"));
    // The second waits until the sidecar has passed its startup probe, a second after its start.
    assert!(time(sidecar, "startedAt") < time(second, "startedAt"));
    assert!(time(second, "finishedAt") <= time(main, "startedAt"));
    assert!(time(main, "finishedAt") <= time(sidecar, "finishedAt"));
    let told = cluster.k("describe pod -l job-name=work").ok();
    assert!(told.contains("Stopping container sidecar"), "{told}");
}

#[test]
fn an_init_container_that_fails_ends_a_pod_that_is_not_restarted() {
    let cluster = Cluster::up();
    let image = cluster.push("hello-c");
    let manifest = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: broken}}
spec:
  runtimeClassName: wasm
  restartPolicy: Never
  initContainers: [{{name: init, image: {image}, env: [{{name: EXIT_CODE, value: '7'}}]}}]
  containers: [{{name: main, image: {image}}}]
"
    );
    cluster.apply(&manifest).ok();
    eventually("the pod fails", || {
        let shown = cluster.k("get pod broken --no-headers").ok();
        if shown.contains("Init:Error") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    let status = cluster.pod("broken")["status"].clone();
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 7);
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
}

#[test]
fn a_startup_probe_holds_back_the_others_and_ends_what_does_not_start() {
    let cluster = Cluster::up();
    let image = cluster.push("hello-http");
    let pod = |name: &str, probes: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  runtimeClassName: wasm
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: {image}
    ports: [{{containerPort: 8080}}]
    {probes}
"
        )
    };
    let never = "startupProbe: {httpGet: {port: 8080, path: /trap}, periodSeconds: 1, failureThreshold: 2}";
    cluster.apply(&pod("never", never)).ok();
    // Liveness would end it at its first try, but is not asked before the startup probe has passed, which it never does.
    let held = "startupProbe: {httpGet: {port: 8080, path: /trap}, periodSeconds: 1, failureThreshold: 100}
    livenessProbe: {httpGet: {port: 8080, path: /trap}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}";
    cluster.apply(&pod("held", held)).ok();
    let good = "startupProbe: {httpGet: {port: 8080}, periodSeconds: 1}
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}";
    cluster.apply(&pod("good", good)).ok();
    cluster.wait_ready_pods("app=good", 1);
    assert_eq!(cluster.pod("good")["status"]["containerStatuses"][0]["started"], true);
    eventually("what does not start is started again", || {
        let status = cluster.pod("never")["status"].clone();
        let again = status["containerStatuses"][0]["restartCount"].as_i64() >= Some(1);
        if again { Ok(()) } else { Err(status.to_string()) }
    });
    let told = cluster.k("describe pod never").ok();
    for text in [
        "Startup probe failed: HTTP probe failed with statuscode: 500",
        "Container c failed startup probe, will be restarted",
    ] {
        assert!(told.contains(text), "{text}: {told}");
    }
    let held = cluster.pod("held")["status"]["containerStatuses"][0].clone();
    let kept = (&held["restartCount"], &held["ready"], &held["started"]);
    assert_eq!(kept, (&0.into(), &false.into(), &false.into()), "{held}");
}

/// The agent is killed while a container waits out its back-off: the next one neither starts it at once nor from the first
/// pause again, and knows how often it was restarted.
#[test]
fn restart_back_off_survives_the_agent() {
    let mut cluster = Cluster::up();
    let image = cluster.push("hello-c");
    let manifest = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: crash}}
spec:
  runtimeClassName: wasm
  containers: [{{name: c, image: {image}, env: [{{name: EXIT_CODE, value: '7'}}]}}]
"
    );
    cluster.apply(&manifest).ok();
    let container = |cluster: &Cluster| cluster.pod("crash")["status"]["containerStatuses"][0].clone();
    let waiting = "back-off 10s restarting failed container=c";
    eventually("it waits for ten seconds", || {
        let now = container(&cluster);
        let message = now["state"]["waiting"]["message"].as_str().unwrap_or_default();
        if message.starts_with(waiting) {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
    let before = container(&cluster);
    cluster.restart();
    eventually("it is started again, once", || {
        let now = container(&cluster);
        let once = now["restartCount"].as_i64() > before["restartCount"].as_i64();
        if once { Ok(()) } else { Err(now.to_string()) }
    });
    let after = container(&cluster);
    let at = |container: &Value, key: &str| -> i64 {
        let text = container["lastState"]["terminated"][key]
            .as_str()
            .unwrap_or_else(|| panic!("{container}"));
        skiff_api::time::parse_rfc3339(text).unwrap()
    };
    assert_eq!(
        after["restartCount"].as_i64(),
        before["restartCount"].as_i64().map(|count| count + 1)
    );
    assert_eq!(after["lastState"]["terminated"]["exitCode"], 7);
    let pause = at(&after, "startedAt") - at(&before, "finishedAt");
    assert!(pause >= 10, "started again after {pause} s: {before} {after}");
}
