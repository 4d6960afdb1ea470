//! Ending a pod: main containers first, sidecars after them in reverse order, within one grace period; then sandbox,
//! volumes, and the last word to the API server.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;

use crate::action::{Action, Operation};
use crate::memory::Stop;
use crate::spec::{self, Role};
use crate::step::Plan;
use crate::texts;

/// What a container has at least after its preStop hook used up the grace period. Kubelet's value.
const GRACE_AFTER_HOOK_MIN: i64 = 2;
/// A runtime that should have ended a container by force is told again after this time.
const FORCE_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(10);

pub(crate) fn run(plan: &mut Plan<'_>) {
    let since = *plan.memory.terminating_since.get_or_insert(plan.now);
    let deleted = plan.is_deleted();
    // A pod that is deleted while it winds down for another reason has its grace period from the deletion on.
    let grace = spec::grace_period_seconds(plan.pod);
    let force_at = after(since, grace);
    let alive = |plan: &Plan<'_>, container: &Container| {
        plan.memory
            .container(&container.name)
            .is_some_and(|state| state.is_alive())
    };
    let all: Vec<_> = spec::containers(plan.spec).collect();
    let mut waits = false;
    for (_, container) in all.iter().filter(|(role, _)| *role != Role::Sidecar) {
        if alive(plan, container) {
            stop_by(plan, container, force_at, true);
            waits = true;
        }
    }
    if !waits && let Some((_, container)) = all.iter().rev().find(|(_, container)| alive(plan, container)) {
        stop_by(plan, container, force_at, true);
        waits = true;
    }
    if waits {
        return plan.wait_for("containers to end");
    }
    if plan.sandbox_view().is_some() {
        plan.actions.push(Action::RemoveSandbox);
    }
    if !plan.memory.volumes_removed && !plan.memory.in_flight.contains(&Operation::Volumes) {
        plan.memory.volumes_removed = true;
        plan.memory.volumes_ready = false;
        plan.actions.push(Action::RemoveVolumes);
    }
    if deleted && !plan.memory.in_flight.contains(&Operation::Volumes) {
        plan.gone = true;
        if !std::mem::replace(&mut plan.memory.finished, true) {
            plan.actions.push(Action::Finish);
        }
    }
}

/// Ends one container of a pod that goes on.
pub(crate) fn stop(plan: &mut Plan<'_>, container: &Container, grace_seconds: i64) {
    stop_by(plan, container, after(plan.now, grace_seconds), false);
}

/// Goes on with a stop that was asked for before.
pub(crate) fn stop_again(plan: &mut Plan<'_>, container: &Container) {
    let asked = plan
        .memory
        .container(&container.name)
        .and_then(|state| state.stop.as_ref());
    if let Some(force_at) = asked.map(|stop| stop.force_at) {
        stop_by(plan, container, force_at, false);
    }
}

fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// Hook, then stop, then force: each once, unless the grace period was shortened meanwhile.
fn stop_by(plan: &mut Plan<'_>, container: &Container, force_at: Timestamp, tell: bool) {
    let now = plan.now;
    let name = container.name.clone();
    let has_hook = spec::pre_stop(container).is_some();
    let state = plan.memory.container_mut(&name);
    let hook_done = !has_hook || state.pre_stop_done || !state.is_running();
    let stop = match &mut state.stop {
        Some(stop) => {
            if force_at < stop.force_at {
                stop.force_at = force_at;
                stop.sent = false;
            }
            stop
        }
        none => {
            if tell {
                plan.events.push(texts::killing(&name));
            }
            none.insert(Stop {
                asked_at: now,
                force_at,
                sent: false,
            })
        }
    };
    let left = seconds_between(now, stop.force_at);
    if stop.sent {
        let again_at = stop.force_at.checked_add(FORCE_AGAIN_AFTER).unwrap_or(Timestamp::MAX);
        if again_at > now {
            plan.wake(again_at);
        } else {
            stop.force_at = now;
            plan.actions.push(Action::StopContainer {
                container: name,
                grace_period_seconds: 0,
            });
        }
        return;
    }
    if !hook_done && left > 0 {
        let hook_ends = stop.force_at;
        plan.wake(hook_ends);
        let action = Action::PreStop {
            container: name.clone(),
            timeout_seconds: left.unsigned_abs(),
        };
        plan.begin(Operation::PreStop(name), action);
        return;
    }
    stop.sent = true;
    let grace = if has_hook { left.max(GRACE_AFTER_HOOK_MIN) } else { left };
    plan.actions.push(Action::StopContainer {
        container: name,
        grace_period_seconds: grace.unsigned_abs(),
    });
}

/// Whole seconds that are left, rounded up, at least 0.
fn seconds_between(now: Timestamp, then: Timestamp) -> i64 {
    let left = then.duration_since(now);
    let whole = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    whole.max(0)
}
