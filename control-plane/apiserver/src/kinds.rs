//! The kinds that are served: one row each.

use std::sync::Arc;

use crate::strategy::Strategy;

/// Every served kind.
pub fn all() -> Vec<Arc<dyn Strategy>> {
    ["pods", "nodes", "namespaces", "configmaps"].into_iter().map(|resource| crate::generic::strategy("", "v1", resource)).collect()
}
