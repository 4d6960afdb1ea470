//! The scheduler, pure: one pod against a picture of the cluster gives a node, or the reason why there is none.
//!
//! **Invariant:** no IO, no clocks, no randomness: ties are broken by a seed that the caller gives.
//! **Invariant:** the picture is kept up to date by small steps; a cycle never copies it.
//!
//! Reading order: `cluster` (the picture), `pod` and `node` (what it is made of), `cycle` (the decision), `filter` and
//! `score` (one rule each), `explain` (why nothing fits).

mod cluster;
mod cycle;
mod explain;
mod filter;
mod node;
mod node_selector;
mod pod;
mod resources;
mod score;

pub use cluster::Cluster;
pub use cycle::{Cursor, Decision, schedule};
pub use explain::Explanation;
pub use filter::Unfit;
pub use node::NodeInfo;
pub use pod::PodInfo;
pub use resources::Resources;

#[cfg(test)]
mod testing;
