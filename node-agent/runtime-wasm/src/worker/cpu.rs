//! CPU: exact accounting, throttling to `limits.cpu`, and shares by `requests.cpu`.
//!
//! A guest's future is polled by [`metered`]: the thread's CPU clock is read before and after, so that work of the host
//! for the guest is charged too. The epoch ticker makes guest code yield every tick; before the next poll a container
//! that spent more than its limit waits, and so does one that had more of the cores than its share. Nothing else on
//! the thread waits with it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::cores::{Claim, Cores, Member};
use super::hits::{Hits, Limit};
use super::ticker::ticker;
use super::{turns, usage};
use crate::limits;

thread_local! {
    /// The guest polled last on this thread left off because of a tick and can go on.
    static INTERRUPTED: Cell<bool> = const { Cell::new(false) };
    /// CPU clock of this thread when it was last charged, for threads that work for one container only.
    static CHARGED_UP_TO: Cell<u64> = const { Cell::new(0) };
}

/// Tells the poll that is under way that its guest was interrupted. Called from the epoch callback.
pub(super) fn interrupted() {
    INTERRUPTED.set(true);
}

/// CPU time of this thread in nanoseconds.
fn thread_nanos() -> u64 {
    usage::nanos(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime))
}

/// What one container used, and what it may use.
pub(crate) struct CpuMeter {
    used_nanos: AtomicU64,
    throttled_nanos: AtomicU64,
    bucket: Option<Mutex<Bucket>>,
    hits: Arc<Hits>,
    member: Member,
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
    /// For a container with this limit and request, in thousandths of a core.
    pub(crate) fn new(
        cores: Arc<Cores>,
        limit_millis: Option<u64>,
        request_millis: Option<u64>,
        hits: Arc<Hits>,
    ) -> Self {
        let bucket = limit_millis.filter(|millis| *millis > 0).map(|millis| {
            Mutex::new(Bucket {
                rate: i128::from(millis) * 1_000_000,
                tokens: limits::CPU_BURST.as_nanos() as i128,
                refilled: Instant::now(),
            })
        });
        Self {
            used_nanos: AtomicU64::new(0),
            throttled_nanos: AtomicU64::new(0),
            bucket,
            hits,
            member: Member::new(cores, turns::weight(request_millis)),
        }
    }

    pub(crate) fn used_nanos(&self) -> u64 {
        self.used_nanos.load(Ordering::Relaxed)
    }

    /// Charges what the calling thread, which is not a guest's, used since it was last charged. Returns how long it must
    /// wait before it goes on.
    pub(crate) fn charge_thread(&self) -> Option<Duration> {
        let now = thread_nanos();
        self.charge(now.saturating_sub(CHARGED_UP_TO.replace(now)));
        self.debt()
    }

    /// Wall time that instances waited for the container's limit.
    pub(crate) fn throttled_nanos(&self) -> u64 {
        self.throttled_nanos.load(Ordering::Relaxed)
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
}

fn lock(bucket: &Mutex<Bucket>) -> std::sync::MutexGuard<'_, Bucket> {
    bucket.lock().expect("no panic happens while a bucket is held")
}

/// Runs a guest's future: charged, throttled, in its turn, and with the ticker going while it is on a core.
pub(crate) async fn metered<F: Future>(meter: &CpuMeter, guest: F) -> F::Output {
    let mut guest = pin!(guest);
    let mut wait: Option<(Pin<Box<tokio::time::Sleep>>, Throttled<'_>)> = None;
    let mut claim = Claim::new(&meter.member);
    poll_fn(|cx| {
        loop {
            if let Some((sleep, _)) = &mut wait {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                wait = None;
            }
            match meter.debt() {
                Some(debt) => {
                    // Who must pay back holds no core meanwhile: a sibling may have overspent since the last tick.
                    claim.give_up();
                    meter.hits.count(Limit::Cpu);
                    wait = Some((Box::pin(tokio::time::sleep(debt)), Throttled::begin(meter)));
                }
                None => break,
            }
        }
        if claim.poll_core(cx).is_pending() {
            return Poll::Pending;
        }
        INTERRUPTED.set(false);
        let stay = Stay::begin(meter);
        let result = guest.as_mut().poll(cx);
        let (nanos, since) = stay.end();
        // Who must pay back first leaves the core to others.
        if result.is_pending() && INTERRUPTED.get() && meter.debt().is_none() {
            // The kernel kept the thread waiting for longer than it ran.
            let delayed = since.elapsed() > 2 * Duration::from_nanos(nanos) + limits::TICK;
            claim.interrupted(nanos, delayed);
        } else {
            claim.leave(nanos);
        }
        result
    })
    .await
}

/// One wait for the limit; its time is counted even when the guest is given up meanwhile.
struct Throttled<'a> {
    meter: &'a CpuMeter,
    since: Instant,
}

impl<'a> Throttled<'a> {
    fn begin(meter: &'a CpuMeter) -> Self {
        Self {
            meter,
            since: Instant::now(),
        }
    }
}

impl Drop for Throttled<'_> {
    fn drop(&mut self) {
        let nanos = self.since.elapsed().as_nanos() as u64;
        self.meter.throttled_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// One stay on a core; charges at its end even when the guest's host code panics.
struct Stay<'a> {
    meter: &'a CpuMeter,
    /// On the thread's CPU clock.
    began: u64,
    at: Instant,
}

impl<'a> Stay<'a> {
    fn begin(meter: &'a CpuMeter) -> Self {
        ticker().enter();
        Self {
            meter,
            at: Instant::now(),
            began: thread_nanos(),
        }
    }

    /// Returns the CPU time of the stay in nanoseconds, and when it began.
    fn end(self) -> (u64, Instant) {
        let ended = (self.charge(), self.at);
        std::mem::forget(self);
        ended
    }

    fn charge(&self) -> u64 {
        let nanos = thread_nanos().saturating_sub(self.began);
        self.meter.charge(nanos);
        ticker().leave();
        nanos
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.charge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overspending_is_paid_back_in_time() {
        let meter = CpuMeter::new(Cores::new(1), Some(100), None, Arc::default());
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
        let meter = CpuMeter::new(Cores::new(1), None, None, Arc::default());
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
