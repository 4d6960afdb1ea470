//! CPU: exact accounting, throttling to `limits.cpu`, and the ticker that interrupts guests.
//!
//! A guest's future is polled by [`metered`]: the thread's CPU clock is read before and after, so that work of the host
//! for the guest is charged too. The epoch ticker makes guest code yield every tick; before the next poll a container
//! that spent more than its share waits. Nothing else on the thread waits with it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use super::hits::{Hits, Limit};
use super::slice::run_in_slices;
use crate::limits;

thread_local! {
    /// CPU clock of this thread at the last charge within the current poll.
    static CHARGED_UP_TO: Cell<u64> = const { Cell::new(0) };
}

/// CPU time of this thread in nanoseconds.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one container used, and what it may use.
pub(crate) struct CpuMeter {
    used_nanos: AtomicU64,
    bucket: Option<Mutex<Bucket>>,
    hits: Arc<Hits>,
}

struct Bucket {
    /// Nanoseconds of CPU per second of wall time.
    rate: i128,
    /// Nanoseconds of CPU that may be spent now; negative = overspent.
    tokens: i128,
    refilled: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_nanos() as i128;
        // Short intervals are left to accumulate: their share would round to nothing.
        let earned = elapsed * self.rate / 1_000_000_000;
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(limits::CPU_BURST.as_nanos() as i128);
            self.refilled = now;
        }
    }
}

impl CpuMeter {
    pub(crate) fn new(limit_millis: Option<u64>, hits: Arc<Hits>) -> Self {
        let bucket = limit_millis.filter(|millis| *millis > 0).map(|millis| {
            Mutex::new(Bucket {
                rate: i128::from(millis) * 1_000_000,
                tokens: limits::CPU_BURST.as_nanos() as i128,
                refilled: Instant::now(),
            })
        });
        Self {
            used_nanos: AtomicU64::new(0),
            bucket,
            hits,
        }
    }

    pub(crate) fn used_nanos(&self) -> u64 {
        self.used_nanos.load(Ordering::Relaxed)
    }

    fn charge(&self, nanos: u64) {
        self.used_nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(bucket) = &self.bucket {
            lock(bucket).tokens -= i128::from(nanos);
        }
    }

    /// How long the container must wait before it may run again.
    fn debt(&self) -> Option<Duration> {
        let mut bucket = lock(self.bucket.as_ref()?);
        bucket.refill(Instant::now());
        (bucket.tokens < 0).then(|| Duration::from_nanos((-bucket.tokens * 1_000_000_000 / bucket.rate) as u64 + 1))
    }

    /// Charges what the current poll used so far. Called from the epoch callback.
    pub(crate) fn charge_running(&self) {
        let now = thread_nanos();
        self.charge(now.saturating_sub(CHARGED_UP_TO.replace(now)));
    }
}

fn lock(bucket: &Mutex<Bucket>) -> std::sync::MutexGuard<'_, Bucket> {
    bucket.lock().expect("no panic happens while a bucket is held")
}

/// Runs a guest's future: charged, throttled, and with the ticker going while it is on a core.
pub(crate) async fn metered<F: Future>(meter: Arc<CpuMeter>, guest: F) -> F::Output {
    let mut guest = pin!(guest);
    let mut wait: Option<Pin<Box<tokio::time::Sleep>>> = None;
    poll_fn(move |cx| {
        loop {
            if let Some(sleep) = &mut wait {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                wait = None;
            }
            match meter.debt() {
                Some(debt) => {
                    meter.hits.count(Limit::Cpu);
                    wait = Some(Box::pin(tokio::time::sleep(debt)));
                }
                None => break,
            }
        }
        let _slice = Slice::begin(&meter);
        guest.as_mut().poll(cx)
    })
    .await
}

/// One stay on a core; charges at its end even when the guest's host code panics.
struct Slice<'a>(&'a CpuMeter);

impl<'a> Slice<'a> {
    fn begin(meter: &'a CpuMeter) -> Self {
        ticker().enter();
        CHARGED_UP_TO.set(thread_nanos());
        Self(meter)
    }
}

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        self.0.charge_running();
        ticker().leave();
    }
}

/// Increments the engines' epochs while guests are on a core. An OS thread: a runaway guest cannot hold it up.
pub(crate) struct Ticker {
    on_core: AtomicUsize,
    parked: AtomicBool,
    engines: Mutex<Vec<Engine>>,
    thread: OnceLock<std::thread::Thread>,
}

/// The process's ticker.
pub(crate) fn ticker() -> &'static Ticker {
    static TICKER: Ticker = Ticker {
        on_core: AtomicUsize::new(0),
        parked: AtomicBool::new(false),
        engines: Mutex::new(Vec::new()),
        thread: OnceLock::new(),
    };
    &TICKER
}

impl Ticker {
    /// Adds an engine; the first starts the thread.
    pub(crate) fn add(&'static self, engine: &Engine) -> std::io::Result<()> {
        self.engines
            .lock()
            .expect("no panic happens while the engines are held")
            .push(engine.clone());
        if self.thread.get().is_none() {
            let thread = std::thread::Builder::new()
                .name("epoch-ticker".into())
                .stack_size(64 << 10)
                .spawn(move || {
                    // Where the kernel refuses, ticks are late on a busy machine.
                    let _ = run_in_slices(0, limits::TICKER_SLICE);
                    self.run();
                })?
                .thread()
                .clone();
            let _ = self.thread.set(thread);
        }
        Ok(())
    }

    fn enter(&self) {
        if self.on_core.fetch_add(1, Ordering::SeqCst) == 0
            && self.parked.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn leave(&self) {
        self.on_core.fetch_sub(1, Ordering::SeqCst);
    }

    fn run(&self) {
        let linger = (limits::TICKER_LINGER.as_nanos() / limits::TICK.as_nanos()) as u32;
        loop {
            self.parked.store(true, Ordering::SeqCst);
            while self.on_core.load(Ordering::SeqCst) == 0 {
                std::thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
            let mut idle = 0;
            while idle < linger {
                std::thread::sleep(limits::TICK);
                for engine in self
                    .engines
                    .lock()
                    .expect("no panic happens while the engines are held")
                    .iter()
                {
                    engine.increment_epoch();
                }
                idle = if self.on_core.load(Ordering::SeqCst) == 0 {
                    idle + 1
                } else {
                    0
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overspending_is_paid_back_in_time() {
        let meter = CpuMeter::new(Some(100), Arc::default());
        assert_eq!(meter.debt(), None);
        // 20 ms saved up, 30 ms spent: 10 ms owed, which 100m earn in 100 ms.
        meter.charge(30_000_000);
        let debt = meter.debt().expect("overspent");
        assert!(
            debt <= Duration::from_millis(100) && debt > Duration::from_millis(50),
            "{debt:?}"
        );
        assert_eq!(meter.used_nanos(), 30_000_000);
    }

    #[test]
    fn without_a_limit_nothing_is_owed() {
        let meter = CpuMeter::new(None, Arc::default());
        meter.charge(u64::MAX / 2);
        assert_eq!(meter.debt(), None);
    }

    #[test]
    fn no_more_than_the_burst_is_saved() {
        let start = Instant::now();
        let mut bucket = Bucket {
            rate: 500_000_000,
            tokens: -5_000_000,
            refilled: start,
        };
        bucket.refill(start + Duration::from_millis(10));
        assert_eq!(bucket.tokens, 0);
        bucket.refill(start + Duration::from_secs(3600));
        assert_eq!(bucket.tokens, limits::CPU_BURST.as_nanos() as i128);
    }
}
