//! Drives any Controller: for each key, gate on own writes → observe → reconcile → execute → again when told.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use skiff_controllers::{Caches, Context, Controller, Failure, ObjectKey, Report};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::executor::Executor;
use crate::queue::Queue;
use crate::written::WrittenGate;

/// A gated key is looked at again after this long even if no cache wakes it.
const GATE_RETRY: Duration = Duration::from_millis(20);

pub(crate) struct Runner<C> {
    controller: C,
    caches: Arc<Caches>,
    pub(crate) queue: Queue<ObjectKey>,
    written: WrittenGate,
    failures: Mutex<HashMap<ObjectKey, Failure>>,
    executor: Executor,
}

impl<C: Controller> Runner<C> {
    pub(crate) fn new(controller: C, caches: Arc<Caches>, executor: Executor) -> Arc<Self> {
        Arc::new(Runner {
            controller,
            caches,
            queue: Queue::new(),
            written: WrittenGate::default(),
            failures: Mutex::default(),
            executor,
        })
    }

    /// Starts `workers` workers; they finish the key at hand when `stop` is cancelled.
    pub(crate) fn start(self: &Arc<Self>, workers: usize, tasks: &TaskTracker, stop: &CancellationToken) {
        for _ in 0..workers {
            let (runner, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                loop {
                    let key = tokio::select! {
                        () = stop.cancelled() => return,
                        key = runner.queue.next() => key,
                    };
                    let run = AssertUnwindSafe(runner.run_key(&key)).catch_unwind().await;
                    if run.is_err() {
                        let delay = runner.queue.back_off(key.clone());
                        tracing::error!(controller = C::NAME, key = %key, ?delay, "reconcile panicked");
                    }
                    runner.queue.done(&key);
                }
            });
        }
    }

    async fn run_key(&self, key: &ObjectKey) {
        if !self.written.is_open(key, &self.caches, Instant::now()) {
            self.queue.add_after(key.clone(), GATE_RETRY);
            return;
        }
        let Some(world) = self.controller.observe(&self.caches, key) else {
            self.queue.forget(key);
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return;
        };
        let failure = self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let mut ctx = Context {
            now: jiff::Timestamp::now(),
            failure,
        };
        let mut plan = self.controller.reconcile(&world, &ctx);
        if plan.report != Report::Settled {
            tracing::debug!(controller = C::NAME, key = %key, report = ?plan.report, "reconciled");
        }
        let mut executed = self.executor.run(C::NAME, &plan.actions).await;
        if let Some((failure, false)) = &executed.failure {
            // The status tells the failure; the actions are not tried again before the back-off.
            ctx.failure = Some(failure.clone());
            plan.status = self.controller.reconcile(&world, &ctx).status;
            self.failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key.clone(), failure.clone());
        }
        if let Some(status) = plan.status.take() {
            let written = self.executor.run(C::NAME, std::slice::from_ref(&status)).await;
            executed.expected.extend(written.expected);
            executed.failure = executed.failure.or(written.failure);
        }
        self.written.expect(key, executed.expected, Instant::now());
        match executed.failure {
            Some((failure, race)) => {
                let delay = self.queue.back_off(key.clone());
                if race {
                    tracing::debug!(controller = C::NAME, key = %key, error = %failure.message, ?delay, "lost a race");
                } else {
                    tracing::warn!(controller = C::NAME, key = %key, error = %failure.message, ?delay, "action failed");
                }
            }
            None => {
                self.queue.forget(key);
                if let Some(delay) = plan.requeue_after {
                    self.queue.add_after(key.clone(), delay);
                }
            }
        }
    }
}
