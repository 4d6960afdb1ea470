//! RollingUpdate: the new set grows as far as `maxSurge` allows, the old ones shrink as far as `maxUnavailable` allows.

use super::rollout::Rollout;
use super::status;
use crate::controller::Context;

pub(super) fn step(rollout: &mut Rollout<'_>, ctx: &Context) {
    rollout.sync_revision(true, ctx);
    if rollout.created.is_some() || grow_new(rollout) || shrink_old(rollout) {
        return;
    }
    if status::is_complete(rollout) {
        rollout.clean_up_history();
    }
}

/// The size that the new set may have now, given its present size.
pub(super) fn new_set_replicas(rollout: &Rollout<'_>, present: i32) -> i32 {
    let want = rollout.replicas();
    if super::strategy(rollout.deployment) != "RollingUpdate" {
        return want;
    }
    let room = want + rollout.max_surge() - rollout.total_replicas();
    if room <= 0 {
        present
    } else {
        present + room.min(want - present)
    }
}

fn grow_new(rollout: &mut Rollout<'_>) -> bool {
    let Some(index) = rollout.new else { return false };
    let (present, want) = (rollout.sets[index].replicas, rollout.replicas());
    if present == want {
        return false;
    }
    let size = if present > want {
        want
    } else {
        new_set_replicas(rollout, present)
    };
    rollout.scale_set(index, size)
}

fn shrink_old(rollout: &mut Rollout<'_>) -> bool {
    let old = rollout.old();
    if old.iter().all(|index| rollout.sets[*index].replicas == 0) {
        return false;
    }
    // Counts from before a change of size say nothing about who serves after it.
    if rollout.sets.iter().any(|draft| !draft.is_observed()) {
        return false;
    }
    let available_min = rollout.replicas() - rollout.max_unavailable();
    let new_unavailable = rollout.new.map_or(0, |index| {
        let draft = &rollout.sets[index];
        draft.replicas - draft.available()
    });
    let down_max = rollout.total_replicas() - available_min - new_unavailable;
    if down_max <= 0 {
        return false;
    }
    // Pods that do not serve anyway go first.
    let mut unhealthy_gone = 0;
    for &index in &old {
        let draft = &rollout.sets[index];
        let (size, unhealthy) = (draft.replicas, draft.replicas - draft.available());
        if size == 0 || unhealthy <= 0 {
            continue;
        }
        let down = unhealthy.min(down_max - unhealthy_gone);
        if down <= 0 {
            break;
        }
        rollout.scale_set(index, size - down);
        unhealthy_gone += down;
    }
    let available: i32 = rollout.sets.iter().map(|draft| draft.available_at_most()).sum();
    let mut left = (available - available_min).max(0);
    let mut healthy_gone = 0;
    for index in old {
        let size = rollout.sets[index].replicas;
        let down = size.min(left);
        if down > 0 {
            rollout.scale_set(index, size - down);
            left -= down;
            healthy_gone += down;
        }
    }
    unhealthy_gone + healthy_gone > 0
}
