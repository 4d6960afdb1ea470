//! The first minute of a newcomer: `skiff up`, `skiff run`, an HTTP answer, kubectl, a mistake, Ctrl-C, start again.

use skiff_tests::{Cluster, address, eventually, get, guest};

#[test]
fn a_wasm_file_becomes_a_running_pod_that_answers() {
    let mut cluster = Cluster::up();
    let file = guest("hello-http");
    let said = cluster
        .skiff(&["run", file.to_str().unwrap(), "--env", "GREETING=Good morning"])
        .ok();
    assert!(said.contains("is Running"), "{said}");
    let url = said
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .expect("a URL to try");
    let target = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let answer = get(target, "/").unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "Good morning\n"));

    let table = cluster.k("get pods").ok();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..4], ["1/1", "Running", "0"], "{table}");
    let deployments = cluster.k("get deployments").ok();
    assert!(
        deployments.contains("hello-http   1/1     1            1"),
        "{deployments}"
    );

    let described = cluster.k("describe pod -l app=hello-http").ok();
    for event in ["Scheduled", "Pulling", "Pulled", "Created", "Started"] {
        assert!(described.contains(event), "{event} is missing in {described}");
    }

    // Ctrl-C ends everything; what was acknowledged is there again.
    let uid = cluster.pods("app=hello-http")[0]["metadata"]["uid"].clone();
    let status = cluster.process.interrupt();
    assert!(status.success(), "{status}: {}", cluster.process.output());
    eventually("no process is left", || {
        let left = [cluster.processes("wasm-worker"), cluster.processes("agent")].concat();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    cluster.restart();
    let pods = cluster.wait_ready_pods("app=hello-http", 1);
    assert_eq!(pods[0]["metadata"]["uid"], uid);
    eventually("the pod answers again", || get(address(&pods[0], 8080), "/"));
}

#[test]
fn a_command_runs_to_its_end_and_its_output_is_in_the_logs() {
    let cluster = Cluster::up();
    let file = guest("hello-c");
    let path = file.to_str().unwrap();
    cluster
        .skiff(&["run", path, "--name", "greet", "--env", "WHO=Skiff", "--", "one", "two"])
        .ok();
    eventually("the pod is Completed", || {
        let phase = cluster.pod("greet")["status"]["phase"].clone();
        if phase == "Succeeded" {
            Ok(())
        } else {
            Err(phase.to_string())
        }
    });
    let logs = cluster.k("logs greet").ok();
    for line in [
        "Hello from C, Skiff!",
        "argument 1: one",
        "argument 2: two",
        "this line goes to stderr",
    ] {
        assert!(logs.lines().any(|logged| logged == line), "{line} is missing in {logs}");
    }

    let again = cluster.skiff(&["run", path, "--name", "greet"]).err();
    assert!(
        again.contains("pod greet exists already") && again.lines().count() <= 3,
        "{again}"
    );

    // It may be seen Running or Failed, whichever is first.
    cluster.skiff(&["run", path, "--name", "fails", "--env", "EXIT_CODE=3"]);
    eventually("the pod has failed", || {
        let ended = cluster.pod("fails")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        if ended["exitCode"] == 3 {
            Ok(())
        } else {
            Err(ended.to_string())
        }
    });
    let table = cluster.k("get pod fails").ok();
    assert!(table.contains("Error"), "{table}");
}

#[test]
fn mistakes_get_one_clear_line() {
    let cluster = Cluster::up();
    let text = cluster.directory.path().join("text.wasm");
    std::fs::write(&text, "this is no module").unwrap();
    let error = cluster.skiff(&["run", text.to_str().unwrap()]).err();
    assert!(
        error.starts_with("error: ") && error.contains("text.wasm") && error.lines().count() == 1,
        "{error}"
    );
    let error = cluster.skiff(&["run", "/no/such/file.wasm"]).err();
    assert!(
        error.contains("/no/such/file.wasm") && error.contains("No such file"),
        "{error}"
    );
    let error = cluster
        .skiff(&["push", guest("hello-c").to_str().unwrap(), "Bad Name:x"])
        .err();
    assert!(error.contains("is not an image name"), "{error}");

    let overlap = std::process::Command::new(skiff_tests::skiff_binary())
        .args([
            "server",
            "--pod-cidr",
            "10.96.0.0/16",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(cluster.directory.path().join("other"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&overlap.stderr);
    assert!(
        !overlap.status.success() && error.contains("--pod-cidr 10.96.0.0/16 overlaps"),
        "{error}"
    );

    // A second control plane on the same data must not start. (etcd is made to be shared.)
    if skiff_tests::on_etcd() {
        return;
    }
    let second = std::process::Command::new(skiff_tests::skiff_binary())
        .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(cluster.data_dir())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && error.contains("store.redb"), "{error}");
}
