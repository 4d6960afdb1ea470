//! What a worker's reports of usage add up to, and how it is told through the port.

use std::collections::HashMap;

use skiff_runtime::usage::{Series, SeriesValue};
use skiff_runtime::{ContainerPhase, ContainerUsage, Figures, HostUsage, SandboxState};

use crate::protocol::{ContainerFigures, Instantiations, ProcessUsage, UsageReport};
use crate::worker::INSTANTIATION_MICROS;

/// Everything that one worker told, by pod and container.
#[derive(Default)]
pub(crate) struct Picture {
    report: u64,
    read_nanos: u64,
    pods: HashMap<String, HashMap<String, ContainerFigures>>,
    process: ProcessUsage,
}

impl Picture {
    /// The number of the newest report in it; 0 = none.
    pub(crate) fn report(&self) -> u64 {
        self.report
    }

    /// Takes in a report. Pods that are not `known` any more are forgotten.
    pub(crate) fn add(&mut self, report: UsageReport, known: impl Fn(&str) -> bool) {
        self.pods.retain(|uid, _| known(uid));
        self.report = self.report.max(report.report);
        self.read_nanos = report.read_nanos;
        self.process = report.process;
        for container in report.changed {
            let pod = self.pods.entry(container.pod_uid.clone()).or_default();
            pod.insert(container.name.clone(), container);
        }
    }

    /// The containers of a pod that were started.
    pub(crate) fn containers<'a>(&'a self, pod: &'a SandboxState) -> impl Iterator<Item = ContainerUsage> + 'a {
        let figures = self.pods.get(&pod.pod_uid);
        let started = pod.containers.iter().filter(|c| c.phase != ContainerPhase::Created);
        started.map(move |container| {
            let told = figures
                .and_then(|figures| figures.get(&container.name))
                .filter(|told| told.attempt == container.attempt);
            // Started or ended after the report: what its state says is all there is.
            let as_of_state = || Figures {
                cpu_nanos: container.cpu_nanos,
                memory_bytes: container.memory_bytes,
                started_nanos: self.read_nanos,
                ..Figures::default()
            };
            ContainerUsage {
                pod_uid: pod.pod_uid.clone(),
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                name: container.name.clone(),
                attempt: container.attempt,
                id: container.id.clone(),
                image: container.image.reference.clone(),
                running: container.phase == ContainerPhase::Running,
                started_at: container.started_at,
                read_nanos: self.read_nanos,
                figures: told.map_or_else(as_of_state, |told| told.figures),
                limit_hits: told.map(|told| told.limit_hits.clone()).unwrap_or_default(),
            }
        })
    }

    /// The worker itself.
    pub(crate) fn host(&self, name: &str) -> HostUsage {
        HostUsage {
            name: name.to_owned(),
            pid: self.process.pid,
            cpu_nanos: self.process.cpu_nanos,
            overhead_cpu_nanos: self.process.overhead_cpu_nanos,
            memory_bytes: self.process.memory_bytes,
            series: series(&self.process),
        }
    }
}

/// The runtime's own metrics of a worker.
fn series(process: &ProcessUsage) -> Vec<Series> {
    let mut series = vec![
        Series {
            name: "skiff_wasm_worker_overhead_cpu_seconds_total",
            help: "CPU time of a worker process that is charged to none of its containers",
            labels: Vec::new(),
            value: SeriesValue::Counter(process.overhead_cpu_nanos as f64 / 1e9),
        },
        Series {
            name: "skiff_wasm_instantiation_seconds",
            help: "Time that making an instance took",
            labels: Vec::new(),
            value: histogram(&process.instantiations),
        },
    ];
    for pool in &process.pools {
        let gauges = [
            (
                "skiff_wasm_pool_slots",
                "Instances that an engine's pool has room for",
                pool.slots,
            ),
            (
                "skiff_wasm_pool_instances",
                "Component instances in the pool",
                pool.instances,
            ),
            (
                "skiff_wasm_pool_core_instances",
                "Core instances in the pool",
                pool.core_instances,
            ),
            (
                "skiff_wasm_pool_memories",
                "Linear memories in use of the pool",
                pool.memories,
            ),
            ("skiff_wasm_pool_tables", "Tables in use of the pool", pool.tables),
            ("skiff_wasm_pool_stacks", "Stacks in use of the pool", pool.stacks),
            (
                "skiff_wasm_pool_warm_memories",
                "Slots of memories that were used before and are free",
                pool.warm_memories,
            ),
            (
                "skiff_wasm_pool_warm_bytes",
                "Bytes that free slots keep resident",
                pool.warm_bytes,
            ),
        ];
        series.extend(gauges.map(|(name, help, value)| Series {
            name,
            help,
            labels: vec![("engine", pool.flavour.name().to_owned())],
            value: SeriesValue::Gauge(value as f64),
        }));
    }
    series
}

