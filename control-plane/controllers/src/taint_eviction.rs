//! Eviction by taint: pods leave a node whose NoExecute taints they do not tolerate, at once or after tolerationSeconds.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint, Toleration};
use serde_json::json;

use crate::caches::Caches;
use crate::conditions::whole_second;
use crate::controller::{Context, Controller};
use crate::plan::{Action, EventDraft, ObjectKey, Plan, Regarding, Report, Resource, Target};
use crate::pods;

const NO_EXECUTE: &str = "NoExecute";
const DISRUPTION_TARGET: &str = "DisruptionTarget";

#[derive(Debug, Clone)]
pub struct World {
    pub node: Arc<Node>,
    /// When its NoExecute taints last changed, for taints that do not say when they were added.
    pub tainted_at: Option<Timestamp>,
    pub pods: Vec<Arc<Pod>>,
}

/// Keys are names of nodes.
pub struct TaintEvictionController;

impl Controller for TaintEvictionController {
    type World = World;
    const NAME: &'static str = "taint-eviction-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let node = caches.nodes.read().get(key)?;
        no_execute(&node).next()?;
        let tainted_at = caches.taint_changes.last(&key.name);
        Some(World {
            node,
            tainted_at,
            pods: caches.pods.read().placed_at(&key.name),
        })
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        let mut plan = Plan::default();
        for pod in world.pods.iter().filter(|pod| !pods::is_terminating(pod)) {
            match leave_at(world, pod, ctx.now) {
                Some(at) if at <= ctx.now => plan.actions.extend(evict(pod, ctx.now)),
                Some(at) => plan.requeue_within(Duration::from_secs_f64(at.duration_since(ctx.now).as_secs_f64())),
                None => {}
            }
        }
        if !plan.actions.is_empty() {
            plan.report = Report::Changing("pods leave the tainted node".into());
        }
        plan
    }
}

/// The node's NoExecute taints.
pub fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| taint.effect == NO_EXECUTE)
}

/// When the pod has to leave; `None`: it may stay.
fn leave_at(world: &World, pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    let none = Vec::new();
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_ref())
        .unwrap_or(&none);
    let mut earliest: Option<Timestamp> = None;
    for taint in no_execute(&world.node) {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|one| tolerates(one, taint)).collect();
        if matching.is_empty() {
            return Some(now);
        }
        let Some(seconds) = matching.iter().filter_map(|one| one.toleration_seconds).min() else {
            continue;
        };
        // A pod that came later has its whole time.
        let tainted = taint
            .time_added
            .as_ref()
            .map(|time| time.0)
            .or(world.tainted_at)
            .unwrap_or(now);
        let start = tainted.max(pods::created(pod)).min(now);
        let leave = start
            .checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
            .unwrap_or(Timestamp::MAX);
        earliest = Some(earliest.map_or(leave, |already| already.min(leave)));
    }
    earliest
}

/// Kubernetes' rule: an empty effect or key matches all, `Exists` ignores the value.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

fn evict(pod: &Pod, now: Timestamp) -> [Action; 2] {
    let key = ObjectKey::of(&pod.metadata);
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    conditions.retain(|condition| condition.type_ != DISRUPTION_TARGET);
    conditions.push(PodCondition {
        type_: DISRUPTION_TARGET.to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(whole_second(now)),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    });
    let event = EventDraft {
        regarding: Regarding::of(&Resource::POD, &pod.metadata),
        warning: false,
        reason: "TaintManagerEviction",
        message: format!("Marking for deletion Pod {key}"),
    };
    [
        Action::patch_status(
            Target::any_version(Resource::POD, &pod.metadata),
            json!({"status": {"conditions": conditions}}),
        ),
        Action::delete(Target::any_version(Resource::POD, &pod.metadata)).then(event),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{describe, from_yaml, now};
    use expect_test::expect;

    fn plan(node: &str, pods: &[&str]) -> String {
        let world = World {
            node: from_yaml(node),
            tainted_at: Some("2026-01-01T11:59:50Z".parse().unwrap()),
            pods: pods.iter().map(|text| from_yaml(text)).collect(),
        };
        let text = describe(&TaintEvictionController.reconcile(
            &world,
            &Context {
                now: now(),
                failure: None,
            },
        ));
        text.lines()
            .map(|line| line.split(r#" {"status"#).next().unwrap().to_owned() + "\n")
            .collect()
    }

    const NODE: &str = "{metadata: {name: n}, spec: {taints: [{key: x, value: y, effect: NoExecute}]}}";

    #[test]
    fn pods_leave_at_once_later_or_never() {
        expect![[r#"
            patch/status Pod d/a uid=a
            delete Pod d/a uid=a
              then Normal TaintManagerEviction Pod a: Marking for deletion Pod d/a
            again in 20s
            report Changing("pods leave the tainted node")
        "#]]
        .assert_eq(&plan(
            NODE,
            &[
                "{metadata: {name: a, namespace: d, uid: a}}",
                "{metadata: {name: stays, namespace: d}, spec: {containers: [], tolerations: [{key: x, operator: Exists}]}}",
                "{metadata: {name: later, namespace: d}, spec: {containers: [], tolerations: [{key: x, operator: Exists, tolerationSeconds: 30}]}}",
                "{metadata: {name: going, namespace: d, deletionTimestamp: '2026-01-01T11:00:00Z'}}",
            ],
        ));
    }

    #[test]
    fn a_pod_that_came_after_the_taint_has_its_whole_time() {
        let late = "{metadata: {name: late, namespace: d, creationTimestamp: '2026-01-01T11:59:58Z'}, spec: {containers: [], tolerations: [{operator: Exists, tolerationSeconds: 10}]}}";
        let node =
            "{metadata: {name: n}, spec: {taints: [{key: x, effect: NoExecute, timeAdded: '2026-01-01T10:00:00Z'}]}}";
        expect![[r#"
            again in 8s
        "#]]
        .assert_eq(&plan(node, &[late]));
    }

    #[test]
    fn tolerations_match_as_in_kubernetes() {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoExecute".into(),
            time_added: None,
        };
        let check = |text: &str| tolerates(&from_yaml::<Toleration>(text), &taint);
        assert!(check("{operator: Exists}"));
        assert!(check("{key: k, value: v}"));
        assert!(check("{key: k, operator: Exists, effect: NoExecute}"));
        assert!(!check("{key: k, value: w}"));
        assert!(!check("{key: k, operator: Exists, effect: NoSchedule}"));
        assert!(!check("{value: v}"));
    }
}
