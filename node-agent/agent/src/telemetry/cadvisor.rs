//! `/metrics/cadvisor`: what dashboards know containers by. Of its families, those that mean something for the containers
//! that run here.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use skiff_api::exposition::{Exposition, Family, Kind, Label};
use skiff_api::quantity::Quantity;

use super::reading::{ContainerReading, Reading};

const NANOS: f64 = 1e9;
/// The period in which the kernel would give out a CPU limit, in microseconds: what quotas are told for.
const PERIOD_MICROS: f64 = 100_000.0;

type Value = fn(&ContainerReading) -> f64;

/// Families of every container: name, kind, help, value.
const FAMILIES: [(&str, Kind, &str, Value); 9] = [
    (
        "container_memory_working_set_bytes",
        Kind::Gauge,
        "Current working set in bytes.",
        |c| c.usage.figures.memory_bytes as f64,
    ),
    (
        "container_memory_usage_bytes",
        Kind::Gauge,
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |c| c.usage.figures.memory_bytes as f64,
    ),
    ("container_memory_rss", Kind::Gauge, "Size of RSS in bytes.", |c| {
        c.usage.figures.memory_bytes as f64
    }),
    (
        "container_fs_usage_bytes",
        Kind::Gauge,
        "Number of bytes that are consumed by the container on this filesystem.",
        |c| c.usage.figures.log_bytes as f64,
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        Kind::Counter,
        "Number of throttled period intervals.",
        |c| c.usage.figures.throttled_times as f64,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        Kind::Counter,
        "Total time duration the container has been throttled.",
        |c| c.usage.figures.throttled_nanos as f64 / NANOS,
    ),
    (
        "container_oom_events_total",
        Kind::Counter,
        "Count of out of memory events observed for the container",
        |c| {
            let hits = c.usage.limit_hits.iter().find(|(limit, _)| limit == "memory");
            hits.map_or(0, |(_, times)| *times) as f64
        },
    ),
    (
        "container_start_time_seconds",
        Kind::Gauge,
        "Start time of the container since unix epoch in seconds.",
        |c| c.usage.started_at as f64,
    ),
    (
        "container_last_seen",
        Kind::Gauge,
        "Last time a container was seen by the exporter",
        |c| (c.millis / 1000) as f64,
    ),
];

/// `pod`: the pod of a uid, for the limits that it sets.
pub(super) fn text(reading: &Reading, pod: impl Fn(&str) -> Option<Arc<Pod>>) -> String {
    let mut out = Exposition::default();
    let mut family = out.family(
        "container_cpu_usage_seconds_total",
        Kind::Counter,
        "Cumulative cpu time consumed in seconds.",
    );
    let root = [
        ("container", ""),
        ("cpu", "total"),
        ("id", "/"),
        ("image", ""),
        ("name", ""),
        ("namespace", ""),
        ("pod", ""),
    ];
    family.sample_at(&root, reading.node.cpu_nanos as f64 / NANOS, reading.now.millis);
    for container in reading.running() {
        let [name, rest @ ..] = labels(container);
        let labels = [&[name, ("cpu", "total")], &rest[..]].concat();
        family.sample_at(
            &labels,
            container.usage.figures.cpu_nanos as f64 / NANOS,
            container.millis,
        );
    }
    for (name, kind, help, value) in FAMILIES {
        let mut family = out.family(name, kind, help);
        for container in reading.running() {
            family.sample_at(&labels(container), value(container), container.millis);
        }
    }
    network(&mut out, reading);
    limits(&mut out, reading, pod);
    out.family("machine_cpu_cores", Kind::Gauge, "Number of logical CPU cores.")
        .sample(&[], reading.node.cores as f64);
    out.family(
        "machine_memory_bytes",
        Kind::Gauge,
        "Amount of memory installed on the machine.",
    )
    .sample(&[], reading.node.memory_total as f64);
    out.into_text()
}

/// A pod has one network, whatever its containers.
fn network(out: &mut Exposition, reading: &Reading) {
    type Bytes = fn(&ContainerReading) -> u64;
    let families: [(&str, &str, Bytes); 2] = [
        (
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
            |c| c.usage.figures.received_bytes,
        ),
        (
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
            |c| c.usage.figures.sent_bytes,
        ),
    ];
    for (name, help, bytes) in families {
        let mut family = out.family(name, Kind::Counter, help);
        for (pod, containers) in reading.running_pods() {
            let sum: u64 = containers.iter().map(|container| bytes(container)).sum();
            let id = format!("wasm://{}", pod.uid);
            let labels = [
                ("container", ""),
                ("id", &id),
                ("image", ""),
                ("interface", "eth0"),
                ("name", ""),
                ("namespace", &pod.namespace),
                ("pod", &pod.name),
            ];
            family.sample_at(&labels, sum as f64, containers[0].millis);
        }
    }
}

/// What pods set: absent where they set nothing.
fn limits(out: &mut Exposition, reading: &Reading, pod: impl Fn(&str) -> Option<Arc<Pod>>) {
    let mut all = Vec::new();
    for (of, containers) in reading.running_pods() {
        let pod = pod(&of.uid);
        for container in containers {
            let cpu = limit(pod.as_deref(), &container.usage.name, "cpu");
            let memory = limit(pod.as_deref(), &container.usage.name, "memory");
            all.push((container, cpu, memory));
        }
    }
    let each = |mut family: Family<'_>, value: fn(Option<Quantity>, Option<Quantity>) -> Option<f64>| {
        for (container, cpu, memory) in &all {
            if let Some(value) = value(*cpu, *memory) {
                family.sample(&labels(container), value);
            }
        }
    };
    each(
        out.family("container_spec_cpu_quota", Kind::Gauge, "CPU quota of the container."),
        |cpu, _| Some(cpu?.milli_value() as f64 * PERIOD_MICROS / 1000.0),
    );
    each(
        out.family("container_spec_cpu_period", Kind::Gauge, "CPU period of the container."),
        |cpu, _| cpu.map(|_| PERIOD_MICROS),
    );
    each(
        out.family(
            "container_spec_memory_limit_bytes",
            Kind::Gauge,
            "Memory limit for the container.",
        ),
        |_, memory| Some(memory?.value() as f64),
    );
}

fn limit(pod: Option<&Pod>, container: &str, resource: &str) -> Option<Quantity> {
    let (_, container) = skiff_lifecycle::spec::find(pod?.spec.as_ref()?, container)?;
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Quantity::parse(&limits.get(resource)?.0).ok()
}

fn labels(container: &ContainerReading) -> [Label<'_>; 6] {
    let usage = &container.usage;
    [
        ("container", &usage.name),
        ("id", &usage.id),
        ("image", &usage.image),
        ("name", &usage.id),
        ("namespace", &usage.namespace),
        ("pod", &usage.pod),
    ]
}
