//! Nodes that never compile: the control plane does, and a pod says that it waits for it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use skiff_tests::{Cluster, Options, Process, eventually, skiff_binary};

/// A compiler that waits while the file `gate` is beside it.
fn gated_compiler(directory: &Path) -> PathBuf {
    let real = std::env::var_os("SKIFF_COMPILER").map_or_else(skiff_binary, PathBuf::from);
    let program = directory.join("compiler");
    let script = format!(
        "#!/bin/sh\nhere=$(dirname \"$0\")\necho \"$2\" >> \"$here/runs\"\n\
         [ \"$2\" = --platform ] || while [ -e \"$here/gate\" ]; do sleep 0.1; done\nexec {} \"$@\"\n",
        real.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(directory.join("gate"), "").unwrap();
    program
}

fn agent(cluster: &Cluster, name: &str) -> Process {
    let token = cluster.skiff(&["token", "create"]).ok();
    let mut command = Command::new(skiff_binary());
    command
        .args(["agent", "--compile", "service", "--server", &cluster.url()])
        .args(["--node-name", name, "--token", token.trim(), "--log-level", "info"])
        .args(["--eviction-hard", "memory.available<1Mi", "--data-dir"])
        .arg(cluster.directory.path().join(name));
    Process::start(&mut command, &cluster.directory.path().join(format!("{name}.log")))
}

#[test]
fn a_pod_waits_for_the_compile_service_says_so_and_outlives_the_services_death() {
    let tools = tempfile::tempdir().unwrap();
    let compiler = gated_compiler(tools.path());
    let mut cluster = Cluster::start(Options {
        server_only: true,
        extra_args: vec!["--compiler".to_owned(), compiler.to_str().unwrap().to_owned()],
        ..Options::default()
    });
    let _agent = agent(&cluster, "one");
    cluster.wait_node_ready("one");
    let image = cluster.push("hello-http");
    let pod = ["run", "web", "--image", &image, "--labels", "app=web", "--port", "8080"];
    cluster.kubectl(&pod).ok();
    let waiting = |cluster: &Cluster| {
        let path = "jsonpath={.status.containerStatuses[0].state.waiting}";
        let state = cluster.kubectl(&["get", "pod", "web", "-o", path]).stdout;
        match state.contains("\"Compiling\"") && state.contains("waiting for the compile service") {
            true => Ok(()),
            false => Err(state),
        }
    };
    eventually("the pod says what it waits for", || waiting(&cluster));
    let events = cluster.k("get events --field-selector reason=Compiling").stdout;
    assert!(events.contains("waiting for the compile service"), "{events}");

    // kill -9 in the middle of compiling.
    cluster.restart();
    std::fs::remove_file(tools.path().join("gate")).unwrap();
    let pods = cluster.wait_ready_pods("app=web", 1);
    let address = skiff_tests::address(&pods[0], 8080);
    eventually("the pod serves", || match skiff_tests::get(address, "/") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let new = std::fs::read_dir(cluster.data_dir().join("compiled/new")).unwrap();
    let left = new.flat_map(|life| std::fs::read_dir(life.unwrap().path()).unwrap());
    assert_eq!(left.count(), 0, "of neither life");

    // A node that never saw the module gets it without another run of the compiler.
    let runs = || {
        std::fs::read_to_string(tools.path().join("runs"))
            .unwrap()
            .lines()
            .count()
    };
    let before = runs();
    cluster.k("cordon one").ok();
    let _two = agent(&cluster, "two");
    cluster.wait_node_ready("two");
    cluster
        .kubectl(&["run", "cold", "--image", &image, "--labels", "app=cold"])
        .ok();
    cluster.wait_ready_pods("app=cold", 1);
    assert_eq!(runs(), before);
}
