//! Leader election by Lease: one process works, the others stand by with warm caches.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_controllers::ObjectKey;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::LeaseTimes;
use crate::requests::{RequestError, Requests};

const NAMESPACE: &str = "kube-system";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

pub(crate) struct Election {
    pub(crate) requests: Requests,
    /// `kube-controller-manager`, `kube-scheduler`: Kubernetes' names, so that its tools find them.
    pub(crate) lease: &'static str,
    pub(crate) identity: String,
    pub(crate) times: LeaseTimes,
}

/// What a look at the lease showed.
enum Look {
    /// It is ours, renewed now.
    Held,
    /// Someone else's, or a write raced with ours.
    Lost,
}

/// The last state seen of a lease that someone else holds, and when it was first seen so. Expiry is counted by our own
/// clock from there: the holder's clock may differ from ours.
#[derive(Default)]
struct Rival {
    renewed: String,
    since: Option<Instant>,
}

impl Election {
    /// Calls `work` each time that this process becomes leader, with a token that ends with the leadership. Returns when
    /// `stop` is cancelled; the lease is then given back.
    pub(crate) async fn run<F>(&self, stop: CancellationToken, work: impl Fn(CancellationToken) -> F)
    where
        F: Future<Output = ()>,
    {
        let mut rival = Rival::default();
        loop {
            if let Ok(Look::Held) = self.try_hold(&mut rival).await {
                tracing::info!(lease = self.lease, "became leader");
                let term = stop.child_token();
                tokio::join!(work(term.clone()), self.keep(&term, &mut rival));
                if stop.is_cancelled() {
                    self.give_back().await;
                    return;
                }
                tracing::warn!(lease = self.lease, "lost the leadership");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.times.retry) => {}
            }
        }
    }

    /// Renews until that has failed for too long or the term is cancelled; cancels the term.
    async fn keep(&self, term: &CancellationToken, rival: &mut Rival) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(self.times.retry) => {}
            }
            match tokio::time::timeout(self.times.renew_deadline, self.try_hold(rival)).await {
                Ok(Ok(Look::Held)) => renewed = Instant::now(),
                Ok(Ok(Look::Lost)) => break,
                Ok(Err(error)) => tracing::debug!(lease = self.lease, error = %error, "lease was not renewed"),
                Err(_) => {}
            }
            if renewed.elapsed() > self.times.renew_deadline {
                break;
            }
        }
        term.cancel();
    }

    async fn try_hold(&self, rival: &mut Rival) -> Result<Look, RequestError> {
        let path = format!("{LEASES}/{}", self.lease);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let found = match self.requests.get(&path).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                let lease = self.lease_object(json!({"name": self.lease, "namespace": NAMESPACE}), &now, &now, 0);
                return match self.requests.create(LEASES, &lease).await {
                    Ok(_) => Ok(Look::Held),
                    Err(error) if error.code() == 409 => Ok(Look::Lost),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let text = |pointer: &str| found.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
        let holder = text("/spec/holderIdentity");
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && !self.has_expired(rival, &text("/spec/renewTime")) {
            return Ok(Look::Lost);
        }
        let transitions = found
            .pointer("/spec/leaseTransitions")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let (acquired, transitions) = if ours {
            (text("/spec/acquireTime"), transitions)
        } else {
            (now.clone(), transitions + 1)
        };
        let lease = self.lease_object(found["metadata"].clone(), &acquired, &now, transitions);
        match self.requests.replace(&path, &lease).await {
            Ok(_) => Ok(Look::Held),
            Err(error) if error.code() == 409 => Ok(Look::Lost),
            Err(error) => Err(error),
        }
    }

    fn lease_object(&self, metadata: Value, acquired: &str, renewed: &str, transitions: i64) -> Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.times.duration.as_secs().max(1),
                "acquireTime": acquired,
                "renewTime": renewed,
                "leaseTransitions": transitions,
            },
        })
    }

    fn has_expired(&self, rival: &mut Rival, renewed: &str) -> bool {
        if rival.renewed != renewed {
            rival.renewed = renewed.to_owned();
            rival.since = Some(Instant::now());
        }
        rival.since.is_some_and(|since| since.elapsed() >= self.times.duration)
    }

    /// Leaves the lease without a holder, so that the next one need not wait.
    async fn give_back(&self) {
        let path = format!("{LEASES}/{}", self.lease);
        let give_back = async {
            let mut lease = self.requests.get(&path).await?;
            if lease.pointer("/spec/holderIdentity").and_then(Value::as_str) == Some(self.identity.as_str()) {
                lease["spec"]["holderIdentity"] = json!("");
                lease["spec"]["leaseDurationSeconds"] = json!(1);
                self.requests.replace(&path, &lease).await?;
            }
            Ok::<(), RequestError>(())
        };
        // The server may be going down as well; that must not hold us up.
        if !matches!(
            tokio::time::timeout(Duration::from_secs(1), give_back).await,
            Ok(Ok(()))
        ) {
            tracing::debug!(lease = %ObjectKey::new(NAMESPACE, self.lease), "lease was not given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeApi;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn election(api: &FakeApi, identity: &str) -> Election {
        let times = LeaseTimes {
            duration: Duration::from_secs(3600),
            renew_deadline: Duration::from_secs(1800),
            retry: Duration::from_millis(2),
        };
        Election {
            requests: api.requests(),
            lease: "kube-scheduler",
            identity: identity.into(),
            times,
        }
    }

    fn holder(api: &FakeApi) -> String {
        let lease = api.get(&format!("{LEASES}/kube-scheduler")).unwrap();
        lease["spec"]["holderIdentity"].as_str().unwrap_or("").to_owned()
    }

    #[tokio::test]
    async fn a_lease_that_is_given_back_is_taken_at_once_by_the_next() {
        let api = FakeApi::default();
        let (first, second) = (election(&api, "one"), election(&api, "two"));
        let (stop_first, stop_second) = (CancellationToken::new(), CancellationToken::new());
        let leaders = Arc::new(AtomicUsize::new(0));
        let work = |stop: CancellationToken| {
            let leaders = leaders.clone();
            move |term: CancellationToken| {
                let (leaders, stop) = (leaders.clone(), stop.clone());
                async move {
                    assert_eq!(leaders.fetch_add(1, Ordering::SeqCst), 0, "two leaders at once");
                    stop.cancel();
                    term.cancelled().await;
                    leaders.fetch_sub(1, Ordering::SeqCst);
                }
            }
        };
        first.run(stop_first.clone(), work(stop_first)).await;
        assert_eq!(holder(&api), "");
        second.run(stop_second.clone(), work(stop_second)).await;
        assert_eq!(holder(&api), "");
        let lease = api.get(&format!("{LEASES}/kube-scheduler")).unwrap();
        assert_eq!(lease["spec"]["leaseTransitions"], 1);
    }

    #[tokio::test]
    async fn a_held_lease_is_left_alone_until_it_stands_still_for_its_duration() {
        let api = FakeApi::default();
        let (one, mut two) = (election(&api, "one"), election(&api, "two"));
        assert!(matches!(one.try_hold(&mut Rival::default()).await, Ok(Look::Held)));
        let mut rival = Rival::default();
        assert!(matches!(two.try_hold(&mut rival).await, Ok(Look::Lost)));
        assert!(matches!(one.try_hold(&mut Rival::default()).await, Ok(Look::Held)));
        assert_eq!(holder(&api), "one");
        two.times.duration = Duration::ZERO;
        assert!(matches!(two.try_hold(&mut rival).await, Ok(Look::Held)));
        assert_eq!(holder(&api), "two");
        assert!(matches!(one.try_hold(&mut Rival::default()).await, Ok(Look::Lost)));
    }
}
