//! One pod: observe → step → perform → report, again and again. Decides nothing: `skiff_lifecycle::step` does.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use skiff_lifecycle::{Action, Observed, Outcome, PodMemory, Sandbox, fit, step, texts};
use skiff_runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::chain;
use crate::perform::{self, Failure, NoRuntime};
use crate::pods::uid;
use crate::status_writer::StatusWriter;
use crate::{observe, volumes};

/// Outcomes of background actions waiting to be taken in: a pod has few containers, each with few probes.
const OUTCOMES_MAX: usize = 64;
/// After a runtime did not answer, or an action failed that is not counted by back-off.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A look at every pod now and then, in case a wake was lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How often volumes made from API objects are compared with them.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// A worker that panicked starts again after this time.
const PANIC_RETRY: Duration = Duration::from_secs(10);

/// What a worker is started with.
pub(crate) struct Inputs {
    pub(crate) pod: watch::Receiver<Arc<Pod>>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Where the derived status is shown to others here.
    pub(crate) status: watch::Sender<Arc<PodStatus>>,
    pub(crate) shutdown: CancellationToken,
}

/// Runs until the pod is gone (true) or the agent shuts down (false).
pub(crate) async fn run(ctx: Arc<Context>, inputs: Inputs) -> bool {
    let first = inputs.pod.borrow().clone();
    let meta = &first.metadata;
    let span = info_span!("pod", namespace = meta.namespace, name = meta.name, uid = meta.uid);
    let mut worker = Worker::new(ctx, inputs);
    async move {
        loop {
            match AssertUnwindSafe(worker.run()).catch_unwind().await {
                Ok(finished) => return finished,
                Err(_) => {
                    error!("the pod's worker panicked, trying again later");
                    tokio::time::sleep(PANIC_RETRY).await;
                }
            }
        }
    }
    .instrument(span)
    .await
}

struct Worker {
    ctx: Arc<Context>,
    uid: String,
    pod: watch::Receiver<Arc<Pod>>,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
    memory: PodMemory,
    /// RuntimeClass handler, once resolved.
    handler: Option<String>,
    /// Whether this node has decided to take the pod.
    admitted: bool,
    /// Whether the server has shown the pod to this process. A checkpoint may be older than the status there, so nothing
    /// is written before.
    shown: bool,
    writer: StatusWriter,
    status: watch::Sender<Arc<PodStatus>>,
    written: Option<PodStatus>,
    saved: Vec<u8>,
    outcomes: mpsc::Receiver<Outcome>,
    outcome_sender: mpsc::Sender<Outcome>,
    /// Starts that were told in an event, as `container/attempt`.
    told: BTreeSet<String>,
}

impl Worker {
    fn new(ctx: Arc<Context>, inputs: Inputs) -> Self {
        let Inputs {
            pod,
            wake,
            checkpoint,
            status,
            shutdown,
        } = inputs;
        let first = pod.borrow().clone();
        let (outcome_sender, outcomes) = mpsc::channel(OUTCOMES_MAX);
        let admitted = checkpoint.is_some();
        let (memory, handler) = match checkpoint {
            Some(checkpoint) => (checkpoint.memory, checkpoint.handler),
            None => (PodMemory::from_status(&first), None),
        };
        Self {
            writer: StatusWriter::start(ctx.client.clone(), &first),
            uid: uid(&first),
            ctx,
            pod,
            wake,
            shutdown,
            memory,
            handler,
            admitted,
            shown: !admitted,
            status,
            written: None,
            saved: Vec::new(),
            outcomes,
            outcome_sender,
            told: BTreeSet::new(),
        }
    }

