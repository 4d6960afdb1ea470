//! Node addresses: gives each node its own pod range, the lowest free one.
//!
//! One key for all nodes, so that two nodes never race for one range.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::plan::{Action, EventDraft, ObjectKey, Plan, Regarding, Report, Resource, Target};

/// Nodes that one plan serves; the rest follows in the next one.
const NODES_PER_PLAN_MAX: usize = 100;

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: u32,
    bits: u8,
}

impl Network {
    /// `10.42.0.0/16`; bits beyond the mask are dropped.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        Some(Network {
            first: u32::from(address.parse::<Ipv4Addr>().ok()?) & mask,
            bits,
        })
    }

    fn last(self) -> u32 {
        self.first | u32::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0)
    }

    fn overlaps(self, other: Network) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// The parts of this network with a longer mask, lowest first.
    fn parts(self, bits: u8) -> impl Iterator<Item = Network> {
        let size = 1_u64 << (32 - u32::from(bits));
        let count = if bits < self.bits {
            0
        } else {
            1_u64 << (bits - self.bits)
        };
        (0..count).map(move |index| Network {
            first: self.first + u32::try_from(index * size).unwrap_or(0),
            bits,
        })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.bits)
    }
}

pub struct NodeIpamController {
    /// The range to give out of.
    pub cluster: Network,
    /// Length of a node's mask.
    pub node_bits: u8,
    /// Kept free: the range of Services, if it lies within.
    pub reserved: Option<Network>,
}

impl NodeIpamController {
    /// The one key of this controller.
    pub fn key() -> ObjectKey {
        ObjectKey::cluster("all")
    }

    /// Whether the node makes a run necessary.
    pub fn concerns(node: &Node) -> bool {
        node.metadata.deletion_timestamp.is_none() && pod_cidr(node).is_none()
    }
}

fn pod_cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty())
}

impl Controller for NodeIpamController {
    type World = Vec<Arc<Node>>;
    const NAME: &'static str = "cidrAllocator";

    fn observe(&self, caches: &Caches, _: &ObjectKey) -> Option<Self::World> {
        Some(caches.nodes.read().all().cloned().collect())
    }

    fn reconcile(&self, nodes: &Self::World, _: &Context) -> Plan {
        let taken: BTreeSet<u32> = nodes
            .iter()
            .filter_map(|node| Network::parse(pod_cidr(node)?))
            .map(|network| network.first)
            .collect();
        let mut free = self.cluster.parts(self.node_bits).filter(|part| {
            !taken.contains(&part.first) && self.reserved.is_none_or(|reserved| !part.overlaps(reserved))
        });
        let mut plan = Plan::default();
        for node in nodes
            .iter()
            .filter(|node| Self::concerns(node))
            .take(NODES_PER_PLAN_MAX)
        {
            let Some(part) = free.next() else {
                plan.actions.push(Action::Event(EventDraft {
                    regarding: Regarding::of(&Resource::NODE, &node.metadata),
                    warning: false,
                    reason: "CIDRNotAvailable",
                    message: format!(
                        "Node {} status is now: CIDRNotAvailable",
                        node.metadata.name.as_deref().unwrap_or("")
                    ),
                }));
                plan.report = Report::WaitingOn("a free pod range".into());
                return plan;
            };
            let cidr = part.to_string();
            plan.actions.push(Action::patch(
                Target::exact(Resource::NODE, &node.metadata),
                json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}),
            ));
            plan.report = Report::Changing("ranges given out".into());
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{describe, from_yaml, now};
    use expect_test::expect;

    fn controller(cluster: &str, reserved: Option<&str>) -> NodeIpamController {
        NodeIpamController {
            cluster: Network::parse(cluster).unwrap(),
            node_bits: 24,
            reserved: reserved.and_then(Network::parse),
        }
    }

    fn plan(controller: &NodeIpamController, nodes: &[&str]) -> String {
        let nodes = nodes.iter().map(|text| from_yaml(text)).collect();
        describe(&controller.reconcile(
            &nodes,
            &Context {
                now: now(),
                failure: None,
            },
        ))
    }

    #[test]
    fn the_lowest_free_range_is_given_and_none_twice() {
        expect![[r#"
            patch Node b uid= rv=2 {"spec":{"podCIDR":"10.42.0.0/24","podCIDRs":["10.42.0.0/24"]}}
            patch Node c uid= rv=3 {"spec":{"podCIDR":"10.42.2.0/24","podCIDRs":["10.42.2.0/24"]}}
            report Changing("ranges given out")
        "#]]
        .assert_eq(&plan(
            &controller("10.42.0.0/16", None),
            &[
                "{metadata: {name: a, resourceVersion: '1'}, spec: {podCIDR: 10.42.1.0/24}}",
                "{metadata: {name: b, resourceVersion: '2'}}",
                "{metadata: {name: c, resourceVersion: '3'}}",
            ],
        ));
    }

    #[test]
    fn the_range_of_services_is_kept_free_and_an_exhausted_range_is_said() {
        let out = plan(
            &controller("10.42.0.0/23", Some("10.42.0.0/24")),
            &[
                "{metadata: {name: a}, spec: {podCIDR: 10.42.1.0/24}}",
                "{metadata: {name: b}}",
            ],
        );
        expect![[r#"
            event Normal CIDRNotAvailable Node b: Node b status is now: CIDRNotAvailable
            report WaitingOn("a free pod range")
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn networks_are_read_and_compared() {
        assert_eq!(Network::parse("10.42.3.4/16").unwrap().to_string(), "10.42.0.0/16");
        assert!(
            Network::parse("0.0.0.0/0")
                .unwrap()
                .overlaps(Network::parse("10.0.0.0/8").unwrap())
        );
        assert!(Network::parse("10.0.0.0").is_none() && Network::parse("10.0.0.0/33").is_none());
    }
}
