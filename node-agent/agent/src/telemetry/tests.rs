//! Golden texts of one small node.

use expect_test::expect;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use skiff_runtime::usage::{Series, SeriesValue};
use skiff_runtime::{ContainerUsage, Figures, HostUsage, Usage};

use super::marks::Marks;
use super::node::{Disk, Interface, NodeFigures, Process};
use super::reading::{Now, Reading};
use super::{cadvisor, kubelet, resource, summary};

const SECOND: u64 = 1_000_000_000;

fn container(name: &str, running: bool, cpu_nanos: u64, read_nanos: u64) -> ContainerUsage {
    ContainerUsage {
        pod_uid: "u1".into(),
        namespace: "default".into(),
        pod: "hello".into(),
        name: name.into(),
        attempt: 0,
        id: format!("wasm://u1/{name}/0"),
        image: "skiff.local/hello:1".into(),
        running,
        started_at: 1_700_000_000,
        read_nanos,
        figures: Figures {
            started_nanos: 100 * SECOND,
            cpu_nanos,
            throttled_nanos: SECOND / 2,
            throttled_times: 3,
            memory_bytes: 65536,
            log_bytes: 120,
            received_bytes: 1000,
            sent_bytes: 2000,
            instances: 1,
            requests: [0, 7, 0, 1, 0],
        },
        limit_hits: vec![("cpu".into(), 3), ("memory".into(), 1)],
    }
}

/// `seconds` after the machine came up.
fn reading(seconds: u64, cpu_nanos: u64, marks: &Marks) -> Reading {
    let now = Now {
        millis: 1_700_000_000_000 + seconds as i64 * 1000,
        nanos: seconds * SECOND,
    };
    let node = NodeFigures {
        booted_at: 1_600_000_000,
        cores: 2,
        cpu_nanos: seconds * SECOND / 2,
        memory_total: 4 << 30,
        memory_free: 1 << 30,
        inactive_file: 1 << 29,
        anonymous: 1 << 28,
        interfaces: vec![Interface {
            name: "eth0".into(),
            received: 5,
            sent: 6,
            ..Interface::default()
        }],
        disk: Disk {
            capacity: 100,
            available: 50,
            used: 40,
            inodes: 10,
            inodes_free: 4,
        },
        processes: 77,
        processes_max: 4000,
        agent: Process {
            cpu_seconds: 1.5,
            memory_bytes: 9000,
            open_files: 12,
        },
    };
    let usage = Usage {
        containers: vec![
            container("web", true, cpu_nanos, seconds * SECOND),
            container("init", false, SECOND, seconds * SECOND),
        ],
        incomplete: false,
        hosts: vec![HostUsage {
            name: "default".into(),
            pid: 7,
            cpu_nanos: 3 * SECOND,
            overhead_cpu_nanos: SECOND / 4,
            memory_bytes: 1 << 20,
            series: vec![Series {
                name: "skiff_wasm_instantiation_seconds",
                help: "Time that making an instance took",
                labels: Vec::new(),
                value: SeriesValue::Histogram {
                    buckets: vec![(0.001, 2), (f64::INFINITY, 3)],
                    sum: 0.25,
                },
            }],
        }],
    };
    Reading::new(now, node, vec![Some(usage)], marks)
}

fn marked() -> Reading {
    let mut marks = Marks::default();
    marks.mark(&reading(200, 10 * SECOND, &marks));
    reading(220, 15 * SECOND, &marks)
}

#[test]
fn a_rate_is_taken_since_the_mark() {
    let usage = marked().usage();
    assert_eq!(usage.pods.len(), 1);
    let (name, web) = &usage.pods[0].containers[0];
    // 5 seconds in 20; what ended is not used any more.
    assert_eq!(
        (name.as_str(), web.nano_cores, web.window),
        ("web", 250_000_000, 20 * SECOND)
    );
    assert_eq!(usage.pods[0].containers.len(), 1);
    assert_eq!((usage.node.nano_cores, usage.node.memory), (500_000_000, (5 << 29)));
    let fresh = reading(220, 15 * SECOND, &Marks::default()).usage();
    assert_eq!(fresh.pods[0].containers[0].1.nano_cores, 125_000_000);
}

