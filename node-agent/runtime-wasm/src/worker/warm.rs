//! Instances that serve several requests, one after another, where the pod asks for it (`skiff.dev/instance-reuse`): what
//! one request left in the guest's memory is there for the next. An instance that failed is never used again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use wasmtime::Store;

use super::guest::Guest;
use crate::limits;

/// An instance with the exports that it is called by.
pub(super) struct Instance<E> {
    pub(super) store: Store<Guest>,
    pub(super) exports: E,
    served: u64,
    since: Instant,
}

/// The instances of one server that wait for their next request: no more than requests run at once.
pub(super) struct Warm<E> {
    /// Requests that one instance serves.
    requests_each: u64,
    idle: Mutex<Vec<Instance<E>>>,
    /// What an idle one is listed as.
    listed: Arc<str>,
}

impl<E> Warm<E> {
    pub(super) fn new(requests_each: u64) -> Self {
        Self {
            requests_each,
            idle: Mutex::default(),
            listed: "waits for its next request".into(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance<E>>> {
        self.idle.lock().expect("no panic happens while the instances are held")
    }

    /// The one that ran last, or a fresh one if none waits.
    pub(super) async fn take_or(
        &self,
        fresh: impl Future<Output = wasmtime::Result<(Store<Guest>, E)>>,
    ) -> wasmtime::Result<Instance<E>> {
        if let Some(waiting) = self.take() {
            return Ok(waiting);
        }
        let (store, exports) = fresh.await?;
        Ok(Instance {
            store,
            exports,
            served: 0,
            since: Instant::now(),
        })
    }

    fn take(&self) -> Option<Instance<E>> {
        if self.requests_each <= 1 {
            return None;
        }
        let mut instance = self.idle().pop()?;
        // Ticks went by meanwhile; they are not this request's.
        instance.store.set_epoch_deadline(1);
        Some(instance)
    }

    /// Keeps an instance that came to a good end, unless it has served enough.
    pub(super) fn give(&self, mut instance: Instance<E>) {
        instance.served += 1;
        if instance.served < self.requests_each {
            instance.since = Instant::now();
            instance.store.data().answers(self.listed.clone());
            self.idle().push(instance);
        }
    }

    /// Ends instances that nobody needed for a while. Never returns.
    pub(super) async fn expire(&self) {
        if self.requests_each <= 1 {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(limits::WARM_IDLE).await;
            let expired: Vec<_> = self
                .idle()
                .extract_if(.., |instance| instance.since.elapsed() >= limits::WARM_IDLE)
                .collect();
            drop(expired);
        }
    }
}
