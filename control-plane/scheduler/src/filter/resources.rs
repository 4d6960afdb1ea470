//! Resources: the pod's requests must fit beside those of the pods that are there.

use std::borrow::Cow;

use super::{Search, Unfit};
use crate::node::NodeInfo;

pub(super) fn filter(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    let wanted = &search.pod.requests;
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    // What does not fit into the empty node will not fit after pods have gone either.
    let mut beyond_the_node = false;
    if i64::try_from(node.pod_count()).unwrap_or(i64::MAX) >= node.pods_max {
        reasons.push(Cow::Borrowed("Too many pods"));
        beyond_the_node |= node.pods_max == 0;
    }
    let mut compare = |want: i64, have: i64, used: i64, reason: &dyn Fn() -> Cow<'static, str>| {
        if want > 0 && want > have - used {
            reasons.push(reason());
            beyond_the_node |= want > have;
        }
    };
    let (have, used) = (&node.allocatable, &node.requested);
    compare(wanted.cpu_milli, have.cpu_milli, used.cpu_milli, &|| {
        Cow::Borrowed("Insufficient cpu")
    });
    compare(wanted.memory, have.memory, used.memory, &|| {
        Cow::Borrowed("Insufficient memory")
    });
    let storage = "Insufficient ephemeral-storage";
    compare(
        wanted.ephemeral_storage,
        have.ephemeral_storage,
        used.ephemeral_storage,
        &|| Cow::Borrowed(storage),
    );
    for (name, want) in &wanted.others {
        let amount = |of: &std::collections::BTreeMap<String, i64>| of.get(name).copied().unwrap_or(0);
        compare(*want, amount(&have.others), amount(&used.others), &|| {
            Cow::Owned(format!("Insufficient {name}"))
        });
    }
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(Unfit {
            reasons,
            pods_in_the_way: !beyond_the_node,
        })
    }
}
