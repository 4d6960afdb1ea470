//! kill -9 of a worker, of the agent, of everything: nothing acknowledged is lost, UIDs stay, and an agent's death alone
//! restarts no pod.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;
use skiff_tests::{Cluster, address, eventually, get, kill};

fn deploy(cluster: &Cluster) -> Vec<Value> {
    let image = cluster.push("hello-http");
    let manifest = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 3\n  selector: {{matchLabels: {{app: web}}}}\n  \
         template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers:\n      - {{name: web, image: {image}, ports: [{{containerPort: 8080}}]}}\n"
    );
    cluster.apply(&manifest).ok();
    cluster.wait_ready_pods("app=web", 3)
}

/// UID → (address, restarts).
fn identities(pods: &[Value]) -> BTreeMap<String, (String, i64)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    pods.iter()
        .map(|pod| {
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"]
                .as_i64()
                .unwrap_or(-1);
            (text(&pod["metadata"]["uid"]), (text(&pod["status"]["podIP"]), restarts))
        })
        .collect()
}

fn all_answer(pods: &[Value]) {
    for pod in pods {
        let answer = eventually("the pod answers", || get(address(pod, 8080), "/"));
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn killing_the_agent_restarts_no_pod() {
    let cluster = Cluster::up();
    let before = deploy(&cluster);
    let [agent] = cluster.processes(" agent ")[..] else {
        panic!("one agent expected")
    };
    let workers = cluster.processes("wasm-worker");
    kill(agent, Signal::KILL);
    all_answer(&before);
    eventually("another agent runs", || {
        let agents = cluster.processes(" agent ");
        if agents.len() == 1 && agents[0] != agent {
            Ok(())
        } else {
            Err(format!("{agents:?}"))
        }
    });
    // The new agent works: it takes a further pod.
    cluster.k("scale deployment web --replicas=4").ok();
    let after = cluster.wait_ready_pods("app=web", 4);
    let (before, after) = (identities(&before), identities(&after));
    for (uid, identity) in &before {
        assert_eq!(after.get(uid), Some(identity), "pod {uid} changed");
    }
    assert_eq!(cluster.processes("wasm-worker"), workers);
}

#[test]
fn killing_the_worker_costs_only_a_restart() {
    let cluster = Cluster::up();
    let before = deploy(&cluster);
    for pid in cluster.processes("wasm-worker") {
        kill(pid, Signal::KILL);
    }
    let after = eventually("the pods run again", || {
        let pods = cluster.pods("app=web");
        let restarted = pods
            .iter()
            .filter(|p| p["status"]["containerStatuses"][0]["restartCount"] == 1)
            .count();
        let ready = pods.iter().filter(|p| skiff_tests::is_ready(p)).count();
        if restarted == 3 && ready == 3 {
            Ok(pods)
        } else {
            Err(cluster.k("get pods").stdout)
        }
    });
    let addresses =
        |map: BTreeMap<String, (String, i64)>| map.into_iter().map(|(uid, (ip, _))| (uid, ip)).collect::<Vec<_>>();
    assert_eq!(addresses(identities(&before)), addresses(identities(&after)));
    all_answer(&after);
}

#[test]
fn killing_everything_loses_nothing_acknowledged() {
    let mut cluster = Cluster::up();
    let before = deploy(&cluster);
    cluster.k("create configmap kept --from-literal=a=1").ok();
    cluster.process.kill();
    cluster.restart();
    assert_eq!(cluster.k("get configmap kept -o jsonpath={.data.a}").ok(), "1");
    let after = cluster.wait_ready_pods("app=web", 3);
    let uids = |pods: &[Value]| identities(pods).into_keys().collect::<Vec<_>>();
    assert_eq!(uids(&before), uids(&after));
    all_answer(&after);
}
