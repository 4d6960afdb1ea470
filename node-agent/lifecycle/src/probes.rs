//! Which probes are due, and what a container's probes say about it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

use crate::action::{Action, Operation, ProbeKind};
use crate::containers::has_started;
use crate::memory::{ContainerMemory, PodMemory, ProbeMemory};
use crate::spec::{self, Role};
use crate::step::Plan;
use crate::{termination, texts};

/// Kubernetes' defaults; the API server fills them in, but a pod from a checkpoint of elsewhere may lack them.
const PERIOD_DEFAULT: i32 = 10;
const FAILURE_THRESHOLD_DEFAULT: i32 = 3;

/// Probes of a running container: those due are asked for, and one that failed too often ends the container.
pub(crate) fn run(plan: &mut Plan<'_>, role: Role, container: &Container) {
    if role == Role::Init {
        return;
    }
    let state = plan.memory.container_mut(&container.name);
    if state.stop.is_some() {
        return termination::stop_again(plan, container);
    }
    let Some(started_at) = state.current.as_ref().and_then(|current| current.started_at) else {
        return;
    };
    for kind in [ProbeKind::Startup, ProbeKind::Liveness] {
        let failed = state.probe(kind).is_some_and(|probe| probe.result == Some(false));
        if let Some(probe) = spec::probe(container, kind).filter(|_| failed) {
            let will_restart = role == Role::Sidecar || spec::restart_policy(plan.spec) != "Never";
            plan.events
                .push(texts::killing_after_probe(&container.name, kind, will_restart));
            let grace = probe.termination_grace_period_seconds;
            let grace = grace.unwrap_or_else(|| spec::grace_period_seconds(plan.pod));
            return termination::stop(plan, container, grace);
        }
    }
    let kinds: &[ProbeKind] = match has_started(&plan.memory, container) {
        true => &[ProbeKind::Liveness, ProbeKind::Readiness],
        false => &[ProbeKind::Startup],
    };
    for kind in kinds {
        let Some(probe) = spec::probe(container, *kind) else {
            continue;
        };
        let last_run = plan
            .memory
            .container_mut(&container.name)
            .probe(*kind)
            .and_then(|memory| memory.last_run);
        let due = due_at(probe, started_at, last_run);
        if due <= plan.now {
            let action = Action::Probe {
                container: container.name.clone(),
                kind: *kind,
            };
            plan.begin(Operation::Probe(container.name.clone(), *kind), action);
        } else {
            plan.wake(due);
        }
    }
}

fn due_at(probe: &Probe, started_at: Timestamp, last_run: Option<Timestamp>) -> Timestamp {
    let seconds = |value: Option<i32>, default: i32| SignedDuration::from_secs(i64::from(value.unwrap_or(default)));
    match last_run {
        Some(last_run) => last_run + seconds(probe.period_seconds, PERIOD_DEFAULT),
        None => started_at + seconds(probe.initial_delay_seconds, 0),
    }
}

/// Counts one run against the probe's thresholds.
pub(crate) fn count(memory: &mut ProbeMemory, probe: &Probe, success: bool, now: Timestamp) {
    memory.last_run = Some(now);
    let threshold = |value: Option<i32>, default: i32| value.unwrap_or(default).max(1).unsigned_abs();
    if success {
        memory.failures = 0;
        // Counted no further than needed, so that a healthy probe leaves memory as it is.
        let needed = threshold(probe.success_threshold, 1);
        memory.successes = memory.successes.saturating_add(1).min(needed);
        if memory.successes == needed {
            memory.result = Some(true);
        }
    } else {
        memory.successes = 0;
        memory.failures = memory.failures.saturating_add(1);
        if memory.failures >= threshold(probe.failure_threshold, FAILURE_THRESHOLD_DEFAULT) {
            memory.result = Some(false);
        }
    }
}

/// Running, started, its readiness probe (if any) succeeds, and it does not say itself that it is not ready.
pub(crate) fn is_ready(memory: &PodMemory, container: &Container) -> bool {
    let ready = |state: &ContainerMemory| {
        let probed = container.readiness_probe.is_none()
            || state
                .probe(ProbeKind::Readiness)
                .is_some_and(|probe| probe.result == Some(true));
        probed && state.current.as_ref().is_some_and(|current| current.ready)
    };
    has_started(memory, container) && memory.container(&container.name).is_some_and(ready)
}
