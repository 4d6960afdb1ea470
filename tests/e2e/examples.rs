//! The examples keep what their README promises: every prebuilt guest pushed as `skiff.local/NAME:v1`, every manifest
//! applied, on one cluster.

use serde_json::Value;
use skiff_tests::{Cluster, address, eventually, get};

/// Examples that run the module of another one.
const MANIFEST_ONLY: [&str; 1] = ["cron-job"];

fn terminated(pod: &Value) -> (String, i64) {
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    (
        ended["reason"].as_str().unwrap_or_default().to_owned(),
        ended["exitCode"].as_i64().unwrap_or(-1),
    )
}

/// Waits until the pod's only container has ended like this.
fn ends(cluster: &Cluster, pod: &str, phase: &str, reason: &str, code: i64) {
    eventually(&format!("{pod} ends with {reason} {code}"), || {
        let found = cluster.pod(pod);
        let as_promised = found["status"]["phase"] == phase && terminated(&found) == (reason.to_owned(), code);
        if as_promised {
            Ok(())
        } else {
            Err(found["status"].to_string())
        }
    });
}

/// Waits until the pod's log has this text.
fn logs(cluster: &Cluster, pod: &str, text: &str) {
    eventually(&format!("{pod} logs {text:?}"), || {
        let output = cluster.k(&format!("logs {pod} --tail=20000"));
        if output.stdout.contains(text) {
            Ok(())
        } else {
            Err(format!("{:.2000}{}", output.stdout, output.stderr))
        }
    });
}

/// The folders of `wasm-examples` that hold a manifest.
fn examples() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(skiff_tests::root().join("wasm-examples"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| {
            skiff_tests::root()
                .join("wasm-examples")
                .join(name)
                .join("manifest.yaml")
                .is_file()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_example_does_what_its_readme_promises() {
    let cluster = Cluster::up();
    let names = examples();
    assert_eq!(
        names,
        [
            "cron-job",
            "hello-assemblyscript",
            "hello-c",
            "hello-http",
            "log-flooder",
            "memory-hog",
            "sensor",
            "spinner"
        ],
        "an example without promises here"
    );
    for name in &names {
        if !MANIFEST_ONLY.contains(&name.as_str()) {
            let file = skiff_tests::guest(name);
            let pushed = cluster
                .skiff(&["push", file.to_str().unwrap(), &format!("{name}:v1")])
                .ok();
            assert_eq!(pushed.lines().last().unwrap(), format!("skiff.local/{name}:v1"));
        }
        let manifest = skiff_tests::root()
            .join("wasm-examples")
            .join(name)
            .join("manifest.yaml");
        cluster.kubectl(&["apply", "-f", manifest.to_str().unwrap()]).ok();
    }

    for pod in cluster.wait_ready_pods("app=hello-http", 2) {
        let answer = get(address(&pod, 8080), "/").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "Hello from the edge!\n"));
        assert_eq!(get(address(&pod, 8080), "/trap").unwrap().status, 500);
        assert_eq!(
            get(address(&pod, 8080), "/").unwrap().status,
            200,
            "a trap costs one request"
        );
    }

    logs(&cluster, "sensor", "reading=2 sensor=outdoor value=");
    logs(&cluster, "sensor", "unit=F");

    ends(&cluster, "memory-hog", "Failed", "OOMKilled", 137);
    logs(&cluster, "memory-hog", "holding 16 MiB");
    let described = cluster.k("describe pod memory-hog").ok();
    assert!(
        described.contains("OOMKilled") && described.contains("Exit Code:    137"),
        "{described}"
    );

    ends(&cluster, "hello-c", "Failed", "Error", 3);
    logs(&cluster, "hello-c", "Hello from C, edge!");
    logs(&cluster, "hello-c", "argument 1: --verbose");

    let said = cluster.k("create job now --from=cronjob/cron-job").ok();
    assert_eq!(said, "job.batch/now created\n");
    cluster.k("wait --for=condition=complete job/now --timeout=60s").ok();
    logs(&cluster, "job/now", "Hello from C, night shift!");
    logs(&cluster, "job/now", "argument 1: --report");
    let shown = cluster.k("get cronjobs --no-headers").ok();
    assert!(
        shown.contains("*/5 6-22 * * mon-fri   Europe/Berlin   False"),
        "{shown}"
    );

    ends(&cluster, "hello-assemblyscript", "Succeeded", "Completed", 0);
    logs(&cluster, "hello-assemblyscript", "Hello from AssemblyScript!");

    logs(
        &cluster,
        "log-flooder",
        "log lines dropped (more than 1048576 bytes per second)",
    );
    assert_eq!(cluster.pod("log-flooder")["status"]["phase"], "Running");

    eventually("the spinner's deadline ends it", || {
        let status = cluster.pod("spinner")["status"].clone();
        let over = status["phase"] == "Failed" && status["reason"] == "DeadlineExceeded";
        if over { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(cluster.k("describe pod spinner").ok().contains("DeadlineExceeded"));
}
