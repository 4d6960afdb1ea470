//! Recreate: everything old goes first, and only then comes the new.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::rollout::Rollout;
use super::status;
use crate::controller::Context;
use crate::pods;

pub(super) fn step(rollout: &mut Rollout<'_>, pods: &[(String, Arc<Pod>)], ctx: &Context) {
    rollout.sync_revision(false, ctx);
    let mut shrunk = false;
    for index in rollout.old() {
        if rollout.sets[index].replicas > 0 {
            shrunk |= rollout.scale_set(index, 0);
        }
    }
    if shrunk || old_pods_left(rollout, pods) {
        return;
    }
    match rollout.new {
        None => rollout.sync_revision(true, ctx),
        Some(index) => {
            let want = rollout.replicas();
            if rollout.sets[index].replicas != want {
                rollout.scale_set(index, want);
            }
        }
    }
    if status::is_complete(rollout) {
        rollout.clean_up_history();
    }
}

/// Pods that are terminating still run.
fn old_pods_left(rollout: &Rollout<'_>, pods: &[(String, Arc<Pod>)]) -> bool {
    if rollout.old().into_iter().any(|index| rollout.sets[index].actual() > 0) {
        return true;
    }
    let new_uid = rollout
        .new
        .and_then(|index| rollout.sets[index].set.metadata.uid.as_deref());
    pods.iter()
        .any(|(set_uid, pod)| Some(set_uid.as_str()) != new_uid && !pods::is_finished(pod))
}
