//! Resources: nodes with much room are better, and nodes where CPU and memory run out together.

use super::BEST;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

fn with_pod(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    let cpu = node.for_comparison.0 + pod.for_comparison.0;
    let memory = node.for_comparison.1 + pod.for_comparison.1;
    [(cpu, node.allocatable.cpu_milli), (memory, node.allocatable.memory)]
}

/// The mean free share of CPU and memory, in percent.
pub(super) fn least(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |(used, have): (i64, i64)| {
        if have == 0 || used > have {
            0
        } else {
            i64::try_from(i128::from(have - used) * 100 / i128::from(have)).unwrap_or(0)
        }
    };
    with_pod(pod, node).into_iter().map(free).sum::<i64>() / 2
}

/// 100 less half the distance between the used shares of CPU and memory, in percent.
pub(super) fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let share = |(used, have): (i64, i64)| {
        if have == 0 {
            1.0
        } else {
            (used as f64 / have as f64).min(1.0)
        }
    };
    let [cpu, memory] = with_pod(pod, node).map(share);
    ((1.0 - (cpu - memory).abs() / 2.0) * BEST as f64) as i64
}
