//! What containers use, read at one moment: exact counters, from which rates are made by whoever shows them.

use serde::{Deserialize, Serialize};

/// Everything that a runtime's containers use, and the processes that run them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Containers that were started, ended ones included.
    pub containers: Vec<ContainerUsage>,
    /// Processes that run containers.
    pub hosts: Vec<HostUsage>,
    /// A process did not tell; its containers are left out.
    pub incomplete: bool,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub pod_uid: String,
    pub namespace: String,
    pub pod: String,
    pub name: String,
    pub attempt: u32,
    /// As [`ContainerState::id`](crate::ContainerState::id).
    pub id: String,
    pub image: String,
    pub running: bool,
    /// Seconds since the epoch.
    pub started_at: i64,
    /// When the figures were read, in nanoseconds of the kernel's monotonic clock.
    pub read_nanos: u64,
    pub figures: Figures,
    /// How often each limit was met, over all attempts; those that never were are left out.
    pub limit_hits: Vec<(String, u64)>,
}

/// Number of figures on the wire.
const FIGURES: usize = 14;

/// Counters since the container's start, and gauges. A figure that a runtime does not know is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "[u64; FIGURES]", from = "[u64; FIGURES]")]
pub struct Figures {
    /// The start, in nanoseconds of the kernel's monotonic clock.
    pub started_nanos: u64,
    /// CPU time of the guest and of the host's work for it.
    pub cpu_nanos: u64,
    /// Wall time that instances waited because the container had spent its CPU share.
    pub throttled_nanos: u64,
    /// How often one waited.
    pub throttled_times: u64,
    /// Memory now: the guest's, and what the host holds for it.
    pub memory_bytes: u64,
    /// Logs on disk now.
    pub log_bytes: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// Instances now.
    pub instances: u64,
    /// Answered requests by the first digit of their status, 1 to 5.
    pub requests: [u64; 5],
}

impl From<Figures> for [u64; FIGURES] {
    fn from(of: Figures) -> Self {
        let [r1, r2, r3, r4, r5] = of.requests;
        [
            of.started_nanos,
            of.cpu_nanos,
            of.throttled_nanos,
            of.throttled_times,
            of.memory_bytes,
            of.log_bytes,
            of.received_bytes,
            of.sent_bytes,
            of.instances,
            r1,
            r2,
            r3,
            r4,
            r5,
        ]
    }
}

impl From<[u64; FIGURES]> for Figures {
    fn from(figures: [u64; FIGURES]) -> Self {
        let [
            started_nanos,
            cpu_nanos,
            throttled_nanos,
            throttled_times,
            memory_bytes,
            log_bytes,
            received_bytes,
            sent_bytes,
            instances,
            requests @ ..,
        ] = figures;
        Self {
            started_nanos,
            cpu_nanos,
            throttled_nanos,
            throttled_times,
            memory_bytes,
            log_bytes,
            received_bytes,
            sent_bytes,
            instances,
            requests,
        }
    }
}

/// A process that runs containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostUsage {
    /// What it is for: a namespace.
    pub name: String,
    pub pid: u32,
    /// All of its CPU time.
    pub cpu_nanos: u64,
    /// Of which so much is charged to no container, ended and removed ones included.
    pub overhead_cpu_nanos: u64,
    /// Resident memory, shared pages included.
    pub memory_bytes: u64,
    /// What else the runtime tells of it.
    pub series: Vec<Series>,
}

/// One metric of a runtime's own, labelled with its host by whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// With unit and, for counters, `_total`: `skiff_wasm_pool_instances`.
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: SeriesValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    Counter(f64),
    Gauge(f64),
    Histogram {
        /// Upper bound and how many lay at or below it, ascending, the last bound infinite.
        buckets: Vec<(f64, u64)>,
        sum: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_same_after_the_wire() {
        let mut wire = [0; FIGURES];
        wire.iter_mut().zip(1..).for_each(|(figure, value)| *figure = value);
        let figures = Figures::from(wire);
        assert_eq!(<[u64; FIGURES]>::from(figures), wire);
        let text = serde_json::to_string(&figures).expect("JSON");
        assert_eq!(text, "[1,2,3,4,5,6,7,8,9,10,11,12,13,14]");
        assert_eq!(serde_json::from_str::<Figures>(&text).expect("read"), figures);
    }
}
