//! Host ports: two pods cannot have the same port of one node.

use super::{Search, Unfit};
use crate::node::NodeInfo;

pub(super) fn filter(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    if search
        .pod
        .host_ports
        .iter()
        .any(|port| node.ports().iter().any(|used| used.collides(port)))
    {
        return Err(Unfit::for_now(
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}
