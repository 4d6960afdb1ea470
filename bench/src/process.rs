//! What processes used, read from /proc.

/// Clock ticks per second in /proc: fixed at 100 on Linux whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds (user and system) that a process has used so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields after the parenthesised name; utime and stime are the 14th and 15th of the whole line.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub rss_mb: f64,
    /// Private memory and a share of what is shared with others.
    pub pss_mb: f64,
    /// Private and anonymous: what would not exist without the process.
    pub anonymous_mb: f64,
}

pub fn memory(pid: u32) -> Memory {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let megabytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes.unwrap_or(0.0) / 1024.0
    };
    Memory {
        rss_mb: megabytes("Rss:"),
        pss_mb: megabytes("Pss:"),
        anonymous_mb: megabytes("Anonymous:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let memory = memory(std::process::id());
        assert!(memory.rss_mb > 0.5 && memory.pss_mb <= memory.rss_mb, "{memory:?}");
        assert!(cpu_seconds(std::process::id()) >= 0.0);
    }
}