/// No runtime answers.
fn silent(seconds: u64, marks: &Marks) -> Reading {
    let Reading { now, node, .. } = reading(seconds, 0, marks);
    Reading::new(now, node, vec![None], marks)
}

#[test]
fn a_missed_answer_does_not_lose_the_marks_and_is_told() {
    let mut marks = Marks::default();
    marks.mark(&reading(200, 10 * SECOND, &marks));
    let missed = silent(215, &marks);
    marks.mark(&missed);
    let text = resource::text(&missed);
    assert!(text.ends_with("\nresource_scrape_error 1\n"), "{text}");
    let Reading { now, node, .. } = reading(215, 0, &marks);
    let part = Usage {
        incomplete: true,
        ..Usage::default()
    };
    assert!(
        !Reading::new(now, node, vec![Some(part)], &marks).complete,
        "one worker was silent"
    );
    let rate = |marks: &Marks| reading(340, 24 * SECOND, marks).usage().pods[0].containers[0].1;
    assert_eq!(
        (rate(&marks).nano_cores, rate(&marks).window),
        (100_000_000, 140 * SECOND)
    );
    marks.mark(&silent(320, &marks));
    assert_eq!(rate(&marks).window, 140 * SECOND);
    // Too long ago to be about now: since the start at second 100.
    marks.mark(&silent(321, &marks));
    assert_eq!(
        (rate(&marks).nano_cores, rate(&marks).window),
        (100_000_000, 240 * SECOND)
    );
}

