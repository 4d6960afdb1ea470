//! Soft taints: a node is worse for each PreferNoSchedule taint that the pod does not tolerate.

use crate::filter::tolerates;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) fn soft(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let unwelcome = node.taints().iter().filter(|taint| {
        taint.effect == "PreferNoSchedule" && !pod.tolerations().iter().any(|toleration| tolerates(toleration, taint))
    });
    i64::try_from(unwelcome.count()).unwrap_or(i64::MAX)
}
