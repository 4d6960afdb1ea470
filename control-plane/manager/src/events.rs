//! Sweeps out old Events, page by page, so that none of them need be kept in memory.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use serde::Deserialize;
use skiff_controllers::{EVENT_EXPIRY, sweep_events};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::executor::Executor;
use crate::requests::{RequestError, Requests};

/// Events in one page.
const PAGE: usize = 500;
/// Sweeps in the time to live: an Event outlives it by no more than this part of it.
const SWEEPS_PER_TTL: u32 = 60;
/// The least pause between two sweeps.
const PAUSE_MIN: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Event>,
}

#[derive(Deserialize, Default)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

pub(crate) fn start(
    requests: Requests,
    executor: Executor,
    ttl: Duration,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let stop = stop.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep((ttl / SWEEPS_PER_TTL).max(PAUSE_MIN)) => {}
            }
            if let Err(error) = sweep(&requests, &executor, ttl).await {
                tracing::debug!(controller = EVENT_EXPIRY, error = %error, "sweep was broken off");
            }
        }
    });
}

async fn sweep(requests: &Requests, executor: &Executor, ttl: Duration) -> Result<(), RequestError> {
    let mut next = String::new();
    loop {
        let token = if next.is_empty() {
            String::new()
        } else {
            format!("&continue={next}")
        };
        let path = format!("/api/v1/events?limit={PAGE}{token}");
        let bytes = requests
            .send(hyper::Method::GET, &path, "application/json", None)
            .await?;
        let page: Page = serde_json::from_slice(&bytes).map_err(|error| RequestError::Answer(Box::new(error)))?;
        let plan = sweep_events(&page.items, ttl, jiff::Timestamp::now());
        executor.run(EVENT_EXPIRY, &plan.actions).await;
        if page.metadata.next.is_empty() {
            return Ok(());
        }
        next = page.metadata.next;
    }
}
