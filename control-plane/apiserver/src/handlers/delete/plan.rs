//! What a delete does to an object: nothing, mark it, or remove it. Pure.

use serde_json::Value;
use skiff_api::object;
use skiff_api::time;

use crate::handlers::options::{DeleteOptions, Propagation};
use crate::strategy::{DeleteMode, Strategy};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What to do with the object.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// It is being deleted already and nothing changes.
    Nothing,
    /// Store this marked state.
    Mark(Value),
    /// Take it out of the store; how it looks at its end.
    Remove(Value),
}

pub(super) fn plan(strategy: &dyn Strategy, old: &Value, options: &DeleteOptions, now: i64) -> Plan {
    let mut new = old.clone();
    set_finalizers(&mut new, &finalizers(strategy, old, options));
    let was_terminating = object::is_terminating(old);
    let (period, graceful) = match strategy.delete_mode(old, options.grace_period_seconds) {
        DeleteMode::Immediate => (0, false),
        DeleteMode::Graceful { grace_period_seconds } => (grace_period_seconds, true),
    };
    if was_terminating {
        shorten(&mut new, options.grace_period_seconds, period);
    } else {
        let waits = period > 0 || strategy.has_finalizers(&new);
        if waits || graceful {
            mark(&mut new, now, period);
            strategy.begin_deletion(&mut new);
        }
    }
    let left = object::int_at(&new, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    let stays = strategy.has_finalizers(&new) || (object::is_terminating(&new) && left > 0);
    if !stays {
        Plan::Remove(new)
    } else if new == *old {
        Plan::Nothing
    } else {
        Plan::Mark(new)
    }
}

/// The finalizers that the garbage collector is to act on, after the client's wish.
fn finalizers(strategy: &dyn Strategy, old: &Value, options: &DeleteOptions) -> Vec<String> {
    let existing = object::finalizers(old);
    let has = |name: &str| existing.contains(&name);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(Propagation::Orphan)) => (true, false),
        (None, Some(Propagation::Foreground)) => (false, true),
        (None, Some(Propagation::Background)) => (false, false),
        (None, None) => {
            let by_default = strategy.orphans_by_default().is_some() && !has(FOREGROUND);
            (has(ORPHAN) || by_default, has(FOREGROUND))
        }
    };
    let mut finalizers: Vec<String> = existing
        .iter()
        .filter(|f| !matches!(**f, ORPHAN | FOREGROUND))
        .map(|f| (*f).to_owned())
        .collect();
    if orphan {
        finalizers.push(ORPHAN.to_owned());
    }
    if foreground {
        finalizers.push(FOREGROUND.to_owned());
    }
    finalizers
}

fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = object::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// First mark: the deadline, the period, and a new generation where the kind has one.
fn mark(object: &mut Value, now: i64, period: i64) {
    let generation = object::generation(object);
    let metadata = object::metadata_mut(object);
    metadata.insert("deletionTimestamp".into(), super::deadline(now, period).into());
    metadata.insert("deletionGracePeriodSeconds".into(), period.into());
    if generation > 0 {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// A later delete may only bring the end nearer.
fn shorten(object: &mut Value, requested: Option<i64>, period: i64) {
    let current = object::int_at(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    if requested.is_none() || period >= current {
        return;
    }
    let started = object::deletion_timestamp(object)
        .and_then(time::parse_rfc3339)
        .map(|end| end - current);
    let metadata = object::metadata_mut(object);
    metadata.insert("deletionGracePeriodSeconds".into(), period.into());
    if let Some(started) = started {
        metadata.insert("deletionTimestamp".into(), super::deadline(started, period).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_700_000_000;

    /// A kind that waits for its node, with 30 s unless asked otherwise.
    struct Graceful;
    impl Strategy for Graceful {
        fn info(&self) -> &'static skiff_api::kind::ResourceInfo {
            skiff_api::kind::find("", "v1", "pods", "").unwrap()
        }
        fn delete_mode(&self, _object: &Value, requested: Option<i64>) -> DeleteMode {
            DeleteMode::Graceful {
                grace_period_seconds: requested.unwrap_or(30),
            }
        }
    }

    fn immediate() -> std::sync::Arc<dyn Strategy> {
        crate::generic::strategy("", "v1", "configmaps")
    }

    #[test]
    fn an_object_without_finalizers_goes_at_once() {
        let object = json!({"metadata": {"name": "a"}});
        assert_eq!(
            plan(&*immediate(), &object, &DeleteOptions::default(), NOW),
            Plan::Remove(object.clone())
        );
    }

    #[test]
    fn a_finalizer_keeps_a_marked_object() {
        let object = json!({"metadata": {"name": "a", "generation": 3, "finalizers": ["x/y"]}});
        let Plan::Mark(marked) = plan(&*immediate(), &object, &DeleteOptions::default(), NOW) else {
            panic!()
        };
        assert_eq!(
            marked["metadata"],
            json!({"name": "a", "generation": 4, "finalizers": ["x/y"],
                "deletionTimestamp": "2023-11-14T22:13:20Z", "deletionGracePeriodSeconds": 0})
        );
        assert_eq!(
            plan(&*immediate(), &marked, &DeleteOptions::default(), NOW + 5),
            Plan::Nothing
        );
    }

    #[test]
    fn propagation_becomes_a_finalizer() {
        let object = json!({"metadata": {"name": "a"}});
        for (propagation, finalizer) in [(Propagation::Foreground, FOREGROUND), (Propagation::Orphan, ORPHAN)] {
            let options = DeleteOptions {
                propagation: Some(propagation),
                ..DeleteOptions::default()
            };
            let Plan::Mark(marked) = plan(&*immediate(), &object, &options, NOW) else {
                panic!()
            };
            assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        }
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        let foreground = json!({"metadata": {"name": "a", "finalizers": [FOREGROUND]}});
        assert!(matches!(
            plan(&*immediate(), &foreground, &background, NOW),
            Plan::Remove(_)
        ));
    }

    #[test]
    fn deleting_a_pod_waits_for_its_grace_period() {
        let pod = json!({"metadata": {"name": "a"}});
        let Plan::Mark(marked) = plan(&Graceful, &pod, &DeleteOptions::default(), NOW) else {
            panic!()
        };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2023-11-14T22:13:50Z");
        // Again, without a wish or with a longer one: nothing changes.
        assert_eq!(
            plan(&Graceful, &marked, &DeleteOptions::default(), NOW + 1),
            Plan::Nothing
        );
        let longer = DeleteOptions {
            grace_period_seconds: Some(60),
            ..DeleteOptions::default()
        };
        assert_eq!(plan(&Graceful, &marked, &longer, NOW + 1), Plan::Nothing);
        // A shorter one counts from the first delete.
        let shorter = DeleteOptions {
            grace_period_seconds: Some(10),
            ..DeleteOptions::default()
        };
        let Plan::Mark(sooner) = plan(&Graceful, &marked, &shorter, NOW + 1) else {
            panic!()
        };
        assert_eq!(sooner["metadata"]["deletionTimestamp"], "2023-11-14T22:13:30Z");
        let now = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        assert!(matches!(plan(&Graceful, &marked, &now, NOW + 1), Plan::Remove(_)));
    }
}
