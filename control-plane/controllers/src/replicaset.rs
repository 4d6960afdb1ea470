//! ReplicaSet: keep `spec.replicas` pods that match the selector.

pub(crate) mod rank;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::adoption::{self, Claim};
use crate::caches::{Caches, controller_of};
use crate::controller::{Context, Controller};
use crate::hash::child_name;
use crate::plan::{Action, CREATES_PER_PLAN_MAX, EventDraft, ObjectKey, Plan, Regarding, Report, Resource, Target};
use crate::pods;

/// Everything a ReplicaSet's plan may look at.
#[derive(Debug, Clone)]
pub struct World {
    pub set: Arc<ReplicaSet>,
    /// Its own pods and the namespace's orphans.
    pub pods: Vec<Arc<Pod>>,
    /// How many active pods of the same Deployment each node runs: where several are, one is deleted first.
    pub related: BTreeMap<String, usize>,
}

pub struct ReplicaSetController;

impl Controller for ReplicaSetController {
    type World = World;
    const NAME: &'static str = "replicaset-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let set = caches.replica_sets.read().get(key)?;
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let all = caches.pods.read();
        let mut candidates = all.owned_by(&uid);
        candidates.extend(all.orphans_in(&key.namespace));
        let mut related = BTreeMap::new();
        let siblings = match controller_of(&set.metadata) {
            Some(owner) => caches.replica_sets.read().owned_by(&owner.uid),
            None => vec![set.clone()],
        };
        for sibling in siblings {
            for pod in all.owned_by(sibling.metadata.uid.as_deref().unwrap_or("")) {
                if pods::is_active(&pod) {
                    *related.entry(pods::node_name(&pod).to_owned()).or_insert(0) += 1;
                }
            }
        }
        Some(World {
            set,
            pods: candidates,
            related,
        })
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        reconcile(world, ctx)
    }
}

fn reconcile(world: &World, ctx: &Context) -> Plan {
    let meta = &world.set.metadata;
    let Some(spec) = &world.set.spec else {
        return Plan::waiting_on("spec");
    };
    let mut plan = Plan::default();
    let mut own: Vec<&Arc<Pod>> = Vec::new();
    for pod in &world.pods {
        match adoption::claim(meta, &spec.selector, &pod.metadata) {
            Claim::Keep => own.push(pod),
            Claim::Adopt if pods::is_active(pod) => {
                let reference = adoption::reference(&Resource::REPLICA_SET, meta);
                plan.actions
                    .push(adoption::adopt(Resource::POD, &pod.metadata, reference));
            }
            Claim::Release => {
                let uid = meta.uid.as_deref().unwrap_or("");
                plan.actions.push(adoption::release(Resource::POD, &pod.metadata, uid));
            }
            Claim::Adopt | Claim::Ignore => {}
        }
    }
    if !plan.actions.is_empty() {
        plan.report = Report::Changing("pods adopted or released".into());
        return plan;
    }
    let active: Vec<&Arc<Pod>> = own.iter().copied().filter(|pod| pods::is_active(pod)).collect();
    let terminating = own
        .iter()
        .filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod))
        .count();
    let want = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if meta.deletion_timestamp.is_none() {
        if active.len() < want {
            plan.report = Report::TooFew {
                have: active.len(),
                want,
            };
            plan.actions = create(world, want - active.len());
        } else if active.len() > want {
            plan.report = Report::TooMany {
                have: active.len(),
                want,
            };
            plan.actions = delete(world, &active, active.len() - want);
        }
    }
    // While pods come or go, the status follows when they are seen; a failure is told at once.
    if plan.actions.is_empty() || ctx.failure.is_some() {
        plan.status = status::plan(&world.set, &active, terminating, &plan.report, ctx);
    }
    if let Some(wait) = next_availability(&active, spec.min_ready_seconds.unwrap_or(0), ctx) {
        plan.requeue_within(wait);
    }
    plan
}

/// When the next ready pod becomes available.
fn next_availability(active: &[&Arc<Pod>], min_ready_seconds: i32, ctx: &Context) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    active
        .iter()
        .filter(|pod| !pods::is_available(pod, min_ready_seconds, ctx.now))
        .filter_map(|pod| pods::ready_since(pod))
        .map(|since| since.as_second() + i64::from(min_ready_seconds) - ctx.now.as_second())
        .min()
        .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)))
}

fn create(world: &World, missing: usize) -> Vec<Action> {
    let meta = &world.set.metadata;
    let taken: std::collections::BTreeSet<&str> = world
        .pods
        .iter()
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    let (name, uid) = (meta.name.as_deref().unwrap_or(""), meta.uid.as_deref().unwrap_or(""));
    let version = meta.resource_version.as_deref().unwrap_or("");
    let names = (0..)
        .map(|index| child_name(name, uid, version, index))
        .filter(|name| !taken.contains(name.as_str()));
    names
        .take(missing.min(CREATES_PER_PLAN_MAX))
        .map(|pod_name| {
            let event = |warning, reason, message| EventDraft {
                regarding: Regarding::of(&Resource::REPLICA_SET, meta),
                warning,
                reason,
                message,
            };
            Action::create(Resource::POD, pod_from_template(&world.set, &pod_name))
                .then(event(false, "SuccessfulCreate", format!("Created pod: {pod_name}")))
                .or_else(event(true, "FailedCreate", "Error creating: {error}".to_owned()))
        })
        .collect()
}

/// The pod that the set's template describes, owned by the set.
fn pod_from_template(set: &ReplicaSet, name: &str) -> Value {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let from = template.and_then(|template| template.metadata.as_ref());
    let meta = ObjectMeta {
        name: Some(name.to_owned()),
        generate_name: set.metadata.name.as_ref().map(|set_name| format!("{set_name}-")),
        namespace: set.metadata.namespace.clone(),
        labels: from.and_then(|meta| meta.labels.clone()),
        annotations: from.and_then(|meta| meta.annotations.clone()),
        finalizers: from.and_then(|meta| meta.finalizers.clone()),
        owner_references: Some(vec![adoption::reference(&Resource::REPLICA_SET, &set.metadata)]),
        ..ObjectMeta::default()
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": template.and_then(|template| template.spec.as_ref()),
    })
}

fn delete(world: &World, active: &[&Arc<Pod>], surplus: usize) -> Vec<Action> {
    rank::deletion_order(active, &world.related)
        .into_iter()
        .take(surplus)
        .map(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or("");
            let event = |warning, reason, message| EventDraft {
                regarding: Regarding::of(&Resource::REPLICA_SET, &world.set.metadata),
                warning,
                reason,
                message,
            };
            Action::delete(Target::any_version(Resource::POD, &pod.metadata))
                .then(event(false, "SuccessfulDelete", format!("Deleted pod: {name}")))
                .or_else(event(true, "FailedDelete", "Error deleting: {error}".to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