fn histogram(of: &Instantiations) -> SeriesValue {
    let bounds = INSTANTIATION_MICROS.iter().map(|micros| *micros as f64 / 1e6);
    let mut below = 0;
    let buckets = bounds
        .chain([f64::INFINITY])
        .zip(&of.buckets)
        .map(|(bound, count)| {
            below += count;
            (bound, below)
        })
        .collect();
    SeriesValue::Histogram {
        buckets,
        sum: of.sum_nanos as f64 / 1e9,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use skiff_runtime::{ContainerState, Image};

    use super::*;

    fn pod(attempt: u32) -> SandboxState {
        let container = ContainerState {
            pod_uid: "u".into(),
            name: "web".into(),
            attempt,
            phase: ContainerPhase::Running,
            id: format!("wasm://u/web/{attempt}"),
            image: Image {
                reference: "hello".into(),
                digest: "sha256:1".into(),
                size_bytes: 1,
            },
            started_at: 7,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            cpu_nanos: 3,
            memory_bytes: 4,
            ready: true,
        };
        SandboxState {
            pod_uid: "u".into(),
            namespace: "default".into(),
            name: "p".into(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            created_at: 1,
            containers: vec![container],
        }
    }

    fn report(number: u64, changed: &[(&str, u32, u64)]) -> UsageReport {
        let changed = changed.iter().map(|(uid, attempt, cpu_nanos)| ContainerFigures {
            pod_uid: (*uid).to_owned(),
            name: "web".into(),
            attempt: *attempt,
            figures: Figures {
                cpu_nanos: *cpu_nanos,
                ..Figures::default()
            },
            limit_hits: vec![("memory".into(), 1)],
        });
        UsageReport {
            report: number,
            read_nanos: number * 100,
            changed: changed.collect(),
            process: ProcessUsage::default(),
        }
    }

    #[test]
    fn what_did_not_change_is_as_it_was_told_and_read_anew() {
        let mut picture = Picture::default();
        picture.add(report(1, &[("u", 0, 50), ("gone", 0, 1)]), |_| true);
        picture.add(report(2, &[]), |uid| uid == "u");
        assert_eq!((picture.report(), picture.pods.len()), (2, 1));
        let (told, at) = (pod(0), pod(1));
        let told: Vec<_> = picture.containers(&told).collect();
        assert_eq!((told[0].figures.cpu_nanos, told[0].read_nanos), (50, 200));
        assert_eq!(told[0].limit_hits, [("memory".to_owned(), 1)]);
        // A newer attempt than the report knows.
        let newer: Vec<_> = picture.containers(&at).collect();
        assert_eq!((newer[0].figures.cpu_nanos, newer[0].limit_hits.len()), (3, 0));
    }

    #[test]
    fn a_histogram_adds_up_to_its_last_bucket() {
        let mut buckets = vec![0; INSTANTIATION_MICROS.len() + 1];
        (buckets[0], buckets[3], buckets[12]) = (2, 1, 4);
        let SeriesValue::Histogram { buckets, sum } = histogram(&Instantiations {
            buckets,
            sum_nanos: 1_500_000_000,
        }) else {
            panic!("a histogram")
        };
        assert_eq!((buckets[0], buckets[3], sum), ((1e-5, 2), (1e-4, 3), 1.5));
        assert_eq!(buckets[12], (f64::INFINITY, 7));
    }
}
