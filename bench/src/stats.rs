//! Latencies of many operations, and the closed loop that gathers them.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

/// What a loop of operations gave.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Sorted.
    latencies: Vec<Duration>,
    pub elapsed: Duration,
}

impl Stats {
    pub fn new(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self { latencies, elapsed }
    }

    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// Milliseconds; `part` 0.99 is the 99th percentile. 0 when nothing was measured.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let last = self.count().saturating_sub(1);
        let index = ((last as f64) * part).ceil() as usize;
        self.latencies
            .get(index.min(last))
            .map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }

    pub fn p50(&self) -> f64 {
        self.quantile_ms(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.quantile_ms(0.99)
    }
}

/// How much of something is done: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    pub operations: usize,
    pub time: Duration,
}

/// `concurrency` workers that do operation after operation; each gets its number.
pub async fn closed_loop<F>(concurrency: usize, amount: Amount, operation: F) -> Result<Stats>
where
    F: AsyncFn(usize) -> Result<()>,
{
    let next = Cell::new(0);
    let latencies = RefCell::new(Vec::with_capacity(amount.operations.min(1 << 20)));
    let started = Instant::now();
    let worker = async || {
        while next.get() < amount.operations && started.elapsed() < amount.time {
            let number = next.replace(next.get() + 1);
            let begun = Instant::now();
            operation(number).await?;
            latencies.borrow_mut().push(begun.elapsed());
        }
        anyhow::Ok(())
    };
    try_join_all((0..concurrency).map(|_| worker())).await?;
    Ok(Stats::new(latencies.into_inner(), started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_latencies() {
        let stats = Stats::new(
            (1..=100).rev().map(Duration::from_millis).collect(),
            Duration::from_secs(2),
        );
        assert_eq!((stats.per_second(), stats.p50(), stats.p99()), (50.0, 51.0, 100.0));
        assert_eq!(Stats::default().p99(), 0.0);
    }
}
