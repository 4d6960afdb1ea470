//! What a Job's pods say: who runs, who has ended, who is counted already, and who is to be let go.
//!
//! A pod is counted once, whatever crashes: first its uid goes into `status.uncountedTerminatedPods`, then its finalizer
//! is taken off, and only when that is seen does the uid turn into a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::failure::{self, Ruling};
use super::indexes::Indexes;
use super::{COMPLETION_INDEX, FAILURE_COUNT, IGNORED_FAILURE_COUNT, TRACKING};
use crate::pods;

/// Uids in the status at once (Kubernetes' 500): the rest follows when these are counted.
const UNCOUNTED_MAX: usize = 500;

/// The pods, sorted out.
pub(super) struct Facts<'a> {
    pub(super) pods: Vec<&'a Arc<Pod>>,
    pub(super) active: Vec<&'a Arc<Pod>>,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    /// In numbers already.
    pub(super) counted_succeeded: i32,
    pub(super) counted_failed: i32,
    /// Noted in the status, the finalizer still seen.
    pub(super) uncounted_succeeded: Vec<String>,
    pub(super) uncounted_failed: Vec<String>,
    /// Indexed Jobs only.
    pub(super) succeeded_indexes: Indexes,
    /// Jobs with a limit per index only.
    pub(super) failed_indexes: Indexes,
    /// Ended and not yet noted.
    new_succeeded: Vec<&'a Arc<Pod>>,
    new_failed: Vec<&'a Arc<Pod>>,
    completions: Option<i32>,
    per_index: bool,
    failing: bool,
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == TRACKING)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or("")
}

fn number(pod: &Pod, annotation: &str) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// The pod's completion index, if it is one of the Job's.
pub(super) fn index_of(pod: &Pod, completions: Option<i32>) -> Option<i32> {
    number(pod, COMPLETION_INDEX).filter(|index| *index >= 0 && completions.is_none_or(|all| *index < all))
}

/// Failures of the pod's index before this pod: those that count, and those that are ignored.
fn failures_before(pod: &Pod) -> (i32, i32) {
    let count = |annotation| number(pod, annotation).unwrap_or(0).max(0);
    (count(FAILURE_COUNT), count(IGNORED_FAILURE_COUNT))
}

/// The same with this pod's own failure.
pub(super) fn failures_with(pod: &Pod, spec: &JobSpec) -> (i32, i32) {
    let (counted, ignored) = failures_before(pod);
    match failure::rule_on(pod, spec) {
        Ruling::Ignore => (counted, ignored.saturating_add(1)),
        _ => (counted.saturating_add(1), ignored),
    }
}

impl<'a> Facts<'a> {
    /// `failing`: the Job is known to fail, so that pods on their way out have failed too.
    pub(super) fn gather(spec: &JobSpec, old: &JobStatus, pods: Vec<&'a Arc<Pod>>, failing: bool) -> Facts<'a> {
        let completions = spec
            .completions
            .filter(|_| spec.completion_mode.as_deref() == Some("Indexed"));
        let tracked: BTreeSet<&str> = pods.iter().filter(|pod| is_tracked(pod)).map(|pod| uid(pod)).collect();
        let noted = old.uncounted_terminated_pods.clone().unwrap_or_default();
        let split = |uids: Option<Vec<String>>| -> (Vec<String>, i32) {
            let (left, gone): (Vec<_>, Vec<_>) = uids
                .unwrap_or_default()
                .into_iter()
                .partition(|uid| tracked.contains(uid.as_str()));
            (left, i32::try_from(gone.len()).unwrap_or(i32::MAX))
        };
        let (uncounted_succeeded, more_succeeded) = split(noted.succeeded);
        let (uncounted_failed, more_failed) = split(noted.failed);
        let active: Vec<_> = pods.iter().copied().filter(|pod| pods::is_active(pod)).collect();
        let count = |test: &dyn Fn(&Pod) -> bool| pods.iter().filter(|pod| test(pod)).count() as i32;
        let mut facts = Facts {
            ready: active.iter().filter(|pod| pods::is_ready(pod)).count() as i32,
            terminating: count(&|pod| pods::is_terminating(pod) && !pods::is_finished(pod)),
            active,
            counted_succeeded: old.succeeded.unwrap_or(0) + more_succeeded,
            counted_failed: old.failed.unwrap_or(0) + more_failed,
            succeeded_indexes: Indexes::default(),
            failed_indexes: Indexes::default(),
            new_succeeded: Vec::new(),
            new_failed: Vec::new(),
            completions,
            per_index: completions.is_some() && spec.backoff_limit_per_index.is_some(),
            failing,
            uncounted_succeeded,
            uncounted_failed,
            pods,
        };
        facts.note_indexes(spec, old);
        facts.note_ended(spec);
        facts
    }

    fn note_indexes(&mut self, spec: &JobSpec, old: &JobStatus) {
        let Some(completions) = self.completions else { return };
        let of = |test: &dyn Fn(&Pod) -> bool| -> BTreeSet<i32> {
            let pods = self.pods.iter().filter(|pod| is_tracked(pod) && test(pod));
            pods.filter_map(|pod| index_of(pod, Some(completions))).collect()
        };
        let succeeded = of(&|pod| pods::phase(pod) == "Succeeded");
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or(""), completions);
        let all_succeeded = read(&old.completed_indexes).with(&succeeded);
        if let Some(limit) = spec.backoff_limit_per_index {
            let over = |pod: &Pod| {
                failure::is_failed(pod, spec)
                    && (failure::rule_on(pod, spec) == Ruling::FailIndex || failures_with(pod, spec).0 > limit)
            };
            let failed = of(&over)
                .into_iter()
                .filter(|index| !all_succeeded.has(*index))
                .collect();
            self.failed_indexes = read(&old.failed_indexes).with(&failed);
        }
        self.counted_succeeded = all_succeeded.total();
        self.succeeded_indexes = all_succeeded;
    }

