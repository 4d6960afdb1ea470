//! A work queue: a key waits in it once, is never worked on twice at once, can be put off, and backs off on failure.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// First delay after a failure; doubles with each further one (Kubernetes' 5 ms).
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// The longest delay: a fault that has passed is noticed within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Asked for while running: goes back to `ready` when done.
    again: HashSet<K>,
    delayed: BTreeSet<(Instant, u64)>,
    delayed_keys: HashMap<u64, K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    tickets: u64,
}

pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    pub(crate) fn new() -> Self {
        Queue {
            state: Mutex::new(State::new()),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants the key worked on as soon as possible.
    pub(crate) fn add(&self, key: K) {
        if self.lock().add(key) {
            self.changed.notify_one();
        }
    }

    /// Wants the key worked on after `delay`, or earlier if that was asked already.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        if self.lock().put_off(key, Instant::now() + delay) {
            self.changed.notify_one();
        }
    }

    /// Puts the key off because it failed; returns for how long.
    pub(crate) fn back_off(&self, key: K) -> Duration {
        let delay = self.lock().failed(&key);
        self.add_after(key, delay);
        delay
    }

    /// The key has succeeded: the next failure starts from the first delay again.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// Every key that is ready, taken out and done with.
    #[cfg(test)]
    pub(crate) fn drain(&self) -> Vec<K> {
        let mut state = self.lock();
        let keys: Vec<K> = state.ready.drain(..).collect();
        keys.iter().for_each(|key| {
            state.queued.remove(key);
        });
        keys
    }

    /// The next key; it is the caller's until [`Queue::done`].
    pub(crate) async fn next(&self) -> K {
        loop {
            let next_due = {
                let mut state = self.lock();
                let next_due = state.release_due(Instant::now());
                if let Some(key) = state.take() {
                    let more = !state.ready.is_empty() || next_due.is_some();
                    drop(state);
                    if more {
                        // Another worker takes the next one, or watches the clock.
                        self.changed.notify_one();
                    }
                    return key;
                }
                next_due
            };
            match next_due {
                Some(at) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The caller has finished with the key.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.lock();
        state.running.remove(key);
        if state.again.remove(key) && state.add(key.clone()) {
            drop(state);
            self.changed.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn new() -> Self {
        State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
            delayed: BTreeSet::new(),
            delayed_keys: HashMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            tickets: 0,
        }
    }

    /// Whether a worker has something new to do.
    fn add(&mut self, key: K) -> bool {
        if self.running.contains(&key) {
            self.again.insert(key);
            return false;
        }
        if !self.queued.insert(key.clone()) {
            return false;
        }
        self.cancel_delay(&key);
        self.ready.push_back(key);
        true
    }

    /// Whether this is earlier than what was known.
    fn put_off(&mut self, key: K, at: Instant) -> bool {
        if self.queued.contains(&key) || self.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return false;
        }
        self.cancel_delay(&key);
        self.tickets += 1;
        self.delayed.insert((at, self.tickets));
        self.delayed_keys.insert(self.tickets, key.clone());
        self.due.insert(key, (at, self.tickets));
        true
    }

    /// One more failure; the delay that follows it.
    fn failed(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        *failures += 1;
        BACKOFF_FIRST
            .saturating_mul(1 << (*failures - 1).min(20))
            .min(BACKOFF_MAX)
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn cancel_delay(&mut self, key: &K) {
        if let Some((at, ticket)) = self.due.remove(key) {
            self.delayed.remove(&(at, ticket));
            self.delayed_keys.remove(&ticket);
        }
    }

    /// Moves what is due to `ready`; returns when the next one is.
    fn release_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&(at, ticket)) = self.delayed.first() {
            if at > now {
                return Some(at);
            }
            self.delayed.remove(&(at, ticket));
            if let Some(key) = self.delayed_keys.remove(&ticket) {
                self.due.remove(&key);
                self.add(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_never_runs_twice_at_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(queue.lock().take().is_none());
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.lock().take().is_none());
    }

    #[tokio::test]
    async fn a_worker_that_waits_is_woken_by_an_addition_and_by_the_clock() {
        let queue = std::sync::Arc::new(Queue::new());
        let worker = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.next().await, queue.next().await) }
        });
        queue.add_after("second", Duration::from_millis(1));
        queue.add("first");
        let (one, two) = worker.await.unwrap();
        assert_eq!(
            std::collections::BTreeSet::from([one, two]),
            std::collections::BTreeSet::from(["first", "second"])
        );
    }

    #[test]
    fn delays_end_in_order_and_the_earlier_wish_wins() {
        let (mut state, start) = (State::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(state.put_off("late", at(9)));
        assert!(state.put_off("soon", at(5)));
        assert!(!state.put_off("soon", at(7)));
        assert!(state.put_off("late", at(6)));
        assert_eq!(state.release_due(at(4)), Some(at(5)));
        assert!(state.take().is_none());
        assert_eq!(state.release_due(at(5)), Some(at(6)));
        assert_eq!(state.take(), Some("soon"));
        assert_eq!(state.release_due(at(10)), None);
        assert_eq!(state.take(), Some("late"));
    }

    #[test]
    fn a_wake_cancels_the_delay() {
        let (mut state, start) = (State::new(), Instant::now());
        state.put_off("a", start);
        assert!(state.add("a"));
        assert!(!state.put_off("a", start));
        assert_eq!(state.take(), Some("a"));
        assert_eq!(state.release_due(start), None);
        assert!(state.take().is_none() && state.again.is_empty());
    }

    #[test]
    fn failures_double_the_delay_up_to_the_longest() {
        let mut state = State::new();
        let delays: Vec<u128> = (0..4).map(|_| state.failed(&"a").as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40]);
        for _ in 0..40 {
            state.failed(&"a");
        }
        assert_eq!(state.failed(&"a"), BACKOFF_MAX);
    }
}
