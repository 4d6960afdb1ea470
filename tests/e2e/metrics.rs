//! `kubectl top` and the node's metrics: exact figures of a spinner, an idle web server and a throttled neighbour.

use skiff_tests::{Cluster, address, eventually, get, is_ready};

fn pod(name: &str, image: &str, labels: &str, limits: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: main\n    image: {image}\n    resources: {{limits: {{{limits}}}}}\n---\n"
    )
}

/// Millicores in a line of `kubectl top pod`.
fn millicores(line: &str) -> u64 {
    let cpu = line.split_whitespace().find(|word| word.ends_with('m')).unwrap_or("0m");
    cpu.trim_end_matches('m').parse().unwrap()
}

#[test]
fn kubectl_top_tells_what_pods_and_the_node_use() {
    let cluster = Cluster::up();
    let (web, spinner) = (cluster.push("hello-http"), cluster.push("spinner"));
    let manifest = [
        pod("web", &web, "app: web", "memory: 64Mi"),
        pod("spinner", &spinner, "app: spin", "cpu: 200m, memory: 32Mi"),
    ]
    .concat();
    cluster.apply(&manifest).ok();
    let ready = cluster.wait_ready_pods("app=web", 1).remove(0);
    for _ in 0..5 {
        assert_eq!(get(address(&ready, 8080), "/").unwrap().status, 200);
    }
    eventually("the spinner runs", || {
        let pod = cluster.pod("spinner");
        if is_ready(&pod) {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });

    // The share is exact once the window has lasted a while.
    eventually("top tells the spinner's share", || {
        let top = cluster.k("top pod spinner --no-headers");
        match millicores(&top.stdout) {
            150..=230 => Ok(()),
            _ => Err(format!("{top:?}")),
        }
    });
    let names = |line: &str| -> Vec<String> {
        let lines = cluster.k(line).ok();
        let first = lines
            .lines()
            .map(|line| line.split_whitespace().next().unwrap().to_owned());
        first.collect()
    };
    assert_eq!(names("top pod --no-headers --sort-by=cpu"), ["spinner", "web"]);
    assert_eq!(names("top pod --no-headers -l app=web"), ["web"]);
    assert_eq!(
        names("top pod --no-headers --field-selector metadata.name=spinner"),
        ["spinner"]
    );
    let all = cluster.k("top pod -A --containers --sum").ok();
    assert!(all.contains("main") && all.contains("default"), "{all}");
    let node = cluster.k("top node").ok();
    assert!(node.contains("node-a") && node.contains('%'), "{node}");

    // The same by the API itself: JSON, a Table, one object, nothing.
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", path]);
    let pods = raw("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods").json();
    assert_eq!(pods["kind"], "PodMetricsList");
    assert_eq!(pods["items"][0]["containers"][0]["name"], "main");
    assert_eq!(pods["items"].as_array().unwrap().len(), 2);
    let table = cluster.k("get podmetrics.metrics.k8s.io spinner").ok();
    assert!(table.contains("WINDOW") && table.contains("spinner"), "{table}");
    let absent = raw("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/none").err();
    assert!(absent.contains("\"none\" not found"), "{absent}");

    // The node's own endpoints.
    let resource = raw("/api/v1/nodes/node-a/proxy/metrics/resource").ok();
    assert!(
        resource.contains("pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"spinner\"}"),
        "{resource}"
    );
    let cadvisor = raw("/api/v1/nodes/node-a/proxy/metrics/cadvisor").ok();
    let sample = |text: &str, start: &str, pod: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(start) && line.contains(&format!("pod=\"{pod}\"")));
        let line = line.unwrap_or_else(|| panic!("no {start} of {pod}:\n{text}"));
        line.rsplit_once("} ")
            .unwrap()
            .1
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(sample(&cadvisor, "container_cpu_cfs_throttled_seconds_total", "spinner") > 0.0);
    assert!(sample(&cadvisor, "container_network_transmit_bytes_total", "web") > 100.0);
    assert_eq!(sample(&cadvisor, "container_spec_cpu_quota", "spinner"), 20_000.0);
    let kubelet = raw("/api/v1/nodes/node-a:10250/proxy/metrics").ok();
    assert!(sample(&kubelet, "skiff_wasm_limit_hits_total", "spinner") > 0.0);
    assert!(sample(&kubelet, "skiff_wasm_requests_total", "web") >= 5.0);
    assert!(
        kubelet.contains("skiff_wasm_worker_overhead_cpu_seconds_total{worker=\"default\"}"),
        "{kubelet}"
    );
    let summary = raw("/api/v1/nodes/node-a/proxy/stats/summary").json();
    assert_eq!(summary["node"]["nodeName"], "node-a");
    assert_eq!(summary["pods"].as_array().unwrap().len(), 2);
    assert_eq!(raw("/api/v1/nodes/node-a/proxy/healthz").ok(), "ok");
    raw("/api/v1/nodes/node-a/proxy/containerLogs/default/web/main").err();

    // Rights: a reader of metrics may read metrics, and nothing else of the node.
    cluster
        .k("create clusterrole prom --verb=get --resource=nodes/metrics")
        .ok();
    cluster
        .k("create clusterrolebinding prom --clusterrole=prom --user=prom")
        .ok();
    let as_prom = |path: &str| cluster.kubectl(&["get", "--as=prom", "--raw", path]);
    eventually("the right is there", || {
        let output = as_prom("/api/v1/nodes/node-a/proxy/metrics/resource");
        if output.code == 0 { Ok(()) } else { Err(output.stderr) }
    });
    let refused = as_prom("/api/v1/nodes/node-a/proxy/stats/summary").err();
    assert!(refused.contains("cannot get resource \"nodes/proxy\""), "{refused}");
    cluster
        .k("create clusterrolebinding seer --clusterrole=view --user=seer")
        .ok();
    eventually("viewers may see what pods use", || {
        let output = cluster.k("top pod --as=seer");
        if output.stdout.contains("spinner") {
            Ok(())
        } else {
            Err(output.stderr)
        }
    });
}
