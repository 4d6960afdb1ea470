//! Admission: rules that look across objects, run between decoding and storing. One rule is one file in `admission/`;
//! the order is the list in `plugins.rs`.

pub mod default_tolerations;
pub mod namespace_lifecycle;
pub mod priority;
pub mod runtime_class;
pub mod service_account;
pub mod taint_nodes;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skiff_api::kind::ResourceInfo;
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use crate::authn::UserInfo;
use crate::registry::Lookup;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way into the store.
pub struct AdmissionRequest {
    pub operation: Operation,
    /// The row of the resource itself, also for a subresource.
    pub info: &'static ResourceInfo,
    /// `""` for the resource itself.
    pub subresource: String,
    /// `""` for cluster-wide objects.
    pub namespace: String,
    /// May be `""` on create with generateName before the name is made; the handlers make it before admission.
    pub name: String,
    pub user: UserInfo,
    pub dry_run: bool,
    /// The new object; null on delete.
    pub object: Value,
    /// The stored object; absent on create.
    pub old: Option<Arc<Value>>,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions.
    pub options: Value,
    /// Texts for `Warning:` headers that a rule wants shown.
    pub warnings: Vec<String>,
}

impl AdmissionRequest {
    /// Whether this is about the main resource `group`/`resource` and not one of its subresources.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.info.group == group && self.info.resource == resource
    }
    /// 403: `pods "web" is forbidden: …`.
    pub fn forbidden(&self, why: &str) -> Box<ApiStatus> {
        let subject = Subject {
            group: self.info.group,
            resource: self.info.resource,
            name: &self.name,
        };
        ApiStatus::forbidden(subject, why)
    }
}

/// One rule. `admit` may change `request.object`; `validate` runs after defaults and validation and sees the final object.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    async fn admit(&self, _request: &mut AdmissionRequest, _lookup: &dyn Lookup) -> ApiResult<()> {
        Ok(())
    }
    async fn validate(&self, _request: &mut AdmissionRequest, _lookup: &dyn Lookup) -> ApiResult<()> {
        Ok(())
    }
}

/// The rules in order.
#[derive(Default)]
pub struct Admissions(pub Vec<Arc<dyn Admission>>);

impl Admissions {
    pub async fn admit(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        for rule in &self.0 {
            rule.admit(request, lookup).await?;
        }
        Ok(())
    }
    pub async fn validate(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        for rule in &self.0 {
            rule.validate(request, lookup).await?;
        }
        Ok(())
    }
}
