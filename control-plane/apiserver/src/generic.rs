//! The strategy of a kind without rules of its own.

use std::sync::Arc;

use skiff_api::kind::{self, ResourceInfo};

use crate::strategy::Strategy;

struct Generic(&'static ResourceInfo);

impl Strategy for Generic {
    fn info(&self) -> &'static ResourceInfo {
        self.0
    }
}

/// A strategy of defaults only. Panics when the resource table has no such row: a mistake in the list of kinds.
pub fn strategy(group: &str, version: &str, resource: &str) -> Arc<dyn Strategy> {
    let info = kind::find(group, version, resource, "").expect("the list of kinds names rows of the resource table");
    Arc::new(Generic(info))
}
