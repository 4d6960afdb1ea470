//! Events as JSON, in the two shapes that Kubernetes' components use.

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_controllers::EventDraft;

use super::{Posting, Style};

/// Events about cluster-scoped objects live in `default`.
pub(super) fn namespace(draft: &EventDraft) -> &str {
    if draft.regarding.namespace.is_empty() {
        "default"
    } else {
        &draft.regarding.namespace
    }
}

fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn micros(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A new Event.
pub(super) fn event(posting: &Posting, name: &str, instance: &str, now: Timestamp) -> Value {
    let (draft, about) = (&posting.draft, &posting.draft.regarding);
    let mut regarding = json!({"apiVersion": about.api_version, "kind": about.kind, "name": about.name});
    let more = [
        ("namespace", &about.namespace),
        ("uid", &about.uid),
        ("resourceVersion", &about.resource_version),
    ];
    for (field, value) in more.into_iter().filter(|(_, value)| !value.is_empty()) {
        regarding[field] = json!(value);
    }
    let mut event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace(draft)},
        "involvedObject": regarding,
        "reason": draft.reason,
        "message": draft.message,
        "type": if draft.warning { "Warning" } else { "Normal" },
        "reportingComponent": posting.component,
    });
    match posting.style {
        Style::Source => {
            event["source"] = json!({"component": posting.component});
            event["firstTimestamp"] = json!(seconds(now));
            event["lastTimestamp"] = json!(seconds(now));
            event["count"] = json!(1);
            event["reportingInstance"] = json!("");
        }
        Style::Reporting { action } => {
            event["action"] = json!(action);
            event["eventTime"] = json!(micros(now));
            event["reportingInstance"] = json!(format!("{}-{instance}", posting.component));
        }
    }
    event
}

/// The merge patch that counts a repeat.
pub(super) fn repeat(posting: &Posting, count: i64, now: Timestamp) -> Value {
    match posting.style {
        Style::Source => json!({"count": count, "lastTimestamp": seconds(now)}),
        Style::Reporting { .. } => json!({"series": {"count": count, "lastObservedTime": micros(now)}}),
    }
}
