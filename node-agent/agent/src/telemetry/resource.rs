//! `/metrics/resource`: kubelet's, which metrics-server and Prometheus read.

use skiff_api::exposition::{Exposition, Kind, Label};

use super::reading::{ContainerReading, Reading};

const NANOS: f64 = 1e9;

pub(super) fn text(reading: &Reading) -> String {
    let mut out = Exposition::default();
    let mut family = out.family(
        "container_cpu_usage_seconds_total",
        Kind::Counter,
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    for container in reading.running() {
        let seconds = container.usage.figures.cpu_nanos as f64 / NANOS;
        family.sample_at(&labels(container), seconds, container.millis);
    }
    let mut family = out.family(
        "container_memory_working_set_bytes",
        Kind::Gauge,
        "[STABLE] Current working set of the container in bytes",
    );
    for container in reading.running() {
        let bytes = container.usage.figures.memory_bytes as f64;
        family.sample_at(&labels(container), bytes, container.millis);
    }
    let mut family = out.family(
        "container_start_time_seconds",
        Kind::Gauge,
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    for container in reading.running() {
        family.sample(&labels(container), container.usage.started_at as f64);
    }
    let millis = reading.now.millis;
    out.family(
        "node_cpu_usage_seconds_total",
        Kind::Counter,
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    )
    .sample_at(&[], reading.node.cpu_nanos as f64 / NANOS, millis);
    out.family(
        "node_memory_working_set_bytes",
        Kind::Gauge,
        "[STABLE] Current working set of the node in bytes",
    )
    .sample_at(&[], reading.node.working_set() as f64, millis);
    let mut family = out.family(
        "pod_cpu_usage_seconds_total",
        Kind::Counter,
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    for (pod, containers) in reading.running_pods() {
        let nanos: u64 = containers
            .iter()
            .map(|container| container.usage.figures.cpu_nanos)
            .sum();
        let labels = [("namespace", pod.namespace.as_str()), ("pod", &pod.name)];
        family.sample_at(&labels, nanos as f64 / NANOS, containers[0].millis);
    }
    let mut family = out.family(
        "pod_memory_working_set_bytes",
        Kind::Gauge,
        "[STABLE] Current working set of the pod in bytes",
    );
    for (pod, containers) in reading.running_pods() {
        let bytes: u64 = containers
            .iter()
            .map(|container| container.usage.figures.memory_bytes)
            .sum();
        let labels = [("namespace", pod.namespace.as_str()), ("pod", &pod.name)];
        family.sample_at(&labels, bytes as f64, containers[0].millis);
    }
    out.family(
        "resource_scrape_error",
        Kind::Gauge,
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    )
    .sample(&[], if reading.complete { 0.0 } else { 1.0 });
    out.into_text()
}

fn labels(container: &ContainerReading) -> [Label<'_>; 3] {
    [
        ("container", &container.usage.name),
        ("namespace", &container.usage.namespace),
        ("pod", &container.usage.pod),
    ]
}
