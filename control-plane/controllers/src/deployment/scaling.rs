//! A change of `spec.replicas`, also in the middle of a rollout: the sets grow or shrink in proportion.

use super::annotations::MAX_REPLICAS;
use super::rollout::Rollout;

pub(super) fn scale(rollout: &mut Rollout<'_>) {
    let want = rollout.replicas();
    let active: Vec<usize> = (0..rollout.sets.len())
        .filter(|index| rollout.sets[*index].replicas > 0)
        .collect();
    let only = match active.as_slice() {
        [] => rollout.new.or(rollout.sets.len().checked_sub(1)),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(index) = only {
        rollout.scale_set(index, want);
        return;
    }
    if is_saturated(rollout) {
        for index in active {
            if Some(index) != rollout.new {
                rollout.scale_set(index, 0);
            }
        }
        return;
    }
    if active.is_empty() || super::strategy(rollout.deployment) != "RollingUpdate" {
        return;
    }
    in_proportion(rollout, active);
}

/// The new set is as large as wanted and all its pods serve.
fn is_saturated(rollout: &Rollout<'_>) -> bool {
    rollout.new.is_some_and(|index| {
        let draft = &rollout.sets[index];
        let want = rollout.replicas();
        let desired = draft
            .annotation(super::annotations::DESIRED_REPLICAS)
            .and_then(|text| text.parse::<i32>().ok());
        draft.replicas == want && desired == Some(want) && draft.available() == want
    })
}

fn in_proportion(rollout: &mut Rollout<'_>, mut active: Vec<usize>) {
    let want = rollout.replicas();
    let allowed = if want > 0 { want + rollout.max_surge() } else { 0 };
    let present: i32 = active.iter().map(|index| rollout.sets[*index].replicas).sum();
    let to_add = allowed - present;
    // Largest first; among equals the newest when growing, the oldest when shrinking.
    active.sort_by(|a, b| {
        let size = rollout.sets[*b].replicas.cmp(&rollout.sets[*a].replicas);
        size.then(if to_add > 0 { b.cmp(a) } else { a.cmp(b) })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for &index in &active {
        let share = proportion(rollout, index, to_add, added);
        sizes.push(rollout.sets[index].replicas + share);
        added += share;
    }
    // What rounding left over goes to the largest.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (index, size) in active.into_iter().zip(sizes) {
        rollout.scale_set(index, size);
    }
}

fn proportion(rollout: &Rollout<'_>, index: usize, to_add: i32, added: i32) -> i32 {
    let draft = &rollout.sets[index];
    if draft.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let (share, left) = (fraction(rollout, index), to_add - added);
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

fn fraction(rollout: &Rollout<'_>, index: usize) -> i32 {
    let draft = &rollout.sets[index];
    if rollout.replicas() == 0 {
        return -draft.replicas;
    }
    let annotated = draft
        .annotation(MAX_REPLICAS)
        .and_then(|text| text.parse::<i32>().ok())
        .filter(|max| *max > 0);
    let before = annotated.or_else(|| {
        rollout
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.replicas)
            .filter(|count| *count > 0)
    });
    let Some(before) = before else { return 0 };
    let now = rollout.replicas() + rollout.max_surge();
    let size = f64::from(draft.replicas) * f64::from(now) / f64::from(before);
    size.round() as i32 - draft.replicas
}
