//! Deployment: keep `spec.replicas` pods of the current template, and move from one template to the next as the strategy
//! says. It acts on ReplicaSets only; ReplicaSets act on pods.

mod annotations;
mod recreate;
mod rolling;
mod rollout;
mod scaling;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use self::rollout::Rollout;
use crate::adoption::{self, Claim};
use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::plan::{Action, EventDraft, ObjectKey, Plan, Regarding, Report, Resource};
use skiff_api::labels;

/// Everything a Deployment's plan may look at.
#[derive(Debug, Clone)]
pub struct World {
    pub deployment: Arc<Deployment>,
    /// Its own ReplicaSets and the namespace's orphans.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// Pods of its own ReplicaSets, with the uid of theirs; only filled for the Recreate strategy, which waits for them.
    pub pods: Vec<(String, Arc<Pod>)>,
}

pub struct DeploymentController;

impl Controller for DeploymentController {
    type World = World;
    const NAME: &'static str = "deployment-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let deployment = caches.deployments.read().get(key)?;
        let sets = caches.replica_sets.read();
        let own = sets.owned_by(deployment.metadata.uid.as_deref().unwrap_or(""));
        let mut pods = Vec::new();
        if strategy(&deployment) == "Recreate" {
            let all = caches.pods.read();
            for uid in own.iter().filter_map(|set| set.metadata.uid.as_ref()) {
                pods.extend(all.owned_by(uid).into_iter().map(|pod| (uid.clone(), pod)));
            }
        }
        let sets = own.into_iter().chain(sets.orphans_in(&key.namespace)).collect();
        Some(World { deployment, sets, pods })
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        reconcile(world, ctx)
    }
}

fn strategy(deployment: &Deployment) -> &str {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy
        .and_then(|strategy| strategy.type_.as_deref())
        .unwrap_or("RollingUpdate")
}

fn reconcile(world: &World, ctx: &Context) -> Plan {
    let meta = &world.deployment.metadata;
    let Some(spec) = &world.deployment.spec else {
        return Plan::waiting_on("spec");
    };
    if labels::is_empty(&spec.selector) {
        return selects_everything(world);
    }
    let mut plan = Plan::default();
    let mut own: Vec<Arc<ReplicaSet>> = Vec::new();
    for set in &world.sets {
        match adoption::claim(meta, &spec.selector, &set.metadata) {
            Claim::Keep => own.push(set.clone()),
            Claim::Adopt => {
                let reference = adoption::reference(&Resource::DEPLOYMENT, meta);
                plan.actions
                    .push(adoption::adopt(Resource::REPLICA_SET, &set.metadata, reference));
            }
            Claim::Release => {
                let uid = meta.uid.as_deref().unwrap_or("");
                plan.actions
                    .push(adoption::release(Resource::REPLICA_SET, &set.metadata, uid));
            }
            Claim::Ignore => {}
        }
    }
    if !plan.actions.is_empty() {
        plan.report = Report::Changing("replica sets adopted or released".into());
        return plan;
    }
    let mut rollout = Rollout::new(&world.deployment, spec, own);
    if meta.deletion_timestamp.is_some() {
        return status::only(&rollout, ctx);
    }
    if spec.paused == Some(true) || rollout.is_scaling() {
        rollout.sync_revision(false, ctx);
        scaling::scale(&mut rollout);
        if spec.paused == Some(true) {
            rollout.clean_up_history();
        }
    } else if strategy(&world.deployment) == "Recreate" {
        recreate::step(&mut rollout, &world.pods, ctx);
    } else {
        rolling::step(&mut rollout, ctx);
    }
    rollout.into_plan(ctx)
}

/// The API server refuses such selectors for apps/v1; an old object may still carry one.
fn selects_everything(world: &World) -> Plan {
    let event = EventDraft {
        regarding: Regarding::of(&Resource::DEPLOYMENT, &world.deployment.metadata),
        warning: true,
        reason: "SelectingAll",
        message: "This deployment is selecting all pods. A non-empty selector is required.".to_owned(),
    };
    let observed = world
        .deployment
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    if observed >= world.deployment.metadata.generation {
        return Plan::waiting_on("a selector");
    }
    Plan {
        actions: vec![Action::Event(event)],
        status: status::observe_generation(&world.deployment),
        report: Report::WaitingOn("a selector".into()),
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests;
