//! When a Job's pod counts as failed, what its failure policy says of that, and how long to wait before the next try.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pods;

/// Pause after the first failure; doubles with each further one (Kubernetes' 10 s).
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// The longest pause (Kubernetes' 10 min).
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// A pod that is on its way out is replaced, and counted, only once it has ended.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

pub(super) fn is_failed(pod: &Pod, spec: &JobSpec) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_terminating(pod) && !replaces_only_failed(spec),
    }
}

/// What the failure policy says of a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    Count,
    Ignore,
    FailIndex,
    /// With the sentence that the Job's condition carries.
    FailJob(String),
}

/// The first rule that matches decides; without one the failure counts.
pub(super) fn rule_on(pod: &Pod, spec: &JobSpec) -> Ruling {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (index, rule) in rules.enumerate() {
        let Some(what) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Ruling::Ignore,
            "FailIndex" => Ruling::FailIndex,
            "FailJob" => Ruling::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => Ruling::Count,
        };
    }
    Ruling::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let name = pod.metadata.name.as_deref().unwrap_or("");
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = exit_code(codes, pod)?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let kind = patterns
        .filter(|pattern| has_condition(pattern, pod))
        .map(|pattern| &pattern.type_)
        .next()?;
    Some(format!("Pod {namespace}/{name} has condition {kind}"))
}

fn exit_code<'a>(wanted: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<(&'a str, i32)> {
    containers(pod)
        .filter(|container| {
            wanted
                .container_name
                .as_ref()
                .is_none_or(|name| *name == container.name)
        })
        .filter_map(|container| Some((container.name.as_str(), terminated(container)?.0)))
        .find(|(_, code)| *code != 0 && wanted.values.contains(code) == (wanted.operator == "In"))
}

fn has_condition(pattern: &PodFailurePolicyOnPodConditionsPattern, pod: &Pod) -> bool {
    let status = pattern.status.as_deref().unwrap_or("True");
    pods::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == status)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let own = status.and_then(|status| status.container_statuses.as_ref());
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    own.into_iter().chain(init).flatten()
}

fn terminated(container: &ContainerStatus) -> Option<(i32, Option<Timestamp>)> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    Some((ended.exit_code, ended.finished_at.as_ref().map(|time| time.0)))
}

/// How often the containers of a pod that has not ended were started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    if !matches!(pods::phase(pod), "Running" | "Pending") {
        return 0;
    }
    containers(pod).map(|container| container.restart_count).sum()
}

/// When a pod ended, as well as can be told: by its last container, its deletion, or else its making.
pub(super) fn ended_at(pod: &Pod) -> Timestamp {
    let by_container = containers(pod).filter_map(|container| terminated(container)?.1).max();
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    by_container.or(deleted).unwrap_or_else(|| pods::created(pod))
}

/// How long to wait before another pod is made after so many failures in a row; none: not at all.
pub(super) fn pause(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures.checked_sub(1)?).unwrap_or(u32::MAX).min(10);
    let pause = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let since = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
    pause.checked_sub(since).filter(|left| !left.is_zero())
}

/// The pause that all pods' failures since the last success ask for.
pub(super) fn pause_of_all<'a>(
    pods: impl Iterator<Item = &'a Pod> + Clone,
    spec: &JobSpec,
    now: Timestamp,
) -> Option<Duration> {
    let last_success = pods
        .clone()
        .filter(|pod| pods::phase(pod) == "Succeeded")
        .map(ended_at)
        .max();
    let failures: Vec<Timestamp> = pods
        .filter(|pod| is_failed(pod, spec))
        .map(ended_at)
        .filter(|at| last_success.is_none_or(|success| *at > success))
        .collect();
    pause(failures.len(), *failures.iter().max()?, now)
}
