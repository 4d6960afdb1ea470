//! How good a node is that would do: rules with weights, each from 0 to 100.

mod affinity;
mod allocation;
mod spread;
mod taints;

use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// The best value of one rule.
const BEST: i64 = 100;

/// What a rule gives each node, before it is brought to the common scale.
struct Rule {
    weight: i64,
    raw: fn(&PodInfo, &NodeInfo) -> i64,
    scale: Scale,
}

/// How raw values become 0 to 100.
enum Scale {
    /// They are that already.
    AsIs,
    /// The largest becomes 100.
    LargestIsBest,
    /// 0 becomes 100, the largest becomes 0.
    SmallestIsBest,
}

/// All rules, with Kubernetes' weights; `spread` stands for its default topology spreading.
const RULES: [Rule; 5] = [
    Rule {
        weight: 1,
        raw: allocation::least,
        scale: Scale::AsIs,
    },
    Rule {
        weight: 1,
        raw: allocation::balanced,
        scale: Scale::AsIs,
    },
    Rule {
        weight: 2,
        raw: affinity::preferred,
        scale: Scale::LargestIsBest,
    },
    Rule {
        weight: 3,
        raw: taints::soft,
        scale: Scale::SmallestIsBest,
    },
    Rule {
        weight: 2,
        raw: spread::replicas,
        scale: Scale::SmallestIsBest,
    },
];

/// The weighted sum of all rules, for each of the nodes.
pub(crate) fn totals(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    let mut raw = vec![0; nodes.len()];
    for rule in &RULES {
        for (value, node) in raw.iter_mut().zip(nodes) {
            *value = (rule.raw)(pod, node);
        }
        let largest = raw.iter().copied().max().unwrap_or(0);
        for (total, value) in totals.iter_mut().zip(&raw) {
            let score = match rule.scale {
                Scale::AsIs => *value,
                Scale::LargestIsBest if largest == 0 => 0,
                Scale::LargestIsBest => value * BEST / largest,
                Scale::SmallestIsBest if largest == 0 => BEST,
                Scale::SmallestIsBest => (largest - value) * BEST / largest,
            };
            *total += rule.weight * score;
        }
    }
    totals
}

#[cfg(test)]
mod tests;
