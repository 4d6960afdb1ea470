//! One flow-control window: how much the client takes before it says more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::SpdyError;

/// What every window begins with.
pub(super) const INITIAL: i64 = 64 * 1024;
/// Largest window that the protocol has.
const LARGEST: i64 = 0x7fff_ffff;

pub(super) struct Window {
    /// Below nothing when a client makes its windows smaller, or begins to keep them late.
    left: Mutex<i64>,
    changed: Notify,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(INITIAL)
    }
}

impl Window {
    pub(super) fn new(left: i64) -> Self {
        Self {
            left: Mutex::new(left),
            changed: Notify::new(),
        }
    }

    fn left(&self) -> MutexGuard<'_, i64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `wanted` (at least one) as soon as there is any; all of it at once while the client keeps no windows.
    pub(super) async fn take(&self, wanted: usize, kept: &AtomicBool) -> usize {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut left = self.left();
                let room = if kept.load(Ordering::Relaxed) {
                    usize::try_from(*left).unwrap_or(0).min(wanted)
                } else {
                    wanted
                };
                if room > 0 {
                    *left -= i64::try_from(room).expect("a frame's length is small");
                    return room;
                }
            }
            changed.await;
        }
    }

    pub(super) fn give_back(&self, unused: usize) {
        *self.left() += i64::try_from(unused).expect("a frame's length is small");
        self.changed.notify_waiters();
    }

    pub(super) fn change(&self, by: i64) -> Result<(), SpdyError> {
        {
            let mut left = self.left();
            *left += by;
            if *left > LARGEST {
                return Err(SpdyError::Window);
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}
