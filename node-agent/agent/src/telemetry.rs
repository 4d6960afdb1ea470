//! What this node and its pods use, for whoever asks over the tunnel. Nothing of it goes through the store.
//!
//! Runtimes count exactly; every `MARK_INTERVAL` the counters are marked, and a question reads them anew and takes the rate
//! since a mark. Idle pods cost nothing but their place in the marks.
//!
//! Read on: [`marks`] rates · [`reading`] what was read · [`node`] the machine's own figures · [`kubelet`], [`resource`],
//! [`cadvisor`], [`summary`] the forms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use skiff_api::exposition;
use skiff_runtime::RuntimeError;
use tokio::sync::Mutex;
use tracing::debug;

use crate::context::Context;
use crate::error::chain;
use crate::pods::Pods;
use marks::Marks;
use reading::Reading;

mod cadvisor;
mod kubelet;
mod marks;
mod node;
mod reading;
mod resource;
mod summary;
#[cfg(test)]
mod tests;

/// How often counters are marked: as often as metrics-server asks a kubelet.
const MARK_INTERVAL: Duration = Duration::from_secs(15);
/// A reading answers everybody who asks within this time: many askers cost no more than one.
const FRESH_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Telemetry {
    ctx: Arc<Context>,
    pods: Arc<Pods>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    marks: Marks,
    latest: Option<(Instant, Arc<Reading>)>,
}

impl Telemetry {
    pub(crate) fn new(ctx: Arc<Context>, pods: Arc<Pods>) -> Self {
        Self {
            ctx,
            pods,
            state: Mutex::default(),
        }
    }

    /// Marks the counters now and then.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut interval = tokio::time::interval(MARK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let mut state = self.state.lock().await;
            let reading = self.read(&mut state).await;
            state.marks.mark(&reading);
        }
    }

    /// The answer to a question: Content-Type and body, or None when there is no such thing.
    pub(crate) async fn answer(&self, path: &[&str], query: &str) -> Option<(&'static str, Bytes)> {
        let text = |text: String| Some((exposition::CONTENT_TYPE, Bytes::from(text)));
        let json = |json: serde_json::Result<Vec<u8>>| json.ok().map(|json| ("application/json", json.into()));
        match path {
            ["metrics"] => text(kubelet::text(&*self.reading().await, &self.ctx.config.node_name)),
            ["metrics", "resource"] => text(resource::text(&*self.reading().await)),
            ["metrics", "cadvisor"] => {
                let reading = self.reading().await;
                text(cadvisor::text(&reading, |uid| self.pods.get(uid)))
            }
            ["stats", "summary"] => {
                let only_cpu_and_memory = query.split('&').any(|pair| pair == "only_cpu_and_memory=true");
                let reading = self.reading().await;
                let summary = summary::summary(&reading, &self.ctx.config.node_name, only_cpu_and_memory);
                json(serde_json::to_vec(&summary))
            }
            ["usage"] => json(serde_json::to_vec(&self.reading().await.usage())),
            _ => None,
        }
    }

    /// What is used now, or was a moment ago.
    async fn reading(&self) -> Arc<Reading> {
        let mut state = self.state.lock().await;
        match &state.latest {
            Some((at, reading)) if at.elapsed() < FRESH_FOR => reading.clone(),
            _ => self.read(&mut state).await,
        }
    }

    async fn read(&self, state: &mut State) -> Arc<Reading> {
        let runtimes = self.ctx.runtimes.iter();
        let asked = runtimes.map(|(name, runtime)| async move { (name, runtime.usage().await) });
        let told = |(name, usage): (_, Result<_, RuntimeError>)| {
            let silent = |error: &RuntimeError| {
                debug!(
                    runtime = name,
                    error = chain(error),
                    "a runtime does not tell what is used"
                );
            };
            usage.inspect_err(silent).ok()
        };
        let usages = join_all(asked).await.into_iter().map(told).collect();
        let node = node::read(&self.ctx.config.data_dir);
        let now = reading::Now {
            millis: Timestamp::now().as_millisecond(),
            nanos: node::monotonic_nanos(),
        };
        let reading = Arc::new(Reading::new(now, node, usages, &state.marks));
        state.latest = Some((Instant::now(), reading.clone()));
        reading
    }
}
