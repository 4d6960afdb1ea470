//! Event expiry: Events are deleted some time after they were last seen. Kubernetes leaves that to leases of etcd; here it
//! is a sweep, so that it holds for every store.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use crate::plan::{Action, Plan, Report, Resource, Target};

/// In logs.
pub const NAME: &str = "event-expiry-controller";

/// When the Event was last seen: the latest of its times.
pub fn last_seen(event: &Event) -> Timestamp {
    let seconds =
        |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|time| time.0);
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref())
        .map(|time| time.0);
    let created = seconds(&event.metadata.creation_timestamp);
    let times = [
        created,
        seconds(&event.last_timestamp),
        event.event_time.as_ref().map(|time| time.0),
        series,
    ];
    times.into_iter().flatten().max().unwrap_or(Timestamp::MAX)
}

/// Deletes those of a page of Events that are older than `ttl`. The version is a precondition: an Event that is counted
/// once more meanwhile stays.
pub fn sweep(events: &[Event], ttl: Duration, now: Timestamp) -> Plan {
    let expired = |event: &&Event| now.duration_since(last_seen(event)).as_secs_f64() > ttl.as_secs_f64();
    let actions: Vec<Action> = events
        .iter()
        .filter(expired)
        .map(|event| Action::delete(Target::exact(Resource::EVENT, &event.metadata)))
        .collect();
    let report = if actions.is_empty() {
        Report::Settled
    } else {
        Report::TooMany {
            have: actions.len(),
            want: 0,
        }
    };
    Plan {
        actions,
        report,
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{describe, from_yaml, now};
    use expect_test::expect;

    #[test]
    fn an_event_lives_from_when_it_was_last_seen() {
        let event = |name: &str, times: &str| {
            (*from_yaml::<Event>(&format!("{{metadata: {{name: {name}, namespace: d, uid: {name}, resourceVersion: '1', creationTimestamp: '2026-01-01T10:00:00Z'}}, involvedObject: {{}}, {times}}}"))).clone()
        };
        let events = [
            event("old", "count: 1"),
            event("counted", "lastTimestamp: '2026-01-01T11:30:00Z'"),
            event(
                "series",
                "series: {count: 2, lastObservedTime: '2026-01-01T11:59:00.000000Z'}",
            ),
        ];
        expect![[r#"
            delete Event d/old uid=old rv=1
            report TooMany { have: 1, want: 0 }
        "#]]
        .assert_eq(&describe(&sweep(&events, Duration::from_secs(3600), now())));
    }
}
