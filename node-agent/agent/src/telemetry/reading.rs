//! Everything that is used at one moment, with its rates: what every form is made from.

use std::collections::BTreeMap;

use skiff_api::usage::{NodeUsage, PodUsage, Use};
use skiff_runtime::{ContainerUsage, HostUsage, Usage};

use super::marks::{Mark, Marks, Rate};
use super::node::NodeFigures;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Milliseconds since the epoch.
    pub(super) millis: i64,
    /// Nanoseconds of the monotonic clock.
    pub(super) nanos: u64,
}

pub(super) struct Reading {
    pub(super) now: Now,
    pub(super) node: NodeFigures,
    pub(super) node_cpu: Rate,
    /// By namespace and name.
    pub(super) pods: Vec<PodReading>,
    pub(super) hosts: Vec<HostUsage>,
    /// Every runtime told of all that it runs.
    pub(super) complete: bool,
}

pub(super) struct PodReading {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// By name; ended ones included.
    pub(super) containers: Vec<ContainerReading>,
}

pub(super) struct ContainerReading {
    pub(super) usage: ContainerUsage,
    pub(super) cpu: Rate,
    /// When it was read, in milliseconds since the epoch.
    pub(super) millis: i64,
}

impl Reading {
    /// Of the runtimes' answers; None = it did not answer.
    pub(super) fn new(now: Now, node: NodeFigures, usages: Vec<Option<Usage>>, marks: &Marks) -> Self {
        let complete = usages
            .iter()
            .all(|usage| usage.as_ref().is_some_and(|usage| !usage.incomplete));
        let mut pods: BTreeMap<(String, String, String), Vec<ContainerReading>> = BTreeMap::new();
        let mut hosts = Vec::new();
        for usage in usages.into_iter().flatten() {
            hosts.extend(usage.hosts);
            for usage in usage.containers {
                let figures = &usage.figures;
                let mark = Mark {
                    at: usage.read_nanos,
                    value: figures.cpu_nanos,
                };
                let container = ContainerReading {
                    cpu: marks.container(&usage.id, mark, figures.started_nanos),
                    millis: now.millis - (now.nanos.saturating_sub(usage.read_nanos) / 1_000_000) as i64,
                    usage,
                };
                let usage = &container.usage;
                let key = (usage.namespace.clone(), usage.pod.clone(), usage.pod_uid.clone());
                pods.entry(key).or_default().push(container);
            }
        }
        let pod = |((namespace, name, uid), mut containers): ((String, String, String), Vec<ContainerReading>)| {
            containers.sort_by(|a, b| a.usage.name.cmp(&b.usage.name));
            PodReading {
                namespace,
                name,
                uid,
                containers,
            }
        };
        let mut reading = Self {
            now,
            node,
            node_cpu: Rate::default(),
            pods: pods.into_iter().map(pod).collect(),
            hosts,
            complete,
        };
        reading.node_cpu = marks.node(reading.node_mark());
        reading
    }

    pub(super) fn node_mark(&self) -> Mark {
        Mark {
            at: self.now.nanos,
            value: self.node.cpu_nanos,
        }
    }

    /// All containers.
    pub(super) fn containers(&self) -> impl Iterator<Item = &ContainerReading> {
        self.pods.iter().flat_map(|pod| &pod.containers)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &ContainerReading> {
        self.containers().filter(|container| container.usage.running)
    }

    /// Pods with a running container, each with those.
    pub(super) fn running_pods(&self) -> impl Iterator<Item = (&PodReading, Vec<&ContainerReading>)> {
        let running = |pod: &PodReading| pod.containers.iter().any(|container| container.usage.running);
        self.pods.iter().filter(move |pod| running(pod)).map(|pod| {
            let containers = pod.containers.iter();
            (pod, containers.filter(|container| container.usage.running).collect())
        })
    }

    /// As the control plane is told.
    pub(super) fn usage(&self) -> NodeUsage {
        let of = |container: &&ContainerReading| {
            let told = Use {
                nano_cores: container.cpu.nanos,
                window: container.cpu.window,
                memory: container.usage.figures.memory_bytes,
            };
            (container.usage.name.clone(), told)
        };
        let pods = self.running_pods().map(|(pod, containers)| PodUsage {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            containers: containers.iter().map(of).collect(),
        });
        NodeUsage {
            time: self.now.millis,
            node: Use {
                nano_cores: self.node_cpu.nanos,
                window: self.node_cpu.window,
                memory: self.node.working_set(),
            },
            pods: pods.collect(),
        }
    }
}
