//! May they: the attributes of a request and the question put to authorizers.

use std::sync::Arc;

use async_trait::async_trait;

use crate::authn::{MASTERS, UserInfo};
use crate::registry::Lookup;

pub mod aggregation;
pub mod escalation;
pub mod node;
pub mod node_restriction;
pub mod rbac;
pub mod rules;

#[cfg(test)]
mod tests;

/// What is to be authorised; either a resource or a path.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub user: UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, … or a lower-case HTTP method
    /// for a non-resource path.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Set for non-resource requests.
    pub path: String,
    pub resource_request: bool,
    /// For list, watch and deletecollection: the `field=value` requirements of the field selector.
    pub field_selector: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow {
        reason: String,
    },
    /// Someone else may allow it; if nobody does it is forbidden.
    NoOpinion {
        reason: String,
    },
}

#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes) -> Decision;
}

/// Members of `system:masters` may do everything.
pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.in_group(MASTERS) {
            Decision::Allow { reason: String::new() }
        } else {
            Decision::NoOpinion { reason: String::new() }
        }
    }
}

/// The standard authorizers, in order: masters, nodes, RBAC. `rbac` is shared with reviews and escalation checks.
pub fn standard(lookup: &Arc<dyn Lookup>, rbac: &Arc<rbac::Rbac>) -> Vec<Arc<dyn Authorizer>> {
    vec![
        Arc::new(Masters),
        Arc::new(node::NodeAuthorizer::new(Arc::clone(lookup))),
        Arc::clone(rbac) as _,
    ]
}
