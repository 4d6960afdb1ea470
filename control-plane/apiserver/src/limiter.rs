//! How many requests may be in work at once, by who asks and for how long.

use std::sync::Arc;

use skiff_api::status::{ApiResult, ApiStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authn::UserInfo;
use crate::limits;
use crate::request_info::RequestInfo;

/// Held while a request is in work; for a watch until its stream ends.
pub type Permit = OwnedSemaphorePermit;

/// The four budgets.
pub struct Limiter {
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    system_requests: Arc<Semaphore>,
    system_watches: Arc<Semaphore>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits::REQUESTS_MAX)),
            watches: Arc::new(Semaphore::new(limits::WATCHES_MAX)),
            system_requests: Arc::new(Semaphore::new(limits::SYSTEM_REQUESTS_MAX)),
            system_watches: Arc::new(Semaphore::new(limits::SYSTEM_WATCHES_MAX)),
        }
    }
}

impl Limiter {
    /// A place in the budget of this request; 429 when it is full.
    pub fn admit(&self, user: &UserInfo, info: &RequestInfo) -> ApiResult<Permit> {
        let budget = match (is_system(user), is_long_running(info)) {
            (false, false) => &self.requests,
            (false, true) => &self.watches,
            (true, false) => &self.system_requests,
            (true, true) => &self.system_watches,
        };
        budget.clone().try_acquire_owned().map_err(|_| {
            ApiStatus::too_many_requests(
                "The apiserver cannot handle any more requests at this time. Please try again later.",
                limits::RETRY_AFTER_SECONDS,
            )
        })
    }
    /// Requests and long answers in work now.
    pub fn in_flight(&self) -> (usize, usize) {
        let used = |budget: &Semaphore, max: usize| max - budget.available_permits();
        (
            used(&self.requests, limits::REQUESTS_MAX) + used(&self.system_requests, limits::SYSTEM_REQUESTS_MAX),
            used(&self.watches, limits::WATCHES_MAX) + used(&self.system_watches, limits::SYSTEM_WATCHES_MAX),
        )
    }
}

/// Nodes, the control plane's own parts and the administrator: never starved by users. ServiceAccounts are users here.
fn is_system(user: &UserInfo) -> bool {
    user.in_group("system:nodes") || user.in_group("system:masters") || user.name.starts_with("system:kube-")
}

fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch"
        || matches!(
            info.subresource.as_str(),
            "log" | "exec" | "attach" | "portforward" | "proxy"
        )
        || info.path.starts_with("/skiff/v1/tunnel")
        // Held until the code is there, or while a module is sent.
        || info.path.starts_with(skiff_api::compiled::PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_open_is_long_running() {
        let is_long = |path: &str| is_long_running(&RequestInfo::parse(&hyper::Method::GET, path, ""));
        assert!(is_long("/skiff/v1/compiled/sha256:00") && is_long("/skiff/v1/tunnel"));
        assert!(is_long("/api/v1/namespaces/n/pods/p/log"));
        assert!(!is_long("/api/v1/namespaces/n/pods/p") && !is_long("/skiff/v1/join"));
    }
}
