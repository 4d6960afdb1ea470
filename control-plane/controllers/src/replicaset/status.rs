//! A ReplicaSet's status: counts, and the condition ReplicaFailure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::conditions;
use crate::controller::{Context, FailedVerb};
use crate::plan::{Action, Report, Resource, Target};
use crate::pods;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The patch that makes the status true, or nothing if it is.
pub(super) fn plan(
    set: &ReplicaSet,
    active: &[&Arc<Pod>],
    terminating: usize,
    report: &Report,
    ctx: &Context,
) -> Option<Action> {
    let spec = set.spec.as_ref()?;
    let empty = ReplicaSetStatus::default();
    let old = set.status.as_ref().unwrap_or(&empty);
    let template_labels = spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref()?.labels.as_ref())
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    let fully_labelled = |pod: &Pod| {
        template_labels
            .iter()
            .all(|(key, value)| pod.metadata.labels.as_ref().and_then(|map| map.get(*key)) == Some(value))
    };
    let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|pod| test(pod)).count() as i32;
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let conditions = failure_conditions(old, report, ctx);
    let new = ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: Some(count(&fully_labelled)),
        ready_replicas: Some(count(&pods::is_ready)),
        available_replicas: Some(count(&|pod| pods::is_available(pod, min_ready, ctx.now))),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions
            .clone()
            .filter(|list| !list.is_empty())
            .or_else(|| old.conditions.clone()),
    };
    let number = |value: Option<i32>| value.unwrap_or(0);
    let same = old.replicas == new.replicas
        && number(old.fully_labeled_replicas) == number(new.fully_labeled_replicas)
        && number(old.ready_replicas) == number(new.ready_replicas)
        && number(old.available_replicas) == number(new.available_replicas)
        && old.terminating_replicas == new.terminating_replicas
        && old.observed_generation == new.observed_generation
        && conditions.is_none();
    if same {
        return None;
    }
    let mut status = json!({
        "replicas": new.replicas,
        "fullyLabeledReplicas": conditions::omit_zero(number(new.fully_labeled_replicas)),
        "readyReplicas": conditions::omit_zero(number(new.ready_replicas)),
        "availableReplicas": conditions::omit_zero(number(new.available_replicas)),
        "terminatingReplicas": new.terminating_replicas,
        "observedGeneration": new.observed_generation,
    });
    if let Some(list) = conditions {
        status["conditions"] = if list.is_empty() { Value::Null } else { json!(list) };
    }
    Some(Action::patch_status(
        Target::exact(Resource::REPLICA_SET, &set.metadata),
        json!({"status": status}),
    ))
}

/// The new list of conditions if it differs from the old one.
fn failure_conditions(
    old: &ReplicaSetStatus,
    report: &Report,
    ctx: &Context,
) -> Option<Vec<k8s_openapi::api::apps::v1::ReplicaSetCondition>> {
    let existing = old
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == REPLICA_FAILURE);
    let failing = !matches!(report, Report::Settled);
    let wanted = ctx.failure.as_ref().filter(|_| failing).map(|failure| {
        let reason = if failure.verb == FailedVerb::Delete {
            "FailedDelete"
        } else {
            "FailedCreate"
        };
        (reason, failure.message.clone())
    });
    let mut rest: Vec<_> = old
        .conditions
        .iter()
        .flatten()
        .filter(|one| one.type_ != REPLICA_FAILURE)
        .cloned()
        .collect();
    match (existing, wanted) {
        (None, None) => None,
        (Some(one), Some((reason, _))) if one.reason.as_deref() == Some(reason) && one.status == "True" => None,
        // Not known to be over: nothing has succeeded yet since.
        (Some(_), None) if failing => None,
        (Some(_), None) => Some(rest),
        (_, Some((reason, message))) => {
            rest.push(k8s_openapi::api::apps::v1::ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(conditions::whole_second(ctx.now)),
            });
            Some(rest)
        }
    }
}
