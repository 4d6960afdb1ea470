//! May they: the attributes of a request and the question put to authorizers.

use std::sync::Arc;

use async_trait::async_trait;
use skiff_api::status::{ApiStatus, Subject};

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
    Allow { reason: String },
    /// Someone else may allow it; if nobody does it is forbidden.
    NoOpinion { reason: String },
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
    vec![Arc::new(Masters), Arc::new(node::NodeAuthorizer::new(Arc::clone(lookup))), Arc::clone(rbac) as _]
}

/// The 403 for a request that nobody allowed; `reason` is what the authorizers said, often nothing.
pub fn forbidden(attributes: &Attributes, reason: &str) -> Box<ApiStatus> {
    let user = &attributes.user.name;
    let mut why = if attributes.resource_request {
        let resource = match attributes.subresource.as_str() {
            "" => attributes.resource.clone(),
            subresource => format!("{}/{subresource}", attributes.resource),
        };
        let scope = match attributes.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let (verb, group) = (&attributes.verb, &attributes.group);
        format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}")
    } else {
        format!("User {user:?} cannot {} path {:?}", attributes.verb, attributes.path)
    };
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    let subject = if attributes.resource_request {
        Subject { group: &attributes.group, resource: &attributes.resource, name: &attributes.name }
    } else {
        Subject::default()
    };
    ApiStatus::forbidden(subject, &why)
}
