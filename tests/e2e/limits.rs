//! A spinner, a memory hog, a log flooder and a web server side by side: the first three are limited and `describe` says
//! why; the last one goes on answering.

use std::time::Instant;

use skiff_tests::{Cluster, address, eventually, get};

fn pod(name: &str, image: &str, extra: &str, limits: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  {extra}\n  containers:\n  - name: {name}\n    \
         image: {image}\n    resources: {{limits: {{{limits}}}}}\n---\n"
    )
}

#[test]
fn greedy_neighbours_are_limited_and_the_web_server_is_not_hurt() {
    let cluster = Cluster::up();
    let manifest = [
        pod("web", &cluster.push("hello-http"), "", "memory: 64Mi"),
        pod(
            "spinner",
            &cluster.push("spinner"),
            "activeDeadlineSeconds: 8",
            "cpu: 200m, memory: 32Mi",
        ),
        pod(
            "hog",
            &cluster.push("memory-hog"),
            "restartPolicy: Never",
            "memory: 48Mi",
        ),
        pod(
            "flooder",
            &cluster.push("log-flooder"),
            "terminationGracePeriodSeconds: 1",
            "cpu: 200m, memory: 32Mi",
        ),
    ]
    .concat();
    cluster.apply(&manifest).ok();
    let web = cluster.wait_ready_pods("app=web", 1).remove(0);

    eventually("the hog is OOMKilled", || {
        let ended = cluster.pod("hog")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        if ended["reason"] == "OOMKilled" && ended["exitCode"] == 137 {
            Ok(())
        } else {
            Err(ended.to_string())
        }
    });
    let described = cluster.k("describe pod hog").ok();
    assert!(
        described.contains("OOMKilled") && described.contains("Exit Code:    137"),
        "{described}"
    );

    // While spinner and flooder are at it, every request is answered.
    let mut slowest = 0.0_f64;
    for _ in 0..200 {
        let started = Instant::now();
        assert_eq!(get(address(&web, 8080), "/").unwrap().status, 200);
        slowest = slowest.max(started.elapsed().as_secs_f64());
    }
    println!(
        "slowest of 200 requests beside spinner and flooder: {:.1} ms",
        slowest * 1e3
    );

    eventually("the spinner's deadline ends it", || {
        let status = cluster.pod("spinner")["status"].clone();
        let over = status["phase"] == "Failed" && status["reason"] == "DeadlineExceeded";
        if over { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(cluster.k("describe pod spinner").ok().contains("DeadlineExceeded"));

    let flooder = cluster.pod("flooder");
    assert_eq!(flooder["status"]["phase"], "Running", "{flooder}");
    let size = directory_size(&cluster.data_dir().join("agent/logs"));
    assert!(size < 80 << 20, "the flood took {size} bytes of disk");
    assert!(cluster.k("logs flooder --tail=3").ok().contains("flood"));
}

fn directory_size(path: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
