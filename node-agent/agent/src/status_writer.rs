//! Writes one pod's status: one request at a time, always the newest state, and in the end the deletion for good.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Waits between tries while the server does not answer.
const RETRY_INITIAL: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A request that takes longer is tried again: the connection may be dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a state is held back that is about to be replaced: a pod that starts at once then needs one write less.
const HOLD: Duration = Duration::from_millis(100);

/// What the writer should make true.
#[derive(Clone, Default)]
struct Wanted {
    status: Option<Arc<PodStatus>>,
    hold_until: Option<Instant>,
    /// The pod as the server last showed it.
    seen: Option<Arc<Pod>>,
    delete: bool,
}

/// Handle of the task; dropping it ends the task once nothing is left to write.
pub(crate) struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    done: watch::Receiver<bool>,
}

impl StatusWriter {
    pub(crate) fn start(client: kube::Client, pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let (wanted, receiver) = watch::channel(Wanted::default());
        let (done_sender, done) = watch::channel(false);
        let task = Task {
            api: Api::namespaced(client, meta.namespace.as_deref().unwrap_or("default")),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            written: pod.status.clone().unwrap_or_default(),
            revision: revision(pod),
        };
        tokio::spawn(async move {
            task.run(receiver).await;
            done_sender.send_replace(true);
        });
        Self { wanted, done }
    }

    /// `soon_replaced`: a newer state will most likely follow at once, which is then written in place of this one.
    pub(crate) fn write(&self, status: PodStatus, soon_replaced: bool) {
        self.wanted.send_modify(|wanted| {
            wanted.status = Some(Arc::new(status));
            wanted.hold_until = soon_replaced.then(|| Instant::now() + HOLD);
        });
    }

    /// Looks whether someone else changed the status since we wrote it (the node controller does, when it has not heard
    /// of us); if so ours is written again.
    pub(crate) fn compare(&self, pod: &Arc<Pod>) {
        self.wanted.send_if_modified(|wanted| {
            let is_new = !wanted.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, pod));
            if is_new {
                wanted.seen = Some(pod.clone());
            }
            is_new
        });
    }

    /// Deletes the pod for good after its last status is written, and waits for that.
    pub(crate) async fn delete(&mut self) {
        self.wanted.send_modify(|wanted| wanted.delete = true);
        // An error means that the task has ended, which is what we wait for.
        let _ = self.done.wait_for(|done| *done).await;
    }
}

struct Task {
    api: Api<Pod>,
    name: String,
    uid: String,
    /// What the server has, as far as we know.
    written: PodStatus,
    /// resourceVersion that our last write made.
    revision: u64,
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_ref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Whether what others act on is the same.
fn agree(a: &PodStatus, b: &PodStatus) -> bool {
    let condition = |status: &PodStatus, type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions
            .find(|condition| condition.type_ == type_)
            .map(|condition| condition.status.clone())
    };
    a.phase == b.phase
        && a.pod_ip == b.pod_ip
        && ["Ready", "ContainersReady", "Initialized"]
            .iter()
            .all(|type_| condition(a, type_) == condition(b, type_))
}

impl Task {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let now = wanted.borrow_and_update().clone();
            if let Some(until) = now.hold_until {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    changed = wanted.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
            if let Some(theirs) = now.seen.as_ref().filter(|seen| revision(seen) > self.revision) {
                self.revision = revision(theirs);
                let theirs = theirs.status.clone().unwrap_or_default();
                if !agree(&theirs, &self.written) {
                    self.written = theirs;
                }
            }
            if let Some(status) = &now.status
                && **status != self.written
                && !self.write_status(status, &mut wanted).await
            {
                return;
            }
            // Something newer may have come while we wrote.
            if wanted.has_changed().unwrap_or(false) {
                continue;
            }
            if now.delete {
                return self.delete().await;
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    /// False when the pod is gone from the server.
    async fn write_status(&mut self, status: &PodStatus, wanted: &mut watch::Receiver<Wanted>) -> bool {
        let patch = Patch::Strategic(patch(&self.uid, &self.written, status));
        let mut delay = RETRY_INITIAL;
        loop {
            let params = PatchParams::default();
            let request = self.api.patch_status(&self.name, &params, &patch);
            match tokio::time::timeout(WRITE_TIMEOUT, request).await {
                Ok(Ok(pod)) => {
                    self.revision = revision(&pod);
                    self.written = status.clone();
                    return true;
                }
                Ok(Err(kube::Error::Api(answer))) if answer.code == 404 || answer.code == 409 => {
                    debug!(pod = self.name, code = answer.code, "the pod is gone from the server");
                    return false;
                }
                Ok(Err(kube::Error::Api(answer))) if answer.code < 500 && answer.code != 429 => {
                    warn!(
                        pod = self.name,
                        code = answer.code,
                        message = answer.message,
                        "status was refused"
                    );
                    return true;
                }
                Ok(Err(error)) => debug!(pod = self.name, %error, "could not write status yet"),
                Err(_) => debug!(pod = self.name, "writing status took too long"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_MAX);
            // A newer state replaces this one; nothing is lost by going round.
            if wanted.has_changed().unwrap_or(false) {
                return true;
            }
        }
    }

    async fn delete(&self) {
        let mut delay = RETRY_INITIAL;
        let preconditions = Preconditions {
            uid: Some(self.uid.clone()),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        loop {
            match tokio::time::timeout(WRITE_TIMEOUT, self.api.delete(&self.name, &params)).await {
                Ok(Ok(_)) => return,
                Ok(Err(kube::Error::Api(answer))) if answer.code == 404 || answer.code == 409 => return,
                Ok(Err(error)) => debug!(pod = self.name, %error, "could not delete the pod yet"),
                Err(_) => debug!(pod = self.name, "deleting the pod took too long"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_MAX);
        }
    }
}

/// A strategic merge patch that turns `old` into `new`: fields that went away become null. The uid makes it miss a pod
/// of the same name that came after ours.
fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Value {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (old, mut new) = (object(old), object(new));
    for key in old.keys() {
        // Set by others: the scheduler and the resize and claim controllers.
        if !["nominatedNodeName", "resize", "resourceClaimStatuses"].contains(&key.as_str()) {
            new.entry(key.clone()).or_insert(Value::Null);
        }
    }
    if let Some(Value::Array(conditions)) = new.get_mut("conditions") {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            condition.entry("reason").or_insert(Value::Null);
            condition.entry("message").or_insert(Value::Null);
        }
    }
    // podIPs merge by address: another address must replace the list.
    if old.get("podIPs").is_some_and(|ips| Some(ips) != new.get("podIPs"))
        && let Some(Value::Array(ips)) = new.get_mut("podIPs")
    {
        ips.insert(0, json!({ "$patch": "replace" }));
    }
    json!({ "metadata": { "uid": uid }, "status": new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_away_is_nulled_and_a_changed_address_replaces_the_old_one() {
        let status = |value: Value| serde_json::from_value::<PodStatus>(value).unwrap();
        let old = status(json!({
            "phase": "Pending", "reason": "x", "podIPs": [{ "ip": "10.0.0.1" }], "nominatedNodeName": "n",
        }));
        let new = status(json!({
            "phase": "Running", "podIPs": [{ "ip": "10.0.0.2" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        }));
        assert_eq!(
            patch("u", &old, &new),
            json!({
                "metadata": { "uid": "u" },
                "status": {
                    "phase": "Running", "reason": null,
                    "podIPs": [{ "$patch": "replace" }, { "ip": "10.0.0.2" }],
                    "conditions": [{ "type": "Ready", "status": "True", "reason": null, "message": null }],
                }
            })
        );
    }
}
