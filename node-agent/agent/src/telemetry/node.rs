//! The machine's own figures, read from `/proc`.

use std::fs;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// Counters since the machine came up, and gauges; bytes and nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeFigures {
    /// Seconds since the epoch.
    pub(crate) booted_at: i64,
    pub(crate) cores: u64,
    pub(crate) cpu_nanos: u64,
    pub(crate) memory_total: u64,
    pub(crate) memory_free: u64,
    /// Of the page cache, what nobody has used for a while: the kernel takes it back first.
    pub(crate) inactive_file: u64,
    pub(crate) anonymous: u64,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) disk: Disk,
    pub(crate) processes: u64,
    pub(crate) processes_max: u64,
    pub(crate) agent: Process,
}

/// The agent's own process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: f64,
    pub(crate) memory_bytes: u64,
    pub(crate) open_files: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: u64,
    pub(crate) receive_errors: u64,
    pub(crate) sent: u64,
    pub(crate) send_errors: u64,
}

/// The filesystem that holds the agent's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl NodeFigures {
    pub(crate) fn memory_usage(&self) -> u64 {
        self.memory_total.saturating_sub(self.memory_free)
    }
    /// What cannot be taken back soon.
    pub(crate) fn working_set(&self) -> u64 {
        self.memory_usage().saturating_sub(self.inactive_file)
    }
}

pub(super) fn monotonic_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(super) fn read(data_dir: &Path) -> NodeFigures {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, memory) = (text("/proc/stat"), text("/proc/meminfo"));
    let ticks = rustix::param::clock_ticks_per_second();
    let tasks = text("/proc/loadavg");
    NodeFigures {
        booted_at: number_after(&stat, "btime ").unwrap_or(0) as i64,
        cores: std::thread::available_parallelism().map_or(1, usize::from) as u64,
        cpu_nanos: busy_ticks(&stat) * (1_000_000_000 / ticks.max(1)),
        memory_total: kibibytes(&memory, "MemTotal:"),
        memory_free: kibibytes(&memory, "MemFree:"),
        inactive_file: kibibytes(&memory, "Inactive(file):"),
        anonymous: kibibytes(&memory, "AnonPages:"),
        interfaces: interfaces(&text("/proc/net/dev")),
        disk: disk(data_dir).unwrap_or_default(),
        processes: tasks
            .split_once('/')
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .unwrap_or(0),
        processes_max: text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
        agent: agent(&text("/proc/self/statm")),
    }
}

fn agent(statm: &str) -> Process {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Process {
        cpu_seconds: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9,
        memory_bytes: pages.unwrap_or(0) * rustix::param::page_size() as u64,
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
    }
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(meminfo: &str, key: &str) -> u64 {
    number_after(meminfo, key).unwrap_or(0) * 1024
}

/// Ticks that all cores together spent on anything: user, nice, system, irq, softirq.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or("");
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|field| fields.get(*field)).sum()
}

/// Without loopback, as cAdvisor has it.
fn interfaces(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        Some(Interface {
            name: name.trim().to_owned(),
            received: *fields.first()?,
            receive_errors: *fields.get(2)?,
            sent: *fields.get(8)?,
            send_errors: *fields.get(10)?,
        })
    };
    let all = text.lines().filter_map(interface);
    all.filter(|interface| interface.name != "lo").collect()
}

fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        capacity: stat.f_blocks * stat.f_frsize,
        available: stat.f_bavail * stat.f_frsize,
        used: stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_prints_is_read() {
        let stat = "cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2 3\nbtime 1700000000\nprocesses 5\n";
        assert_eq!(busy_ticks(stat), 100 + 20 + 30 + 6 + 7);
        assert_eq!(number_after(stat, "btime "), Some(1_700_000_000));
        let memory = "MemTotal:       4000 kB\nInactive(file):    7 kB\n";
        assert_eq!(kibibytes(memory, "Inactive(file):"), 7 * 1024);
        let net = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12\n  eth0: 100 2 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n";
        let eth0 = Interface {
            name: "eth0".into(),
            received: 100,
            receive_errors: 3,
            sent: 900,
            send_errors: 11,
        };
        assert_eq!(interfaces(net), [eth0]);
    }

    #[test]
    fn this_machine_has_figures() {
        let read = read(Path::new("/"));
        assert!(read.cpu_nanos > 0 && read.booted_at > 0 && read.disk.capacity > 0 && read.processes > 0);
        assert!(read.memory_total > read.working_set() && read.working_set() > 0);
    }
}
