//! Whether a Job is to end, how, and why, in Kubernetes' words.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};

use super::facts::Facts;
use super::failure::{self, Ruling};
use super::indexes::Indexes;

/// How a Job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    fn failure(reason: &str, message: impl Into<String>) -> Verdict {
        Verdict {
            success: false,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// The condition by which the end is announced, and that by which it is confirmed.
    pub(super) fn conditions(&self) -> (&'static str, &'static str) {
        if self.success {
            ("SuccessCriteriaMet", "Complete")
        } else {
            ("FailureTarget", "Failed")
        }
    }

    /// What the status announces already: it is never taken back.
    pub(super) fn announced(status: &JobStatus) -> Option<Verdict> {
        let announced = |kind: &str, success| {
            let condition = condition(status, kind)?;
            Some(Verdict {
                success,
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            })
        };
        announced("SuccessCriteriaMet", true).or_else(|| announced("FailureTarget", false))
    }

    /// What the pods and the clock say.
    pub(super) fn reach(job: &Job, spec: &JobSpec, facts: &Facts<'_>, now: Timestamp) -> Option<Verdict> {
        failed_by_policy(spec, facts)
            .or_else(|| too_many_failures(spec, facts))
            .or_else(|| too_late(job, spec, now))
            .or_else(|| indexes_failed(spec, facts))
            .or_else(|| success_policy(spec, facts))
            .or_else(|| completed(spec, facts))
    }
}

/// The condition of this type, if it is true.
pub(super) fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind && condition.status == "True")
}

/// How a Job has ended; none if it has not.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let status = job.status.as_ref()?;
    condition(status, "Complete").or_else(|| condition(status, "Failed"))
}

pub(super) fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

fn failed_by_policy(spec: &JobSpec, facts: &Facts<'_>) -> Option<Verdict> {
    spec.pod_failure_policy.as_ref()?;
    let failed = facts.pods.iter().filter(|pod| failure::is_failed(pod, spec));
    failed
        .filter_map(|pod| match failure::rule_on(pod, spec) {
            Ruling::FailJob(message) => Some(Verdict::failure("PodFailurePolicy", message)),
            _ => None,
        })
        .next()
}

fn too_many_failures(spec: &JobSpec, facts: &Facts<'_>) -> Option<Verdict> {
    let limit = spec.backoff_limit.unwrap_or(i32::MAX);
    let restarts_too = spec
        .template
        .spec
        .as_ref()
        .and_then(|pod| pod.restart_policy.as_deref())
        == Some("OnFailure");
    let restarts: i32 = facts.active.iter().map(|pod| failure::restarts(pod)).sum();
    let worn_out = restarts_too && restarts > 0 && restarts >= limit;
    (facts.failed() > limit || worn_out)
        .then(|| Verdict::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
}

/// How long the Job may still run; none: as long as it likes.
pub(super) fn time_left(job: &Job, spec: &JobSpec, now: Timestamp) -> Option<Duration> {
    let deadline = spec.active_deadline_seconds.filter(|_| !is_suspended(spec))?;
    let start = job.status.as_ref()?.start_time.as_ref()?.0;
    let allowed = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
    let passed = Duration::try_from(now.duration_since(start)).unwrap_or(Duration::ZERO);
    Some(allowed.saturating_sub(passed))
}

fn too_late(job: &Job, spec: &JobSpec, now: Timestamp) -> Option<Verdict> {
    time_left(job, spec, now)
        .filter(Duration::is_zero)
        .map(|_| Verdict::failure("DeadlineExceeded", "Job was active longer than specified deadline"))
}

fn indexes_failed(spec: &JobSpec, facts: &Facts<'_>) -> Option<Verdict> {
    let failed = facts.failed_indexes.total();
    let all = spec.completions.unwrap_or(i32::MAX);
    if spec.max_failed_indexes.is_some_and(|max| failed > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Verdict::failure("MaxFailedIndexesExceeded", message));
    }
    (failed > 0 && failed + facts.succeeded_indexes.total() >= all)
        .then(|| Verdict::failure("FailedIndexes", "Job has failed indexes"))
}

fn success_policy(spec: &JobSpec, facts: &Facts<'_>) -> Option<Verdict> {
    let (policy, completions) = (spec.success_policy.as_ref()?, spec.completions?);
    let met = policy.rules.iter().position(|rule| {
        let named = rule
            .succeeded_indexes
            .as_ref()
            .map(|text| Indexes::parse(text, completions));
        let done = named.as_ref().map_or(facts.succeeded_indexes.total(), |named| {
            named.common(&facts.succeeded_indexes)
        });
        let wanted = rule.succeeded_count.or(named.map(|named| named.total()));
        wanted.is_some_and(|wanted| done >= wanted)
    })?;
    Some(Verdict {
        success: true,
        reason: "SuccessPolicy".to_owned(),
        message: format!("Matched rules at index {met}"),
    })
}

fn completed(spec: &JobSpec, facts: &Facts<'_>) -> Option<Verdict> {
    let enough = match spec.completions {
        Some(wanted) => facts.succeeded() >= wanted,
        None => facts.succeeded() > 0,
    };
    (enough && facts.active.is_empty()).then(|| Verdict {
        success: true,
        reason: "CompletionsReached".to_owned(),
        message: "Reached expected number of succeeded pods".to_owned(),
    })
}
