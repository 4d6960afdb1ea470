//! NodeRestriction: the part of a node's permissions that depends on the object written. A node changes only its own Node
//! and Lease, and only pods bound to it; it cannot give itself labels that workloads are steered by.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;
use skiff_api::object::{self, str_at};
use skiff_api::pod_settings;
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::node::{LEASE_NAMESPACE, node_name};
use crate::admission::{Admission, AdmissionRequest, Operation};
use crate::registry::Lookup;

pub struct NodeRestriction;

/// Labels that a node may set on itself although their domain is Kubernetes'.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

fn may_set_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// Labels that differ between two objects and that a node must not touch.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old): (BTreeMap<_, _>, BTreeMap<_, _>) = (object::labels(new), object::labels(old));
    let mut keys: Vec<String> = new
        .keys()
        .chain(old.keys())
        .filter(|k| new.get(*k) != old.get(*k))
        .cloned()
        .collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| !may_set_label(key));
    keys
}

fn refused(request: &AdmissionRequest, why: String) -> Box<ApiStatus> {
    let subject = Subject {
        group: request.info.group,
        resource: request.info.resource,
        name: &request.name,
    };
    ApiStatus::forbidden(subject, &why)
}

fn check_node(node: &str, request: &AdmissionRequest) -> Result<(), String> {
    if request.name != node {
        return Err(format!(
            "node {node:?} is not allowed to modify node {:?}",
            request.name
        ));
    }
    let nothing = Value::Null;
    let old = request.old.as_deref().unwrap_or(&nothing);
    if request.operation == Operation::Create {
        if request
            .object
            .pointer("/spec/configSource")
            .is_some_and(|source| !source.is_null())
        {
            return Err(format!(
                "node {node:?} is not allowed to create pods with a non-nil configSource"
            ));
        }
    } else if request.operation == Operation::Update {
        if request.object.pointer("/spec/taints") != old.pointer("/spec/taints") {
            return Err(format!("node {node:?} is not allowed to modify taints"));
        }
        if request.object.pointer("/metadata/ownerReferences") != old.pointer("/metadata/ownerReferences") {
            return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
    }
    if request.operation == Operation::Create || request.operation == Operation::Update {
        let labels = forbidden_labels(&request.object, old);
        if !labels.is_empty() {
            let verb = if request.operation == Operation::Create {
                "set"
            } else {
                "modify"
            };
            return Err(format!(
                "is not allowed to {verb} the following labels: {}",
                labels.join(", ")
            ));
        }
    }
    Ok(())
}

fn check_pod(node: &str, request: &AdmissionRequest, lookup: &dyn Lookup) -> Result<(), String> {
    let bound_here = |pod: &Value| str_at(pod, "/spec/nodeName") == node;
    let stored_is_own = || match &request.old {
        Some(old) => bound_here(old),
        None => lookup
            .get("", "pods", &request.namespace, &request.name)
            .is_some_and(|pod| bound_here(&pod)),
    };
    match (request.operation, request.subresource.as_str()) {
        (Operation::Create, "") => {
            let mirror = str_at(&request.object, "/metadata/annotations/kubernetes.io~1config.mirror");
            if mirror.is_empty() {
                return Err(format!(
                    "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
                    "kubernetes.io/config.mirror"
                ));
            }
            if !config_sources(&request.object).is_empty() {
                return Err(format!(
                    "node {node:?} cannot create mirror pods with skiff.dev/config annotations"
                ));
            }
            if bound_here(&request.object) {
                Ok(())
            } else {
                Err(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ))
            }
        }
        (Operation::Create, "eviction") if stored_is_own() => Ok(()),
        (Operation::Create, "eviction") => Err(format!(
            "node {node:?} can only evict pods with spec.nodeName set to itself"
        )),
        (Operation::Delete, _) if stored_is_own() => Ok(()),
        (Operation::Delete, _) => Err(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        )),
        (Operation::Update, "status") if !stored_is_own() => Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )),
        (Operation::Update, "status") => {
            let old_labels = request.old.as_deref().map(object::labels).unwrap_or_default();
            if object::labels(&request.object) != old_labels {
                return Err(format!("node {node:?} cannot update labels through pod status"));
            }
            let nothing = Value::Null;
            if config_sources(&request.object) != config_sources(request.old.as_deref().unwrap_or(&nothing)) {
                return Err(format!(
                    "node {node:?} cannot update skiff.dev/config annotations through pod status"
                ));
            }
            Ok(())
        }
        (operation, _) => Err(format!(
            "unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"
        )),
    }
}

/// The annotations that let a node read ConfigMaps and Secrets.
fn config_sources(pod: &Value) -> Vec<(&String, &Value)> {
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let of_config =
        |(key, _): &(&String, &Value)| pod_settings::of_key(key).is_some_and(|(setting, _)| setting.name == "config");
    annotations.into_iter().flatten().filter(of_config).collect()
}

/// A token that a node asks for must be bound to a pod that runs there with that ServiceAccount.
fn check_token(node: &str, request: &AdmissionRequest, lookup: &dyn Lookup) -> Result<(), String> {
    let reference = &request.object["spec"]["boundObjectRef"];
    let (kind, name, uid) = (
        str_at(reference, "/kind"),
        str_at(reference, "/name"),
        str_at(reference, "/uid"),
    );
    if kind != "Pod" || name.is_empty() {
        return Err("node requested token not bound to a pod".to_owned());
    }
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let pod = lookup.get("", "pods", &request.namespace, name);
    match pod {
        Some(pod) if object::uid(&pod) == uid && str_at(&pod, "/spec/nodeName") == node => Ok(()),
        Some(pod) if object::uid(&pod) != uid => Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )),
        _ => Err("node requested token bound to a pod scheduled on a different node".to_owned()),
    }
}

fn check_lease(node: &str, request: &AdmissionRequest) -> Result<(), String> {
    if request.namespace != LEASE_NAMESPACE {
        return Err(format!(
            "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
        ));
    }
    if request.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        let Some(node) = node_name(&request.user) else {
            return Ok(());
        };
        let outcome = match (request.info.group, request.info.resource, request.subresource.as_str()) {
            ("", "nodes", _) => check_node(node, request),
            ("", "pods", _) => check_pod(node, request, lookup),
            ("", "serviceaccounts", "token") => check_token(node, request, lookup),
            ("coordination.k8s.io", "leases", _) => check_lease(node, request),
            _ => Ok(()),
        };
        outcome.map_err(|why| refused(request, why))
    }
}
