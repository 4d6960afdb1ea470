//! `/metrics`: the agent itself, with kubelet's names where it has one, and the runtimes' own metrics.

use std::collections::BTreeMap;

use skiff_api::exposition::{Exposition, Kind, Label};
use skiff_runtime::HostUsage;
use skiff_runtime::usage::{Series, SeriesValue};

use super::reading::{ContainerReading, Reading};
use crate::config::KUBELET_VERSION;

const NANOS: f64 = 1e9;

pub(super) fn text(reading: &Reading, node_name: &str) -> String {
    let mut out = Exposition::default();
    agent(&mut out, reading, node_name);
    containers(&mut out, reading);
    hosts(&mut out, &reading.hosts);
    out.into_text()
}

fn agent(out: &mut Exposition, reading: &Reading, node_name: &str) {
    out.family(
        "kubelet_node_name",
        Kind::Gauge,
        "The node's name. The count is always 1.",
    )
    .sample(&[("node", node_name)], 1.0);
    out.family(
        "kubernetes_build_info",
        Kind::Gauge,
        "A metric with a constant '1' value labeled by the version that is followed.",
    )
    .sample(&[("git_version", KUBELET_VERSION)], 1.0);
    out.family(
        "kubelet_running_pods",
        Kind::Gauge,
        "Number of pods that have a running container",
    )
    .sample(&[], reading.running_pods().count() as f64);
    let running = reading.running().count();
    let mut family = out.family(
        "kubelet_running_containers",
        Kind::Gauge,
        "Number of containers currently running, or exited and kept",
    );
    family.sample(&[("container_state", "running")], running as f64);
    family.sample(
        &[("container_state", "exited")],
        (reading.containers().count() - running) as f64,
    );
    let own = &reading.node.agent;
    out.family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Total user and system CPU time spent in seconds.",
    )
    .sample(&[], own.cpu_seconds);
    out.family(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory size in bytes.",
    )
    .sample(&[], own.memory_bytes as f64);
    out.family("process_open_fds", Kind::Gauge, "Number of open file descriptors.")
        .sample(&[], own.open_files as f64);
}

/// Containers that ended are still told their limits: that is how one knows why.
fn containers(out: &mut Exposition, reading: &Reading) {
    let mut family = out.family(
        "skiff_wasm_limit_hits_total",
        Kind::Counter,
        "How often a container met a limit, over all its restarts",
    );
    for container in reading.containers() {
        for (limit, times) in &container.usage.limit_hits {
            let labels = [&labels(container)[..], &[("limit", limit)]].concat();
            family.sample(&labels, *times as f64);
        }
    }
    let mut family = out.family("skiff_wasm_instances", Kind::Gauge, "Instances of a container now");
    for container in reading.running() {
        family.sample(&labels(container), container.usage.figures.instances as f64);
    }
    let mut family = out.family(
        "skiff_wasm_requests_total",
        Kind::Counter,
        "HTTP requests that a container was asked, by the class of the answer",
    );
    for container in reading.running() {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let counts = container.usage.figures.requests;
        for (class, count) in classes.iter().zip(counts).filter(|(_, count)| *count > 0) {
            let labels = [&labels(container)[..], &[("code", class)]].concat();
            family.sample(&labels, count as f64);
        }
    }
}

fn labels(container: &ContainerReading) -> [Label<'_>; 3] {
    [
        ("namespace", &container.usage.namespace),
        ("pod", &container.usage.pod),
        ("container", &container.usage.name),
    ]
}

fn hosts(out: &mut Exposition, hosts: &[HostUsage]) {
    let mut family = out.family(
        "skiff_wasm_worker_cpu_seconds_total",
        Kind::Counter,
        "CPU time of a worker process, its containers' included",
    );
    for host in hosts {
        family.sample(&[("worker", &host.name)], host.cpu_nanos as f64 / NANOS);
    }
    let mut family = out.family(
        "skiff_wasm_worker_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory of a worker process, its containers' included",
    );
    for host in hosts {
        family.sample(&[("worker", &host.name)], host.memory_bytes as f64);
    }
    // A family's samples must stand together, and each host has some of every family.
    let mut families: BTreeMap<&'static str, Vec<(&HostUsage, &Series)>> = BTreeMap::new();
    for host in hosts {
        for series in &host.series {
            families.entry(series.name).or_default().push((host, series));
        }
    }
    for (name, members) in families {
        let kind = match members[0].1.value {
            SeriesValue::Counter(_) => Kind::Counter,
            SeriesValue::Gauge(_) => Kind::Gauge,
            SeriesValue::Histogram { .. } => Kind::Histogram,
        };
        let mut family = out.family(name, kind, members[0].1.help);
        for (host, series) in members {
            let own = series.labels.iter().map(|(name, value)| (*name, value.as_str()));
            let labels: Vec<Label<'_>> = [("worker", host.name.as_str())].into_iter().chain(own).collect();
            match &series.value {
                SeriesValue::Counter(value) | SeriesValue::Gauge(value) => family.sample(&labels, *value),
                SeriesValue::Histogram { buckets, sum } => family.histogram(&labels, buckets.iter().copied(), *sum),
            }
        }
    }
}
