//! May they: the attributes of a request and the question put to authorizers.

use async_trait::async_trait;

use crate::authn::UserInfo;

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
