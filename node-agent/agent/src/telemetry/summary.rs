//! `/stats/summary`: kubelet's JSON of the node and its pods.

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::time::format_rfc3339;

use super::marks::Rate;
use super::node::NodeFigures;
use super::reading::{ContainerReading, PodReading, Reading};

pub(super) fn summary(reading: &Reading, node_name: &str, only_cpu_and_memory: bool) -> Value {
    let time = rfc3339(reading.now.millis);
    let figures = &reading.node;
    let mut node = json!({
        "nodeName": node_name,
        "startTime": format_rfc3339(figures.booted_at),
        "cpu": cpu(&time, reading.node_cpu, figures.cpu_nanos),
        "memory": {
            "time": time,
            "availableBytes": figures.memory_total.saturating_sub(figures.working_set()),
            "usageBytes": figures.memory_usage(),
            "workingSetBytes": figures.working_set(),
            "rssBytes": figures.anonymous,
        },
    });
    if !only_cpu_and_memory {
        node["fs"] = disk(&time, figures);
        node["runtime"] = json!({ "imageFs": disk(&time, figures) });
        node["network"] = network_of_node(&time, figures);
        node["rlimit"] = json!({
            "time": time, "maxpid": figures.processes_max, "curproc": figures.processes,
        });
    }
    let pods: Vec<Value> = reading
        .running_pods()
        .map(|(of, containers)| pod(of, &containers, only_cpu_and_memory))
        .collect();
    json!({ "node": node, "pods": pods })
}

fn pod(pod: &PodReading, containers: &[&ContainerReading], only_cpu_and_memory: bool) -> Value {
    let sum = |figure: fn(&ContainerReading) -> u64| containers.iter().map(|container| figure(container)).sum::<u64>();
    let time = rfc3339(containers[0].millis);
    let rate = Rate {
        nanos: sum(|c| c.cpu.nanos),
        window: 0,
    };
    let started = containers.iter().map(|container| container.usage.started_at).min();
    let mut value = json!({
        "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
        "startTime": format_rfc3339(started.unwrap_or(0)),
        "containers": containers.iter().map(|of| container(of, only_cpu_and_memory)).collect::<Vec<_>>(),
        "cpu": cpu(&time, rate, sum(|c| c.usage.figures.cpu_nanos)),
        "memory": memory(&time, sum(|c| c.usage.figures.memory_bytes)),
    });
    if !only_cpu_and_memory {
        let (received, sent) = (
            sum(|c| c.usage.figures.received_bytes),
            sum(|c| c.usage.figures.sent_bytes),
        );
        value["network"] = json!({
            "time": time, "name": "eth0", "rxBytes": received, "txBytes": sent,
            "interfaces": [{ "name": "eth0", "rxBytes": received, "txBytes": sent }],
        });
        value["ephemeral-storage"] = json!({ "time": time, "usedBytes": sum(|c| c.usage.figures.log_bytes) });
    }
    value
}

fn container(container: &ContainerReading, only_cpu_and_memory: bool) -> Value {
    let figures = &container.usage.figures;
    let time = rfc3339(container.millis);
    let mut value = json!({
        "name": container.usage.name,
        "startTime": format_rfc3339(container.usage.started_at),
        "cpu": cpu(&time, container.cpu, figures.cpu_nanos),
        "memory": memory(&time, figures.memory_bytes),
    });
    if !only_cpu_and_memory {
        value["rootfs"] = json!({ "time": time, "usedBytes": 0 });
        value["logs"] = json!({ "time": time, "usedBytes": figures.log_bytes });
    }
    value
}

fn cpu(time: &str, rate: Rate, nanos: u64) -> Value {
    json!({ "time": time, "usageNanoCores": rate.nanos, "usageCoreNanoSeconds": nanos })
}

fn memory(time: &str, bytes: u64) -> Value {
    json!({ "time": time, "usageBytes": bytes, "workingSetBytes": bytes, "rssBytes": bytes })
}

fn disk(time: &str, figures: &NodeFigures) -> Value {
    let disk = &figures.disk;
    json!({
        "time": time,
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.used,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

/// The first interface is the one that stands for the node.
fn network_of_node(time: &str, figures: &NodeFigures) -> Value {
    let interfaces: Vec<Value> = figures
        .interfaces
        .iter()
        .map(|of| {
            json!({
                "name": of.name, "rxBytes": of.received, "rxErrors": of.receive_errors, "txBytes": of.sent,
                "txErrors": of.send_errors,
            })
        })
        .collect();
    let mut network = interfaces.first().cloned().unwrap_or_else(|| json!({ "name": "" }));
    network["time"] = time.into();
    network["interfaces"] = interfaces.into();
    network
}

/// Whole seconds: what kubelet prints.
fn rfc3339(millis: i64) -> String {
    let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    format_rfc3339(time.as_second())
}
