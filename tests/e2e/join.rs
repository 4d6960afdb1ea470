//! A control plane and agents that join it with a token, each a process of its own.

use std::process::Command;

use skiff_tests::{Cluster, Options, Process, skiff_binary};

fn agent(cluster: &Cluster, name: &str, token: Option<&str>) -> Process {
    let mut command = Command::new(skiff_binary());
    command
        .args([
            "agent",
            "--server",
            &cluster.url(),
            "--node-name",
            name,
            "--log-level",
            "info",
            "--eviction-hard",
            "memory.available<1Mi",
            "--data-dir",
        ])
        .arg(cluster.directory.path().join(name));
    if let Some(token) = token {
        command.args(["--token", token]);
    }
    Process::start(&mut command, &cluster.directory.path().join(format!("{name}.log")))
}

#[test]
fn two_nodes_join_with_a_token_and_share_the_pods() {
    let cluster = Cluster::start(Options {
        server_only: true,
        ..Options::default()
    });
    let token = cluster.skiff(&["token", "create"]).ok();
    let token = token.trim();
    assert_eq!(token.lines().count(), 1, "the token stands alone: {token}");
    let mut one = agent(&cluster, "one", Some(token));
    let _two = agent(&cluster, "two", Some(token));
    cluster.wait_node_ready("one");
    cluster.wait_node_ready("two");

    let image = cluster.push("hello-http");
    cluster
        .kubectl(&["create", "deployment", "web", "--image", &image, "--replicas=4"])
        .ok();
    let pods = cluster.wait_ready_pods("app=web", 4);
    let mut nodes: Vec<&str> = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap())
        .collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["one", "one", "two", "two"]);

    // The certificate is kept: no token is needed again.
    one.kill();
    let _one = agent(&cluster, "one", None);
    cluster.k("scale deployment web --replicas=6").ok();
    cluster.wait_ready_pods("app=web", 6);

    let mut stranger = agent(
        &cluster,
        "three",
        Some(&token.replace(|c: char| c.is_ascii_digit(), "9")),
    );
    let status = skiff_tests::eventually("a wrong token is refused", || {
        stranger.ended().ok_or_else(|| stranger.output())
    });
    assert!(!status.success());
}
