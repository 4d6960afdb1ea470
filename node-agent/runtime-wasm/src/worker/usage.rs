//! What the containers and the worker itself use, told on demand: only containers whose figures changed since the report
//! that the asker has.
//!
//! Each report has a number. A container keeps what it was last told as, and in which report: an asker that names its own
//! last report gets everything later, whoever asked in between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skiff_runtime::{ContainerPhase, Figures};

use super::Worker;
use super::container::Container;
use super::hits::Limit;
use crate::protocol::{ContainerFigures, Instantiations, ProcessUsage, UsageReport};

/// CPU time of containers that are gone.
static RETIRED_NANOS: AtomicU64 = AtomicU64::new(0);
/// The overhead as last told: work that is under way is charged a moment later, and a counter must not go back.
static OVERHEAD_NANOS: AtomicU64 = AtomicU64::new(0);

/// What a container was last told as.
#[derive(Default)]
pub(super) struct Told {
    report: u64,
    figures: Figures,
    hits: u64,
}

/// Nanoseconds of the kernel's monotonic clock, which all processes of the machine share.
pub(super) fn monotonic_nanos() -> u64 {
    nanos(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

pub(super) fn nanos(time: rustix::time::Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Container {
    /// Keeps its CPU time, when it is forgotten: at once, whoever may hold it for a moment yet.
    pub(super) fn retire(&self) {
        RETIRED_NANOS.fetch_add(self.cpu.used_nanos(), Ordering::Relaxed);
    }

    /// Its figures, if they are other than told up to report `after`; these then become part of `report`.
    fn changed(&self, after: u64, report: u64) -> Option<ContainerFigures> {
        let figures = self.figures();
        let hits = &self.surroundings.hits;
        let hits_sum = Limit::ALL.iter().map(|limit| hits.get(*limit)).sum();
        let mut told = self.told();
        if (told.figures, told.hits) != (figures, hits_sum) {
            *told = Told {
                report,
                figures,
                hits: hits_sum,
            };
        }
        if told.report <= after {
            return None;
        }
        let met = Limit::ALL
            .iter()
            .map(|limit| (limit.name().to_owned(), hits.get(*limit)));
        Some(ContainerFigures {
            pod_uid: self.spec().pod_uid.clone(),
            name: self.spec().name.clone(),
            attempt: self.spec().attempt,
            figures,
            limit_hits: met.filter(|(_, times)| *times > 0).collect(),
        })
    }
}

impl Worker {
    /// What changed since report `after`; 0 = everything.
    pub(super) fn usage(&self, after: u64) -> UsageReport {
        let report = self.reports.fetch_add(1, Ordering::Relaxed) + 1;
        let containers: Vec<_> = self
            .pods()
            .values()
            .flat_map(|pod| pod.containers.values().cloned())
            .filter(|container| container.phase() != ContainerPhase::Created)
            .collect();
        let changed = containers
            .iter()
            .filter_map(|container| container.changed(after, report))
            .collect();
        let charged = containers.iter().map(|container| container.cpu.used_nanos()).sum();
        UsageReport {
            report,
            read_nanos: monotonic_nanos(),
            changed,
            process: self.process(charged),
        }
    }

    fn process(&self, charged: u64) -> ProcessUsage {
        let cpu_nanos = nanos(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime));
        let overhead = cpu_nanos.saturating_sub(charged + RETIRED_NANOS.load(Ordering::Relaxed));
        ProcessUsage {
            pid: std::process::id(),
            cpu_nanos,
            overhead_cpu_nanos: overhead.max(OVERHEAD_NANOS.fetch_max(overhead, Ordering::Relaxed)),
            memory_bytes: resident_bytes(),
            pools: self.programs.pools(),
            instantiations: INSTANTIATIONS.read(),
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Upper bounds in microseconds of the time that an instantiation takes; the last bucket has none.
pub(crate) const INSTANTIATION_MICROS: [u64; 12] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000];

struct Histogram {
    buckets: [AtomicU64; INSTANTIATION_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

static INSTANTIATIONS: Histogram = Histogram::new();

impl Histogram {
    const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; INSTANTIATION_MICROS.len() + 1],
            sum_nanos: AtomicU64::new(0),
        }
    }

    fn observe(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let bucket = INSTANTIATION_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Instantiations {
        Instantiations {
            buckets: self
                .buckets
                .iter()
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .collect(),
            sum_nanos: self.sum_nanos.load(Ordering::Relaxed),
        }
    }
}

/// Waits for an instance and counts how long that took; failures are not counted.
pub(super) async fn instantiated<T>(instance: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    let began = std::time::Instant::now();
    let instance = instance.await?;
    INSTANTIATIONS.observe(began.elapsed());
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new();
        for micros in [0, 10, 11, 100_000, 100_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(read.sum_nanos, 200_022_000);
    }
}
