//! On a real etcd: Kubernetes' keys, a crash of etcd, and two control planes of which one is killed.

use skiff_tests::{Cluster, Etcd, Options, eventually};

fn pods(count: usize) -> String {
    (0..count)
        .map(|i| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{i}, labels: {{app: many}}}}\nspec: {{containers: [{{name: c, image: none.invalid/x:1}}]}}\n---\n"
            )
        })
        .collect()
}

#[test]
fn keys_are_those_of_kubernetes_and_a_crash_of_etcd_is_survived() {
    let mut etcd = Etcd::start();
    let cluster = Cluster::start(Options {
        etcd: Some(etcd.endpoint.clone()),
        server_only: true,
        ..Options::default()
    });
    cluster.k("create configmap settings --from-literal=a=1").ok();
    let keys = etcd.etcdctl(&["get", "/registry", "--prefix", "--keys-only"]).1;
    for key in [
        "/registry/configmaps/default/settings",
        "/registry/namespaces/default",
        "/registry/clusterroles/cluster-admin",
    ] {
        assert!(keys.lines().any(|line| line == key), "{key} is missing in {keys}");
    }
    etcd.crash_and_restart();
    eventually("writes are possible again", || {
        let output = cluster.k("create configmap later --from-literal=b=2");
        if output.code == 0 || output.stderr.contains("AlreadyExists") {
            Ok(())
        } else {
            Err(output.stderr)
        }
    });
    assert_eq!(cluster.k("get configmap settings -o jsonpath={.data.a}").ok(), "1");
}

#[test]
fn another_control_plane_takes_over_and_nothing_is_bound_twice() {
    let etcd = Etcd::start();
    let options = Options {
        etcd: Some(etcd.endpoint.clone()),
        ..Options::default()
    };
    let mut first = Cluster::start(options.clone());
    let second = Cluster::start(Options {
        server_only: true,
        ..options
    });
    let ca = |cluster: &Cluster| std::fs::read_to_string(cluster.data_dir().join("pki/ca.crt")).unwrap();
    assert_eq!(
        ca(&first),
        ca(&second),
        "kubeconfigs and nodes of one server must work with the other"
    );
    first.apply(&pods(10)).ok();
    second.k("get pods").ok();
    first.process.kill();
    // A node that nobody runs: the pods are only bound.
    let node = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"paper"},"status":{
        "capacity":{"cpu":"8","memory":"8Gi","pods":"110"},"allocatable":{"cpu":"8","memory":"8Gi","pods":"110"},
        "conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":null,"lastTransitionTime":null}]}}"#;
    second.kubectl_stdin(&["create", "-f", "-"], node).ok();
    let more = pods(20).replace("app: many", "app: more").replace("name: p", "name: q");
    second.apply(&more).ok();
    let bound = eventually("the new leader binds", || {
        let pods = second.pods("app=more");
        let bound = pods.iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count();
        if bound == 20 {
            Ok(pods)
        } else {
            Err(format!("{bound} of 20 bound; {}", second.k("get leases -A").stdout))
        }
    });
    for pod in bound {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let events = second.kubectl(&[
            "get",
            "events",
            "--field-selector",
            &format!("involvedObject.name={name},reason=Scheduled"),
            "-o",
            "name",
        ]);
        assert_eq!(events.ok().lines().count(), 1, "{name} was bound more than once");
    }
}
