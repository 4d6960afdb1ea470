//! The kinds that are served: one row each. Adding a kind is one file in `kinds/` and one row here.

pub(crate) mod common;
mod namespace;
mod node;
pub(crate) mod pod;
pub(crate) mod validate;

use std::sync::Arc;

use crate::strategy::Strategy;

/// Every served kind.
pub fn all() -> Vec<Arc<dyn Strategy>> {
    vec![
        Arc::new(namespace::NamespaceStrategy),
        Arc::new(node::NodeStrategy),
        Arc::new(pod::PodStrategy),
        crate::generic::strategy("", "v1", "configmaps"),
    ]
}
