//! What an operator types, with stock kubectl.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use skiff_tests::{Cluster, Options, eventually};

fn deployment(image: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, labels: {{app: web}}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      \
         runtimeClassName: wasm\n      containers:\n      - name: web\n        image: {image}\n        ports: [{{containerPort: 8080}}]\n"
    )
}

#[test]
fn a_deployment_is_rolled_out_scaled_undone_and_restarted() {
    on_both(|cluster| {
        let image = cluster.push("hello-http");
        let said = cluster.apply(&deployment(&image, 2)).ok();
        assert_eq!(said, "deployment.apps/web created\n");
        let said = cluster.k("rollout status deployment/web --timeout=60s").ok();
        assert!(said.contains("deployment \"web\" successfully rolled out"), "{said}");
        assert_eq!(
            cluster.apply(&deployment(&image, 2)).ok(),
            "deployment.apps/web unchanged\n"
        );

        assert_eq!(
            cluster.k("scale deployment web --replicas=3").ok(),
            "deployment.apps/web scaled\n"
        );
        cluster.wait_ready_pods("app=web", 3);

        assert_eq!(
            cluster.k("set env deployment/web GREETING=second").ok(),
            "deployment.apps/web env updated\n"
        );
        cluster.k("rollout status deployment/web --timeout=60s").ok();
        let history = cluster.k("rollout history deployment/web").ok();
        assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
        assert_eq!(
            cluster.k("rollout undo deployment/web").ok(),
            "deployment.apps/web rolled back\n"
        );
        cluster.k("rollout status deployment/web --timeout=60s").ok();
        assert_eq!(
            cluster.k("rollout restart deployment/web").ok(),
            "deployment.apps/web restarted\n"
        );
        cluster.k("rollout status deployment/web --timeout=60s").ok();
        let before = cluster.wait_ready_pods("app=web", 3);

        // A managed pod that is deleted comes back under another name.
        let name = before[0]["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.kubectl(&["delete", "pod", &name]).ok();
        let after = cluster.wait_ready_pods("app=web", 3);
        assert!(after.iter().all(|pod| pod["metadata"]["name"] != name.as_str()));

        let image2 = cluster
            .skiff(&[
                "push",
                skiff_tests::guest("hello-http").to_str().unwrap(),
                "hello-http:two",
            ])
            .ok();
        let image2 = image2.lines().last().unwrap().to_owned();
        cluster
            .kubectl(&["set", "image", "deployment/web", &format!("web={image2}")])
            .ok();
        cluster.k("rollout status deployment/web --timeout=60s").ok();
        let pods = cluster.wait_ready_pods("app=web", 3);
        assert!(
            pods.iter()
                .all(|pod| pod["spec"]["containers"][0]["image"] == image2.as_str())
        );

        assert_eq!(
            cluster.k("delete deployment web").ok(),
            "deployment.apps \"web\" deleted from default namespace\n"
        );
        eventually("pods and replica sets are collected", || {
            let left = cluster.k("get rs,pods -o name").ok();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    });
}

#[test]
fn objects_are_labelled_patched_edited_explained_and_deleted() {
    let cluster = Cluster::start(Options {
        server_only: true,
        ..Options::default()
    });
    assert_eq!(cluster.k("create namespace team").ok(), "namespace/team created\n");
    assert_eq!(
        cluster.k("create configmap settings -n team --from-literal=a=1").ok(),
        "configmap/settings created\n"
    );
    assert_eq!(
        cluster.k("label configmap settings -n team tier=gold").ok(),
        "configmap/settings labeled\n"
    );
    assert_eq!(
        cluster.k("annotate configmap settings -n team note=x").ok(),
        "configmap/settings annotated\n"
    );
    let patch = cluster.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "-n",
        "team",
        "-p",
        r#"{"data":{"b":"2"}}"#,
    ]);
    assert_eq!(patch.ok(), "configmap/settings patched\n");
    let value = cluster.k("get configmap settings -n team -o jsonpath={.data}").ok();
    assert_eq!(value, r#"{"a":"1","b":"2"}"#);
    assert!(
        cluster
            .k("get configmaps -n team -l tier=gold -o name")
            .ok()
            .contains("configmap/settings")
    );
    assert_eq!(cluster.k("get configmaps -n team -l tier=silver -o name").ok(), "");

    let mut edit = cluster.kubectl_command(&["edit", "configmap", "settings", "-n", "team"]);
    edit.env("KUBE_EDITOR", "sed -i 's/a: .1.$/a: one/'");
    assert!(edit.output().unwrap().status.success());
    assert_eq!(cluster.k("get cm settings -n team -o jsonpath={.data.a}").ok(), "one");

    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: team}\ndata: {a: three}\n";
    let diff = cluster.kubectl_stdin(&["diff", "-f", "-"], manifest);
    assert!(diff.code == 1 && diff.stdout.contains("three"), "{diff:?}");

    assert!(
        cluster
            .k("explain pod.spec.containers.image")
            .ok()
            .contains("FIELD: image <string>")
    );
    let resources = cluster.k("api-resources").ok();
    for kind in [
        "pods",
        "deployments",
        "replicasets",
        "leases",
        "runtimeclasses",
        "clusterrolebindings",
    ] {
        assert!(resources.contains(kind), "{kind} is missing in {resources}");
    }
    assert_eq!(cluster.k("auth can-i create pods").ok(), "yes\n");
    let denied = cluster.k("auth can-i create pods --as bob");
    assert_eq!((denied.stdout.as_str(), denied.code), ("no\n", 1));
    assert_eq!(
        cluster.k("get pods --as bob").err(),
        "Error from server (Forbidden): pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"\n"
    );
    assert_eq!(
        cluster.k("get pod nothing").err(),
        "Error from server (NotFound): pods \"nothing\" not found\n"
    );
    let bad = cluster
        .apply("apiVersion: v1\nkind: Pod\nmetadata: {name: A_}\nspec: {containers: [{name: c}]}\n")
        .err();
    assert!(
        bad.contains("The Pod \"A_\" is invalid") && bad.contains("spec.containers[0].image: Required value"),
        "{bad}"
    );

    assert_eq!(cluster.k("delete namespace team").ok(), "namespace \"team\" deleted\n");
    assert!(cluster.k("get cm settings -n team").err().contains("not found"));
}

#[test]
fn nodes_are_cordoned_tainted_and_drained() {
    let cluster = Cluster::up();
    let image = cluster.push("hello-http");
    cluster.apply(&deployment(&image, 2)).ok();
    cluster.wait_ready_pods("app=web", 2);
    assert_eq!(cluster.k("cordon node-a").ok(), "node/node-a cordoned\n");
    assert!(cluster.k("get node node-a").ok().contains("Ready,SchedulingDisabled"));
    assert_eq!(
        cluster.k("taint node node-a key=value:NoSchedule").ok(),
        "node/node-a tainted\n"
    );
    let said = cluster.k("drain node-a --ignore-daemonsets --timeout=60s").ok();
    assert!(said.contains("node/node-a drained"), "{said}");
    eventually("the scheduler says why nothing fits", || {
        let events = cluster.k("get events").ok();
        let why = "0/1 nodes are available: 1 node(s) were unschedulable";
        if events.contains(why) { Ok(()) } else { Err(events) }
    });
    cluster.k("taint node node-a key=value:NoSchedule-").ok();
    assert_eq!(cluster.k("uncordon node-a").ok(), "node/node-a uncordoned\n");
    cluster.wait_ready_pods("app=web", 2);
    let said = cluster
        .k("wait --for=condition=Available deployment/web --timeout=60s")
        .ok();
    assert_eq!(said, "deployment.apps/web condition met\n");
}

#[test]
fn a_watch_shows_the_transitions_and_logs_follow() {
    let cluster = Cluster::up();
    let image = cluster.push("sensor");
    let mut watch = cluster
        .kubectl_command(&["get", "pods", "-w", "--no-headers", "--output-watch-events"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sensor}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: sensor\n    \
         image: {image}\n    args: [humidity]\n    env: [{{name: SENSOR_INTERVAL_MS, value: '20'}}]\n"
    );
    cluster.apply(&pod).ok();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let seen: Vec<String> = lines.by_ref().take_while(|line| !line.contains("Running")).collect();
    assert!(
        seen.iter()
            .any(|line| line.contains("Pending") || line.contains("ContainerCreating")),
        "{seen:?}"
    );

    let mut follow = cluster
        .kubectl_command(&["logs", "-f", "sensor", "--timestamps"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let logs: Vec<String> = BufReader::new(follow.stdout.take().unwrap())
        .lines()
        .take(20)
        .map(Result::unwrap)
        .collect();
    assert!(
        logs[0].contains("sensor humidity started") && logs[0].starts_with("20"),
        "{logs:?}"
    );
    assert!(logs[19].contains("reading=19"), "{logs:?}");
    follow.kill().unwrap();
    follow.wait().unwrap();
    let tail = cluster.k("logs sensor --tail=2").ok();
    assert_eq!(tail.lines().count(), 2, "{tail}");

    cluster.k("delete pod sensor").ok();
    let gone = lines.find(|line| line.starts_with("DELETED"));
    assert!(gone.is_some());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn what_is_not_there_is_said_plainly() {
    let cluster = Cluster::up();
    let image = cluster.push("sensor");
    cluster.kubectl(&["run", "sensor", &format!("--image={image}")]).ok();
    cluster.k("wait --for=condition=Ready pod/sensor --timeout=60s").ok();
    assert_eq!(
        cluster.k("exec nothing -- ls").err(),
        "Error from server (NotFound): pods \"nothing\" not found\n"
    );

    let service = cluster
        .apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n")
        .err();
    assert!(
        service.contains("no matches for kind \"Service\" in version \"v1\""),
        "{service}"
    );
    let absent = cluster.skiff(&["token", "delete", "zzzzzz"]).err();
    assert_eq!(
        absent,
        "error: delete the token: secrets \"bootstrap-token-zzzzzz\" not found\n"
    );
    cluster.kubectl(&["run", "absent", "--image=127.0.0.1:9/absent:1"]).ok();
    eventually("the reason why an image cannot be had is told", || {
        let events = cluster.k("get events --field-selector involvedObject.name=absent").ok();
        if events.contains("Connection refused") {
            Ok(())
        } else {
            Err(events)
        }
    });
}

#[test]
fn running_a_file_again_shows_the_new_pod() {
    let cluster = Cluster::up();
    let file = skiff_tests::guest("hello-http");
    let file = file.to_str().unwrap();
    cluster.skiff(&["run", file]).ok();
    let said = cluster.skiff(&["run", file, "--port", "9090"]).ok();
    let url = said
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    assert!(address.ends_with(":9090"), "{said}");
    assert_eq!(skiff_tests::get(address.parse().unwrap(), "/").unwrap().status, 200);
}

/// Runs a scenario on the embedded store and on a real etcd.
fn on_both(scenario: impl Fn(&Cluster)) {
    scenario(&Cluster::up());
    if skiff_tests::on_etcd() {
        return;
    }
    let etcd = skiff_tests::Etcd::start();
    scenario(&Cluster::start(Options {
        etcd: Some(etcd.endpoint.clone()),
        ..Options::default()
    }));
}
