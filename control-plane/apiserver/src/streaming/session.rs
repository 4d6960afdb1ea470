//! What bounds every session: how many there are, and that its user may still have it.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use skiff_api::status::{ApiResult, ApiStatus};
use tokio::sync::OwnedSemaphorePermit;

use crate::authz::{Attributes, Decision};
use crate::chain::{attributes, forbidden};
use crate::limits;
use crate::plugins::PluginRequest;
use crate::server::ApiServer;

/// A session of someone who lost the right to it ends within this time.
const AUTHORIZE_INTERVAL: Duration = Duration::from_secs(30);

/// A session's right to be.
pub struct Lease {
    server: Arc<ApiServer>,
    /// All of these must be allowed, now and while it lasts.
    rights: Vec<Attributes>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Takes a place and checks what the chain has not: who opens a connection by GET, as WebSockets do, needs the verb
    /// `create` too, so that a right to read is none to run commands.
    ///
    /// # Errors
    /// 403, and 429 when there are too many sessions.
    pub async fn take(server: &Arc<ApiServer>, asked: Attributes) -> ApiResult<Self> {
        let mut rights = vec![asked.clone()];
        if asked.verb != "create" {
            let verb = "create".to_owned();
            rights.push(Attributes { verb, ..asked });
        }
        let permit = server.sessions.clone().try_acquire_owned().map_err(|_| {
            ApiStatus::too_many_requests(
                "too many exec, attach and port-forward sessions are open",
                limits::RETRY_AFTER_SECONDS,
            )
        })?;
        let lease = Self {
            server: server.clone(),
            rights,
            _permit: permit,
        };
        match lease.refusal().await {
            Some(refusal) => Err(refusal),
            None => Ok(lease),
        }
    }

    async fn refusal(&self) -> Option<Box<ApiStatus>> {
        for right in &self.rights {
            if let Decision::NoOpinion { reason } = self.server.authorize(right).await {
                return Some(forbidden(right, &reason));
            }
        }
        None
    }

    /// Returns when the session must end: the right is gone, or the server stops.
    pub async fn lost(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(AUTHORIZE_INTERVAL) => {}
                () = self.server.draining.cancelled() => return,
            }
            if self.refusal().await.is_some() {
                return;
            }
        }
    }

    pub fn server(&self) -> &Arc<ApiServer> {
        &self.server
    }
}

/// What the request asks to be allowed.
pub fn asked(request: &PluginRequest) -> Attributes {
    attributes(&request.info, &request.parts, &request.user)
}

/// The connection to come, if the request came over one that can be taken over.
pub fn connection(request: &mut PluginRequest) -> ApiResult<OnUpgrade> {
    request
        .parts
        .extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiStatus::bad_request("Upgrade request required"))
}
