//! Events: posted in the background, so that no decision waits for them; repeats are counted on one object.

mod correlate;
mod wire;

use std::sync::Arc;

use skiff_controllers::{EventDraft, Resource};
use tokio::sync::mpsc;

use self::correlate::{Correlator, Verdict};
use crate::requests::{Requests, collection};

/// Events that wait to be posted; more are dropped, because they matter less than work.
const WAITING_MAX: usize = 1024;

/// How a component's Events look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `source`, `count`, `firstTimestamp`: the controllers.
    Source,
    /// `reportingComponent`, `action`, `series`: the scheduler.
    Reporting { action: &'static str },
}

/// What is to be posted.
#[derive(Debug, Clone)]
pub(crate) struct Posting {
    pub(crate) component: &'static str,
    pub(crate) style: Style,
    pub(crate) draft: EventDraft,
}

#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Posting>,
}

impl Recorder {
    /// Starts the poster; it ends when the last recorder is dropped. `instance` names this process in Events.
    pub(crate) fn start(requests: Requests, instance: Arc<str>) -> Recorder {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(post_all(requests, instance, receiver));
        Recorder { sender }
    }

    pub(crate) fn record(&self, component: &'static str, style: Style, draft: EventDraft) {
        if self
            .sender
            .try_send(Posting {
                component,
                style,
                draft,
            })
            .is_err()
        {
            tracing::debug!(component, "event was dropped");
        }
    }
}

async fn post_all(requests: Requests, instance: Arc<str>, mut receiver: mpsc::Receiver<Posting>) {
    let mut correlator = Correlator::default();
    while let Some(posting) = receiver.recv().await {
        let now = jiff::Timestamp::now();
        match correlator.judge(&posting, now) {
            Verdict::Drop => {}
            Verdict::Post => post_new(&requests, &instance, &posting, &mut correlator, now).await,
            Verdict::Count { name, count } => {
                let path = format!(
                    "{}/{name}",
                    collection(&Resource::EVENT, wire::namespace(&posting.draft))
                );
                match requests.merge(&path, &wire::repeat(&posting, count, now)).await {
                    // It expired meanwhile.
                    Err(error) if error.is_not_found() => {
                        post_new(&requests, &instance, &posting, &mut correlator, now).await;
                    }
                    Err(error) => tracing::debug!(error = %error, "event was not counted"),
                    Ok(_) => {}
                }
            }
        }
    }
}

async fn post_new(
    requests: &Requests,
    instance: &str,
    posting: &Posting,
    correlator: &mut Correlator,
    now: jiff::Timestamp,
) {
    let name = correlator.name(&posting.draft.regarding.name, now);
    let path = collection(&Resource::EVENT, wire::namespace(&posting.draft));
    match requests
        .create(&path, &wire::event(posting, &name, instance, now))
        .await
    {
        Ok(_) => correlator.posted(posting, name, now),
        // A namespace on its way out takes no more Events; there is nobody left to tell.
        Err(error) => tracing::debug!(error = %error, "event was not recorded"),
    }
}
