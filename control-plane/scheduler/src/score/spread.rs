//! Spreading: pods of one set go to different nodes as long as there are some.

use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) fn replicas(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let count = pod.owner_uid.as_deref().map_or(0, |owner| node.pods_of_set(owner));
    i64::try_from(count).unwrap_or(i64::MAX)
}