#[test]
fn the_resource_metrics_are_kubelets() {
    expect![[r##"
        # HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
        # TYPE container_cpu_usage_seconds_total counter
        container_cpu_usage_seconds_total{container="web",namespace="default",pod="hello"} 15 1700000220000
        # HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
        # TYPE container_memory_working_set_bytes gauge
        container_memory_working_set_bytes{container="web",namespace="default",pod="hello"} 65536 1700000220000
        # HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
        # TYPE container_start_time_seconds gauge
        container_start_time_seconds{container="web",namespace="default",pod="hello"} 1700000000
        # HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
        # TYPE node_cpu_usage_seconds_total counter
        node_cpu_usage_seconds_total 110 1700000220000
        # HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
        # TYPE node_memory_working_set_bytes gauge
        node_memory_working_set_bytes 2684354560 1700000220000
        # HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
        # TYPE pod_cpu_usage_seconds_total counter
        pod_cpu_usage_seconds_total{namespace="default",pod="hello"} 15 1700000220000
        # HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
        # TYPE pod_memory_working_set_bytes gauge
        pod_memory_working_set_bytes{namespace="default",pod="hello"} 65536 1700000220000
        # HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
        # TYPE resource_scrape_error gauge
        resource_scrape_error 0
    "##]]
    .assert_eq(&resource::text(&marked()));
}

#[test]
fn the_container_metrics_are_cadvisors() {
    let pod = || {
        let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [{
            "name": "web", "resources": { "limits": { "cpu": "250m", "memory": "64Mi" } },
        }] } }))
        .unwrap();
        Some(std::sync::Arc::new(pod))
    };
    let text = cadvisor::text(&marked(), |_| pod());
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    expect![[r#"
        container_cpu_usage_seconds_total{container="",cpu="total",id="/",image="",name="",namespace="",pod=""} 110 1700000220000
        container_cpu_usage_seconds_total{container="web",cpu="total",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 15 1700000220000
        container_memory_working_set_bytes{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 65536 1700000220000
        container_memory_usage_bytes{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 65536 1700000220000
        container_memory_rss{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 65536 1700000220000
        container_fs_usage_bytes{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 120 1700000220000
        container_cpu_cfs_throttled_periods_total{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 3 1700000220000
        container_cpu_cfs_throttled_seconds_total{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 0.5 1700000220000
        container_oom_events_total{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 1 1700000220000
        container_start_time_seconds{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 1700000000 1700000220000
        container_last_seen{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 1700000220 1700000220000
        container_network_receive_bytes_total{container="",id="wasm://u1",image="",interface="eth0",name="",namespace="default",pod="hello"} 1000 1700000220000
        container_network_transmit_bytes_total{container="",id="wasm://u1",image="",interface="eth0",name="",namespace="default",pod="hello"} 2000 1700000220000
        container_spec_cpu_quota{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 25000
        container_spec_cpu_period{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 100000
        container_spec_memory_limit_bytes{container="web",id="wasm://u1/web/0",image="skiff.local/hello:1",name="wasm://u1/web/0",namespace="default",pod="hello"} 67108864
        machine_cpu_cores 2
        machine_memory_bytes 4294967296
    "#]]
    .assert_eq(&(samples.join("\n") + "\n"));
}

#[test]
fn the_agents_metrics_name_limits_and_workers() {
    let text = kubelet::text(&marked(), "n1");
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    expect![[r#"
        kubelet_node_name{node="n1"} 1
        kubernetes_build_info{git_version="v1.36.2+skiff"} 1
        kubelet_running_pods 1
        kubelet_running_containers{container_state="running"} 1
        kubelet_running_containers{container_state="exited"} 1
        process_cpu_seconds_total 1.5
        process_resident_memory_bytes 9000
        process_open_fds 12
        skiff_wasm_limit_hits_total{namespace="default",pod="hello",container="init",limit="cpu"} 3
        skiff_wasm_limit_hits_total{namespace="default",pod="hello",container="init",limit="memory"} 1
        skiff_wasm_limit_hits_total{namespace="default",pod="hello",container="web",limit="cpu"} 3
        skiff_wasm_limit_hits_total{namespace="default",pod="hello",container="web",limit="memory"} 1
        skiff_wasm_instances{namespace="default",pod="hello",container="web"} 1
        skiff_wasm_requests_total{namespace="default",pod="hello",container="web",code="2xx"} 7
        skiff_wasm_requests_total{namespace="default",pod="hello",container="web",code="4xx"} 1
        skiff_wasm_worker_cpu_seconds_total{worker="default"} 3
        skiff_wasm_worker_resident_memory_bytes{worker="default"} 1048576
        skiff_wasm_instantiation_seconds_bucket{worker="default",le="0.001"} 2
        skiff_wasm_instantiation_seconds_bucket{worker="default",le="+Inf"} 3
        skiff_wasm_instantiation_seconds_sum{worker="default"} 0.25
        skiff_wasm_instantiation_seconds_count{worker="default"} 3
    "#]]
    .assert_eq(&(samples.join("\n") + "\n"));
}

#[test]
fn the_summary_is_kubelets() {
    let summary = summary::summary(&marked(), "n1", false);
    let time = "2023-11-14T22:17:00Z";
    let memory = json!({ "time": time, "usageBytes": 65536, "workingSetBytes": 65536, "rssBytes": 65536 });
    let cpu = json!({ "time": time, "usageNanoCores": 250_000_000, "usageCoreNanoSeconds": 15 * SECOND });
    assert_eq!(
        summary["pods"],
        json!([{
            "podRef": { "name": "hello", "namespace": "default", "uid": "u1" },
            "startTime": "2023-11-14T22:13:20Z",
            "containers": [{
                "name": "web", "startTime": "2023-11-14T22:13:20Z", "cpu": cpu, "memory": memory,
                "rootfs": { "time": time, "usedBytes": 0 }, "logs": { "time": time, "usedBytes": 120 },
            }],
            "cpu": cpu, "memory": memory,
            "network": {
                "time": time, "name": "eth0", "rxBytes": 1000, "txBytes": 2000,
                "interfaces": [{ "name": "eth0", "rxBytes": 1000, "txBytes": 2000 }],
            },
            "ephemeral-storage": { "time": time, "usedBytes": 120 },
        }])
    );
    let node = &summary["node"];
    assert_eq!(
        (node["nodeName"].as_str(), node["cpu"]["usageNanoCores"].as_u64()),
        (Some("n1"), Some(500_000_000))
    );
    assert_eq!(node["memory"]["workingSetBytes"], 5_u64 << 29);
    assert_eq!(
        (&node["fs"]["inodesUsed"], &node["network"]["txBytes"]),
        (&json!(6), &json!(6))
    );
    let small = summary::summary(&marked(), "n1", true);
    assert!(small["node"]["fs"].is_null() && small["pods"][0]["network"].is_null());
    assert_eq!(small["pods"][0]["containers"][0]["cpu"]["usageNanoCores"], 250_000_000);
}
