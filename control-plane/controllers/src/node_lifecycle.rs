//! Node lifecycle: a node that is not heard of any more becomes Unknown, its taints say so, its pods are not Ready.
//! Who must leave because of a taint is decided in `taint_eviction`.

mod taints;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::conditions::whole_second;
use crate::controller::{Context, Controller};
use crate::plan::{Action, EventDraft, ObjectKey, Plan, Regarding, Report, Resource, Target};
use crate::pods;

/// A node that has never reported gets longer (`--node-startup-grace-period`).
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// The conditions that become Unknown together.
const HEARTBEAT_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

#[derive(Debug, Clone)]
pub struct World {
    pub node: Arc<Node>,
    /// When its heartbeat last changed, by our clock.
    pub heard_at: Option<Timestamp>,
    pub pods: Vec<Arc<Pod>>,
    /// No node of the cluster is Ready: then it is we who are cut off, and nobody is evicted.
    pub all_nodes_down: bool,
}

pub struct NodeLifecycleController {
    /// `--node-monitor-grace-period`.
    pub grace: Duration,
}

pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// The status of the condition Ready; `""` if the node never reported.
pub(crate) fn ready_status(node: &Node) -> &str {
    condition(node, "Ready").map_or("", |condition| condition.status.as_str())
}

impl Controller for NodeLifecycleController {
    type World = World;
    const NAME: &'static str = "node-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<World> {
        let nodes = caches.nodes.read();
        let node = nodes.get(key)?;
        let ready = ready_status(&node) == "True";
        let all_nodes_down = !ready && !nodes.all().any(|node| ready_status(node) == "True");
        let pods = caches.pods.read().placed_at(&key.name);
        Some(World {
            node,
            heard_at: caches.heartbeats.last(&key.name),
            pods,
            all_nodes_down,
        })
    }

    fn reconcile(&self, world: &World, ctx: &Context) -> Plan {
        reconcile(world, self.grace, ctx)
    }
}

fn reconcile(world: &World, grace: Duration, ctx: &Context) -> Plan {
    let node = &world.node;
    let mut plan = Plan::default();
    if node.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let created = node
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let never_reported = condition(node, "Ready").is_none();
    let (since, grace) = if never_reported {
        (created, STARTUP_GRACE)
    } else {
        (world.heard_at.unwrap_or(ctx.now), grace)
    };
    let left = grace.as_secs_f64() - (ctx.now.duration_since(since)).as_secs_f64();
    let mut ready = ready_status(node).to_owned();
    if left > 0.0 {
        plan.requeue_within(Duration::from_secs_f64(left));
    } else if let Some(conditions) = unknown_conditions(node, created, ctx.now) {
        if ready == "True" || ready.is_empty() {
            plan.actions.push(Action::Event(not_ready_event(node)));
        }
        ready = "Unknown".to_owned();
        plan.status = Some(Action::patch_status(
            Target::exact(Resource::NODE, &node.metadata),
            json!({"status": {"conditions": conditions}}),
        ));
        plan.report = Report::Changing("node was not heard of".into());
    }
    if plan.status.is_none() {
        // Taints follow the conditions that stand; after the status write this runs again.
        if let Some(list) = taints::changed(node, world.all_nodes_down, ctx.now) {
            plan.actions.push(Action::patch(
                Target::exact(Resource::NODE, &node.metadata),
                json!({"spec": {"taints": if list.is_empty() { Value::Null } else { json!(list) }}}),
            ));
            plan.report = Report::Changing("taints follow the conditions".into());
        }
    }
    if !ready.is_empty() && ready != "True" {
        plan.actions.extend(
            world
                .pods
                .iter()
                .filter(|pod| pods::is_ready(pod))
                .flat_map(|pod| mark_not_ready(pod, ctx)),
        );
    }
    plan
}

/// The whole list of conditions with the heartbeat ones Unknown, or nothing if they are.
fn unknown_conditions(node: &Node, created: Timestamp, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut list = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut changed = false;
    for kind in HEARTBEAT_CONDITIONS {
        match list.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(whole_second(now));
                changed = true;
            }
            None => {
                list.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: Some(whole_second(created)),
                    last_transition_time: Some(whole_second(now)),
                });
                changed = true;
            }
        }
    }
    changed.then_some(list)
}

fn not_ready_event(node: &Node) -> EventDraft {
    EventDraft {
        regarding: Regarding::of(&Resource::NODE, &node.metadata),
        warning: false,
        reason: "NodeNotReady",
        message: format!(
            "Node {} status is now: NodeNotReady",
            node.metadata.name.as_deref().unwrap_or("")
        ),
    }
}

fn mark_not_ready(pod: &Pod, ctx: &Context) -> [Action; 2] {
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(whole_second(ctx.now));
    }
    let event = EventDraft {
        regarding: Regarding::of(&Resource::POD, &pod.metadata),
        warning: true,
        reason: "NodeNotReady",
        message: "Node is not ready".to_owned(),
    };
    let patch = json!({"status": {"conditions": conditions}});
    [
        Action::Event(event),
        Action::patch_status(Target::exact(Resource::POD, &pod.metadata), patch),
    ]
}

#[cfg(test)]
mod tests;