    fn note_ended(&mut self, spec: &JobSpec) {
        let noted: BTreeSet<&str> = self
            .uncounted_succeeded
            .iter()
            .chain(&self.uncounted_failed)
            .map(String::as_str)
            .collect();
        let room = UNCOUNTED_MAX.saturating_sub(noted.len());
        let fresh = self
            .pods
            .iter()
            .copied()
            .filter(|pod| is_tracked(pod) && !noted.contains(uid(pod)));
        let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
        for pod in fresh {
            if succeeded.len() + failed.len() >= room {
                break;
            }
            let of_the_job = self.completions.is_none() || index_of(pod, self.completions).is_some();
            if pods::phase(pod) == "Succeeded" {
                // An index has succeeded as soon as the status says so: no uid is needed for that.
                if self.completions.is_none() {
                    succeeded.push(pod);
                }
            } else if (failure::is_failed(pod, spec) || (self.failing && pods::is_terminating(pod)))
                && of_the_job
                && failure::rule_on(pod, spec) != Ruling::Ignore
            {
                failed.push(pod);
            }
        }
        (self.new_succeeded, self.new_failed) = (succeeded, failed);
    }

    /// All successes, counted or not.
    pub(super) fn succeeded(&self) -> i32 {
        let uncounted = self.uncounted_succeeded.len() + self.new_succeeded.len();
        self.counted_succeeded + i32::try_from(uncounted).unwrap_or(i32::MAX)
    }

    /// All failures, counted or not.
    pub(super) fn failed(&self) -> i32 {
        let uncounted = self.uncounted_failed.len() + self.new_failed.len();
        self.counted_failed + i32::try_from(uncounted).unwrap_or(i32::MAX)
    }

    /// The uids that the status is to note: of successes, and of failures.
    pub(super) fn uncounted(&self) -> (Vec<String>, Vec<String>) {
        let with = |old: &[String], new: &[&Arc<Pod>]| {
            let new = new.iter().map(|pod| uid(pod).to_owned());
            old.iter().cloned().chain(new).collect()
        };
        (
            with(&self.uncounted_succeeded, &self.new_succeeded),
            with(&self.uncounted_failed, &self.new_failed),
        )
    }

    /// The pods whose finalizer goes once the status has noted them. `ending`: nothing of the Job is needed any more.
    pub(super) fn to_release(&self, spec: &JobSpec, ending: bool) -> Vec<&'a Arc<Pod>> {
        let (succeeded, failed) = self.uncounted();
        let noted: BTreeSet<&str> = succeeded.iter().chain(&failed).map(String::as_str).collect();
        let kept: BTreeSet<&str> = if ending {
            BTreeSet::new()
        } else {
            self.last_failures(spec).into_values().map(|pod| uid(pod)).collect()
        };
        let goes = |pod: &&&Arc<Pod>| {
            let ended =
                pods::is_finished(pod) || failure::is_failed(pod, spec) || (ending && pods::is_terminating(pod));
            let uncountable = match pods::phase(pod) {
                "Succeeded" => self.completions.is_some(),
                _ => {
                    failure::rule_on(pod, spec) == Ruling::Ignore
                        || (self.completions.is_some() && index_of(pod, self.completions).is_none())
                        || (ending && !self.failing && !failure::is_failed(pod, spec))
                }
            };
            is_tracked(pod) && ended && (noted.contains(uid(pod)) || uncountable) && !kept.contains(uid(pod))
        };
        self.pods.iter().filter(goes).copied().collect()
    }

    /// With a limit per index: the last failed pod of each index that is to be tried again. Its annotations are where the
    /// number of failures is kept, so it keeps its finalizer until another pod has taken over the number.
    pub(super) fn last_failures(&self, spec: &JobSpec) -> BTreeMap<i32, &'a Arc<Pod>> {
        let mut last: BTreeMap<i32, &'a Arc<Pod>> = BTreeMap::new();
        if !self.per_index {
            return last;
        }
        let absolute = |pod: &Pod| {
            let (counted, ignored) = failures_before(pod);
            counted.saturating_add(ignored)
        };
        let busy: BTreeSet<i32> = self
            .active
            .iter()
            .filter_map(|pod| index_of(pod, self.completions))
            .collect();
        let candidates = self
            .pods
            .iter()
            .copied()
            .filter(|pod| is_tracked(pod) && failure::is_failed(pod, spec));
        for pod in candidates {
            let Some(index) = index_of(pod, self.completions) else {
                continue;
            };
            let over = self.succeeded_indexes.has(index) || self.failed_indexes.has(index) || busy.contains(&index);
            if !over && last.get(&index).is_none_or(|other| absolute(other) < absolute(pod)) {
                last.insert(index, pod);
            }
        }
        last
    }
}
