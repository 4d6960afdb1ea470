//! Pod garbage: pods of nodes that are gone, finished pods beyond a bound, and terminating pods that never had a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::json;

use crate::caches::Caches;
use crate::conditions::whole_second;
use crate::controller::{Context, Controller};
use crate::plan::{Action, ObjectKey, Plan, Report, Resource, Target};
use crate::pods;

/// How often the pods are looked through.
const PERIOD: Duration = Duration::from_secs(20);
/// Pods that one plan removes; the rest follows at once.
const REMOVALS_PER_PLAN_MAX: usize = 200;

#[derive(Debug, Clone, Default)]
pub struct World {
    /// Pods on nodes that the cache does not know.
    pub stranded: Vec<Arc<Pod>>,
    /// Terminating without a node: no agent will ever confirm their end.
    pub unscheduled: Vec<Arc<Pod>>,
    /// Finished pods.
    pub finished: Vec<Arc<Pod>>,
}

pub struct PodGcController {
    pub finished_pods_max: usize,
}

impl PodGcController {
    /// The one key of this controller.
    pub fn key() -> ObjectKey {
        ObjectKey::cluster("all")
    }
}

impl Controller for PodGcController {
    type World = World;
    const NAME: &'static str = "pod-garbage-collector";

    fn observe(&self, caches: &Caches, _: &ObjectKey) -> Option<World> {
        let pods = caches.pods.read();
        let nodes = caches.nodes.read();
        let mut world = World::default();
        for pod in pods.all() {
            let node = pods::node_name(pod);
            if node.is_empty() && pods::is_terminating(pod) {
                world.unscheduled.push(pod.clone());
            } else if !node.is_empty() && nodes.get(&ObjectKey::cluster(node)).is_none() {
                world.stranded.push(pod.clone());
            } else if pods::is_finished(pod) && !pods::is_terminating(pod) {
                world.finished.push(pod.clone());
            }
        }
        Some(world)
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        let mut plan = Plan {
            requeue_after: Some(PERIOD),
            ..Plan::default()
        };
        let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in &world.stranded {
            by_node.entry(pods::node_name(pod)).or_default().push(pod);
        }
        for (node, stranded) in by_node {
            let target = Target {
                resource: Resource::NODE,
                key: ObjectKey::cluster(node),
                uid: String::new(),
                resource_version: None,
            };
            plan.actions.push(Action::ConfirmAbsent { target });
            plan.actions.extend(
                stranded
                    .into_iter()
                    .flat_map(|pod| remove(pod, Some("PodGC: node no longer exists"), ctx)),
            );
        }
        plan.actions
            .extend(world.unscheduled.iter().flat_map(|pod| remove(pod, None, ctx)));
        let surplus = world.finished.len().saturating_sub(self.finished_pods_max);
        if surplus > 0 {
            let mut oldest: Vec<&Arc<Pod>> = world.finished.iter().collect();
            oldest.sort_by_key(|pod| (pods::created(pod), ObjectKey::of(&pod.metadata)));
            let doomed = oldest.into_iter().take(surplus);
            plan.actions
                .extend(doomed.map(|pod| Action::delete_now(Target::any_version(Resource::POD, &pod.metadata))));
        }
        if plan.actions.len() > REMOVALS_PER_PLAN_MAX {
            plan.actions.truncate(REMOVALS_PER_PLAN_MAX);
            plan.requeue_after = Some(Duration::ZERO);
        }
        if !plan.actions.is_empty() {
            plan.report = Report::TooMany {
                have: plan.actions.len(),
                want: 0,
            };
        }
        plan
    }
}

/// A pod that had not finished is marked Failed first, so that watchers see why it ended.
fn remove(pod: &Pod, why: Option<&str>, ctx: &Context) -> Vec<Action> {
    let target = || Target::any_version(Resource::POD, &pod.metadata);
    let mut actions = Vec::with_capacity(2);
    if !pods::is_finished(pod) {
        let mut status = json!({"phase": "Failed"});
        if let Some(why) = why {
            let mut conditions = pod
                .status
                .as_ref()
                .and_then(|status| status.conditions.clone())
                .unwrap_or_default();
            conditions.retain(|condition| condition.type_ != "DisruptionTarget");
            conditions.push(PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
                reason: Some("DeletionByPodGC".to_owned()),
                message: Some(why.to_owned()),
                last_transition_time: Some(whole_second(ctx.now)),
                observed_generation: pod.metadata.generation,
                last_probe_time: None,
            });
            status["conditions"] = json!(conditions);
        }
        actions.push(Action::patch_status(target(), json!({"status": status})));
    }
    actions.push(Action::delete_now(target()));
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{describe, from_yaml, now};
    use expect_test::expect;

    #[test]
    fn stranded_and_surplus_pods_go_and_absence_is_confirmed_first() {
        let world = World {
            stranded: vec![from_yaml(
                "{metadata: {name: a, namespace: d, uid: a}, spec: {nodeName: gone, containers: []}, status: {phase: Succeeded}}",
            )],
            unscheduled: vec![],
            finished: vec![
                from_yaml("{metadata: {name: new, namespace: d, uid: n, creationTimestamp: '2026-01-01T11:00:00Z'}}"),
                from_yaml("{metadata: {name: old, namespace: d, uid: o, creationTimestamp: '2026-01-01T10:00:00Z'}}"),
            ],
        };
        let plan = PodGcController { finished_pods_max: 1 }.reconcile(
            &world,
            &Context {
                now: now(),
                failure: None,
            },
        );
        expect![[r#"
            confirm absent Node gone uid=
            delete Pod d/a uid=a
            delete Pod d/old uid=o
            again in 20s
            report TooMany { have: 3, want: 0 }
        "#]]
        .assert_eq(&describe(&plan));
    }

    #[test]
    fn a_running_pod_of_a_lost_node_is_failed_before_it_goes() {
        let pod: Arc<Pod> = from_yaml(
            "{metadata: {name: a, namespace: d}, spec: {nodeName: gone, containers: []}, status: {phase: Running}}",
        );
        let world = World {
            stranded: vec![pod],
            ..World::default()
        };
        let plan = PodGcController { finished_pods_max: 1 }.reconcile(
            &world,
            &Context {
                now: now(),
                failure: None,
            },
        );
        let text = describe(&plan);
        assert!(
            text.contains(r#""phase":"Failed""#) && text.contains("DeletionByPodGC"),
            "{text}"
        );
    }
}
