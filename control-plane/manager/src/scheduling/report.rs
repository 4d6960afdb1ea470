//! What users see of scheduling: the condition PodScheduled and the Events.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use skiff_controllers::{EventDraft, ObjectKey, Regarding, Resource};

use super::{SCHEDULER_NAME, Scheduling};
use crate::recorder::{Recorder, Style};
use crate::requests::object;

const POD_SCHEDULED: &str = "PodScheduled";

pub(super) fn assigned(recorder: &Recorder, pod: &Pod, node: &str) {
    let draft = EventDraft {
        regarding: Regarding::of(&Resource::POD, &pod.metadata),
        warning: false,
        reason: "Scheduled",
        message: format!("Successfully assigned {} to {node}", ObjectKey::of(&pod.metadata)),
    };
    recorder.record(SCHEDULER_NAME, Style::Reporting { action: "Binding" }, draft);
}

impl Scheduling {
    pub(super) async fn report(&self, pod: &Arc<Pod>, message: &str) {
        let draft = EventDraft {
            regarding: Regarding::of(&Resource::POD, &pod.metadata),
            warning: true,
            reason: "FailedScheduling",
            message: message.to_owned(),
        };
        self.recorder
            .record(SCHEDULER_NAME, Style::Reporting { action: "Scheduling" }, draft);
        let Some(conditions) = unschedulable(pod, message, jiff::Timestamp::now()) else {
            return;
        };
        let key = ObjectKey::of(&pod.metadata);
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        match self
            .requests
            .merge(&format!("{}/status", object(&Resource::POD, &key)), &patch)
            .await
        {
            Ok(_) => {}
            // Someone else wrote first; the pod is looked at again with what they wrote.
            Err(error) if error.code() == 409 => self.queue.add(key),
            Err(error) => tracing::debug!(pod = %key, error = %error, "condition was not written"),
        }
    }
}

/// The pod's conditions with PodScheduled as it should be, or nothing if it is.
fn unschedulable(pod: &Pod, message: &str, now: jiff::Timestamp) -> Option<Vec<PodCondition>> {
    let mut list = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let current = list.iter().find(|condition| condition.type_ == POD_SCHEDULED).cloned();
    let unchanged = current.as_ref().is_some_and(|one| {
        one.status == "False"
            && one.reason.as_deref() == Some("Unschedulable")
            && one.message.as_deref() == Some(message)
            && one.observed_generation == pod.metadata.generation
    });
    if unchanged {
        return None;
    }
    let since = current
        .filter(|one| one.status == "False")
        .and_then(|one| one.last_transition_time);
    list.retain(|condition| condition.type_ != POD_SCHEDULED);
    let now = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    list.push(PodCondition {
        type_: POD_SCHEDULED.to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    });
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_written_when_its_text_changes_only() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a", "generation": 1}})).unwrap();
        let now: jiff::Timestamp = "2026-01-01T12:00:00.5Z".parse().unwrap();
        let list = unschedulable(&pod, "no", now).unwrap();
        let mut written = pod.clone();
        written.status = Some(k8s_openapi::api::core::v1::PodStatus {
            conditions: Some(list.clone()),
            ..Default::default()
        });
        assert_eq!(unschedulable(&written, "no", now), None);
        let later: jiff::Timestamp = "2026-01-01T13:00:00Z".parse().unwrap();
        let changed = unschedulable(&written, "still no", later).unwrap();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].last_transition_time, list[0].last_transition_time);
    }
}
