//! Pods that did not fit: they are tried again when something has changed, but each not too often.

use std::collections::HashMap;
use std::time::Duration;

use skiff_controllers::ObjectKey;
use tokio::time::Instant;

/// First and longest pause between two tries of one pod (Kubernetes' 1 s and 10 s).
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    last: Instant,
    /// In nobody's queue: waits for a change.
    parked: bool,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    tries: HashMap<ObjectKey, Tries>,
    parked: Vec<ObjectKey>,
}

impl Waiting {
    /// A try has failed.
    pub(super) fn wait(&mut self, key: ObjectKey, now: Instant) {
        let tries = self.tries.entry(key.clone()).or_insert(Tries {
            count: 0,
            last: now,
            parked: false,
        });
        tries.count += 1;
        tries.last = now;
        if !tries.parked {
            tries.parked = true;
            self.parked.push(key);
        }
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.tries.remove(key);
    }

    /// All pods that wait, and after how long each may be tried again.
    pub(super) fn release(&mut self, now: Instant) -> Vec<(ObjectKey, Duration)> {
        let parked = std::mem::take(&mut self.parked);
        parked
            .into_iter()
            .filter_map(|key| {
                let tries = self.tries.get_mut(&key)?;
                tries.parked = false;
                let pause = PAUSE_FIRST
                    .saturating_mul(1 << (tries.count - 1).min(10))
                    .min(PAUSE_MAX);
                Some((key, pause.saturating_sub(now.saturating_duration_since(tries.last))))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_released_once_and_after_its_pause() {
        let (mut waiting, key, now) = (Waiting::default(), ObjectKey::new("d", "a"), Instant::now());
        waiting.wait(key.clone(), now);
        waiting.wait(key.clone(), now);
        let later = now + Duration::from_millis(500);
        assert_eq!(waiting.release(later), vec![(key.clone(), Duration::from_millis(1500))]);
        assert_eq!(waiting.release(later), vec![]);
        waiting.wait(key.clone(), later);
        waiting.forget(&key);
        assert_eq!(waiting.release(later), vec![]);
    }
}
