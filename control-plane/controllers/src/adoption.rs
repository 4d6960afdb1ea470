//! Which children an owner takes on, and which it lets go: by selector and owner reference, as in Kubernetes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::plan::{Action, Resource, Target};
use skiff_api::labels;

/// What becomes of a candidate child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Owned and wanted.
    Keep,
    /// Not owned by anyone, and wanted.
    Adopt,
    /// Owned, and matching no more.
    Release,
    /// Not ours.
    Ignore,
}

/// Decides over one candidate. `owner` is the owner's metadata.
pub fn claim(owner: &ObjectMeta, selector: &LabelSelector, child: &ObjectMeta) -> Claim {
    let matching = !labels::is_empty(selector) && labels::matches(selector, child.labels.as_ref());
    let owner_terminating = owner.deletion_timestamp.is_some();
    match crate::caches::controller_of(child) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matching => Claim::Keep,
        Some(_) if owner_terminating || child.deletion_timestamp.is_some() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !matching || owner_terminating || child.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The reference that a child carries to its controller.
pub fn reference(resource: &Resource, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: resource.api_version.to_string(),
        kind: resource.kind.to_string(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Adds the owner's reference to the child.
pub fn adopt(child_resource: Resource, child: &ObjectMeta, owner: OwnerReference) -> Action {
    let mut references = child.owner_references.clone().unwrap_or_default();
    references.push(owner);
    set_references(child_resource, child, references)
}

/// Takes the owner's reference off the child.
pub fn release(child_resource: Resource, child: &ObjectMeta, owner_uid: &str) -> Action {
    let references = child
        .owner_references
        .iter()
        .flatten()
        .filter(|one| one.uid != owner_uid)
        .cloned()
        .collect();
    set_references(child_resource, child, references)
}

fn set_references(resource: Resource, child: &ObjectMeta, references: Vec<OwnerReference>) -> Action {
    let references = if references.is_empty() {
        Value::Null
    } else {
        json!(references)
    };
    Action::patch(
        Target::exact(resource, child),
        json!({"metadata": {"ownerReferences": references}}),
    )
}