    async fn run(&mut self) -> bool {
        let mut last_actions = Vec::new();
        let mut refreshed = tokio::time::Instant::now();
        loop {
            self.shown |= self.pod.has_changed().unwrap_or(false);
            let pod = self.pod.borrow_and_update().clone();
            self.writer.compare(&pod);
            self.memory.catch_up(&pod);
            self.take_outcomes(&pod);
            self.admit(&pod).await;
            let observed = self.observe(&pod).await;
            let blind = observed.sandbox == Sandbox::Unknown;
            let step = step(&pod, &observed, &self.memory, Timestamp::now());
            debug!(report = ?step.report, actions = ?step.actions, "stepped");
            self.memory = step.memory;
            for event in step.events {
                self.ctx.events.pod(&pod, event);
            }
            if self.memory.is_over() {
                self.ctx.admitted().remove(&self.uid);
            }
            self.save(&pod);
            self.report(step.status, step.actions.contains(&Action::CreateSandbox));
            let repeated = !step.actions.is_empty() && step.actions == last_actions;
            let performed = self.perform(&pod, &step.actions).await;
            if step.actions.contains(&Action::Finish) {
                if performed != Performed::Failed {
                    self.finish(&pod).await;
                    return true;
                }
                // Something of the pod is left here; its end is not told before that is gone too.
                self.memory.finished = false;
            }
            last_actions = step.actions;
            if performed == Performed::Inline && !repeated {
                continue;
            }
            let mut wait = LOOK_INTERVAL;
            if let Some(wake_at) = step.wake_at {
                let until = wake_at.duration_since(Timestamp::now());
                wait = wait.min(Duration::try_from(until).unwrap_or_default());
            }
            if blind || performed == Performed::Failed || performed == Performed::Inline {
                wait = wait.min(RETRY_INTERVAL);
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                () = self.wake.notified() => last_actions.clear(),
                changed = self.pod.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    self.shown = true;
                    last_actions.clear();
                }
                Some(outcome) = self.outcomes.recv() => {
                    last_actions.clear();
                    self.take(&pod, &outcome);
                }
                () = tokio::time::sleep(wait) => {}
            }
            if refreshed.elapsed() >= REFRESH_INTERVAL {
                refreshed = tokio::time::Instant::now();
                self.refresh_volumes(&pod);
            }
        }
    }

    fn take_outcomes(&mut self, pod: &Pod) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            self.take(pod, &outcome);
        }
    }

    fn take(&mut self, pod: &Pod, outcome: &Outcome) {
        for event in self.memory.record(pod, outcome, Timestamp::now()) {
            self.ctx.events.pod(pod, event);
        }
    }

    /// The node's own last check, once, before anything is done for the pod.
    async fn admit(&mut self, pod: &Arc<Pod>) {
        if std::mem::replace(&mut self.admitted, true) || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let mut node = self.ctx.node.clone();
        let node = tokio::select! {
            node = node.wait_for(Option::is_some) => node.ok().and_then(|node| node.clone()),
            () = self.shutdown.cancelled() => None,
        };
        let Some(node) = node else {
            self.admitted = false;
            return;
        };
        if self.memory.is_over() {
            return;
        }
        let mut admitted = self.ctx.admitted();
        let others = admitted
            .iter()
            .filter(|(uid, _)| **uid != self.uid)
            .map(|(_, pod)| &**pod);
        match fit::check(pod, &node, others) {
            Ok(()) => {
                admitted.insert(self.uid.clone(), pod.clone());
            }
            Err(rejection) => {
                drop(admitted);
                let message = format!("Pod was rejected: {}", rejection.message);
                self.ctx
                    .events
                    .pod(pod, texts::rejected(&rejection.reason, &rejection.message));
                self.memory.reject(&rejection.reason, &message);
            }
        }
    }

    async fn observe(&mut self, pod: &Pod) -> Observed {
        let host_ip = self.ctx.config.node_ip.to_string();
        let sandbox = match self.runtime(pod).await {
            Ok(runtime) => match runtime.inspect(&self.uid).await {
                Ok(Some(state)) => Sandbox::Known(observe::sandbox(&self.ctx, pod, state)),
                Ok(None) => Sandbox::Absent,
                Err(error) => {
                    warn!(error = chain(&error), "the runtime does not answer");
                    Sandbox::Unknown
                }
            },
            // No runtime of that name: nothing of the pod can be here.
            Err(NoRuntime::Missing(_)) => Sandbox::Absent,
            Err(NoRuntime::Unknown(error)) => {
                warn!(error, "could not look up the pod's RuntimeClass");
                Sandbox::Unknown
            }
        };
        Observed { sandbox, host_ip }
    }

    /// The runtime that the pod's RuntimeClass names.
    async fn runtime(&mut self, pod: &Pod) -> Result<Arc<dyn Runtime>, NoRuntime> {
        if self.handler.is_none() {
            self.handler = Some(perform::handler(&self.ctx, pod).await?);
        }
        perform::runtime(&self.ctx, self.handler.as_deref().unwrap_or_default())
    }

    /// Writes the checkpoint when something in it changed that a restart needs. The pod's status, which changes with
    /// each of our own writes, goes along but is no reason to write.
    fn save(&mut self, pod: &Arc<Pod>) {
        let meta = &pod.metadata;
        let key = serde_json::to_vec(&(
            &self.memory,
            &self.handler,
            &pod.spec,
            (
                &meta.labels,
                &meta.annotations,
                &meta.deletion_timestamp,
                &meta.deletion_grace_period_seconds,
            ),
        ));
        let (Ok(key), false) = (key, self.memory.finished) else {
            return;
        };
        if key == self.saved {
            return;
        }
        let checkpoint = Checkpoint {
            pod: Pod::clone(pod),
            memory: self.memory.clone(),
            handler: self.handler.clone(),
        };
        match serde_json::to_vec(&checkpoint) {
            Ok(content) => self.ctx.checkpoints.save(&self.uid, content),
            Err(error) => error!(%error, "could not serialise the pod's memory"),
        }
        self.saved = key;
    }

    fn report(&mut self, status: PodStatus, soon_replaced: bool) {
        if self.written.as_ref() != Some(&status) && !self.memory.is_only_terminal() {
            self.status.send_replace(Arc::new(status.clone()));
            if self.shown {
                self.written = Some(status.clone());
                self.writer.write(status, soon_replaced);
            }
        }
    }

    async fn perform(&mut self, pod: &Arc<Pod>, actions: &[Action]) -> Performed {
        let mut result = Performed::Nothing;
        for action in actions {
            if *action == Action::Finish {
                continue;
            }
            let runtime = self.runtime(pod).await.map_err(NoRuntime::into_text);
            let job = perform::Job {
                ctx: self.ctx.clone(),
                pod: pod.clone(),
                uid: self.uid.clone(),
                runtime,
                memory: self.memory.clone(),
                outcomes: self.outcome_sender.clone(),
            };
            if perform::is_background(action) {
                let action = action.clone();
                let sender = self.outcome_sender.clone();
                tokio::spawn(async move {
                    let outcome = job.in_background(&action).await;
                    // The worker may have ended meanwhile.
                    let _ = sender.send(outcome).await;
                });
                continue;
            }
            match job.inline(action).await {
                Ok(events) => {
                    if result == Performed::Nothing {
                        result = Performed::Inline;
                    }
                    for event in events {
                        let attempt = event.container.as_ref().and_then(|name| self.memory.container(name));
                        let attempt = attempt.map_or(0, |container| container.next_attempt());
                        let key = format!("{:?}/{attempt}/{}", event.container, event.reason);
                        if self.told.insert(key) {
                            self.ctx.events.pod(pod, event);
                        }
                    }
                }
                Err(Failure::Told(outcome)) => {
                    self.take(pod, &outcome);
                    return Performed::Inline;
                }
                Err(Failure::Retry(error)) => {
                    warn!(?action, error, "an action failed, trying again");
                    result = Performed::Failed;
                    if !matches!(action, Action::RemoveVolumes) {
                        return result;
                    }
                    self.memory.volumes_removed = false;
                }
            }
        }
        result
    }

    fn refresh_volumes(&self, pod: &Arc<Pod>) {
        if !self.memory.volumes_ready || self.memory.is_over() || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let (ctx, pod) = (self.ctx.clone(), pod.clone());
        let pod_ip = self.memory.pod_ip.clone();
        tokio::spawn(async move {
            if let Err(error) = volumes::prepare(&ctx, &pod, pod_ip).await {
                debug!(error, "could not refresh volumes");
            }
        });
    }

    /// The last word: final status, deletion for good, and our own traces.
    async fn finish(&mut self, pod: &Pod) {
        tokio::select! {
            () = self.writer.delete() => {}
            () = self.shutdown.cancelled() => return,
        }
        self.ctx.network.release(&self.uid);
        self.ctx.admitted().remove(&self.uid);
        self.ctx.checkpoints.remove(&self.uid);
        let (namespace, name) = perform::namespace_and_name(pod);
        if let Err(error) = crate::files::remove_directory(&self.ctx.pod_log_directory(namespace, name, &self.uid)) {
            warn!(error = chain(&error), "could not remove the pod's logs");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Performed {
    Nothing,
    /// Something changed at once: look again.
    Inline,
    Failed,
}
