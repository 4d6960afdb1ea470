//! What every cluster has before anyone asks for it: namespaces, RBAC defaults, the `wasm` RuntimeClass, …
//!
//! Reconciled on every start as Kubernetes does it: what is missing is made, missing rules and subjects of the RBAC
//! defaults are added unless the object says `autoupdate: "false"`, and what users have added stays.

use std::sync::LazyLock;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use skiff_api::kind;
use skiff_api::object::{self, list_at};
use skiff_api::status::ApiResult;

use crate::authz::aggregation::aggregated_rules;
use crate::authz::rbac::GROUP as RBAC_GROUP;
use crate::authz::rules::{Rule, uncovered};
use crate::pki::Pki;
use crate::registry::{Lookup, Registry};

#[cfg(test)]
mod tests;

/// How many objects are made at once: enough to share the store's commits.
const PARALLEL: usize = 64;
/// `"false"` on an RBAC default: hands off.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

static RBAC_DATA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../api/data/rbac-bootstrap.json"))
        .expect("the RBAC table in the tree is JSON")
});

/// The table of RBAC defaults.
pub fn rbac_data() -> &'static Value {
    &RBAC_DATA
}

/// Makes and reconciles everything. Objects of kinds that are not served are left out.
pub async fn ensure(registry: &Registry, pki: &Pki) -> ApiResult<()> {
    // Namespaces first: everything else may live in them.
    for group in [namespaces(), [rbac_defaults(), others(pki)].concat()] {
        stream::iter(group)
            .map(|object| ensure_object(registry, object))
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

async fn ensure_object(registry: &Registry, wanted: Value) -> ApiResult<()> {
    let (group, _) = kind::split_api_version(object::api_version(&wanted));
    let Some(resource) = registry.resource_of_kind(group, object::kind(&wanted)) else {
        return Ok(());
    };
    let (namespace, name) = (object::namespace(&wanted), object::name(&wanted));
    let present = Lookup::get(registry, group, resource.info.resource, namespace, name);
    if present.is_some_and(|present| merged(&present, &wanted).is_none()) {
        return Ok(());
    }
    match registry.create(resource, wanted.clone()).await {
        Err(status) if status.code == 409 => {}
        other => return other.map(drop),
    }
    let change = |current: &mut Value| {
        if let Some(merged) = merged(current, &wanted) {
            *current = merged;
        }
        Ok(())
    };
    registry.update_with(resource, namespace, name, change).await.map(drop)
}

/// `present` with what it lacks of `wanted`, or `None` when it lacks nothing. Only RBAC defaults are ever changed.
fn merged(present: &Value, wanted: &Value) -> Option<Value> {
    let (group, _) = kind::split_api_version(object::api_version(wanted));
    let hands_off = object::annotations(present)
        .get(AUTOUPDATE)
        .is_some_and(|value| value == "false");
    if group != RBAC_GROUP || hands_off || object::is_terminating(present) {
        return None;
    }
    let mut merged = present.clone();
    for key in ["labels", "annotations"] {
        let lacking = object::string_map(wanted, &format!("/metadata/{key}"));
        let have = object::map_entry(&mut merged["metadata"], key);
        for (label, value) in lacking {
            have.entry(label).or_insert(value.into());
        }
    }
    if let Some(rule) = wanted.get("aggregationRule") {
        // The rules of an aggregated role are kept by the aggregation.
        merged["aggregationRule"] = rule.clone();
    } else if wanted.get("rules").is_some() {
        let missing = uncovered(&Rule::list_of(present), &Rule::list_of(wanted));
        if !missing.is_empty() {
            let mut rules = list_at(present, "/rules").to_vec();
            rules.extend(missing.iter().map(Rule::to_json));
            merged["rules"] = rules.into();
        }
    }
    if wanted.get("subjects").is_some() {
        let mut subjects = list_at(present, "/subjects").to_vec();
        for subject in list_at(wanted, "/subjects") {
            if !subjects.contains(subject) {
                subjects.push(subject.clone());
            }
        }
        merged["subjects"] = subjects.into();
    }
    (merged != *present).then_some(merged)
}

fn namespaces() -> Vec<Value> {
    ["default", "kube-system", "kube-public", "kube-node-lease"]
        .into_iter()
        .map(|name| {
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            })
        })
        .collect()
}

/// The RBAC defaults as complete objects; aggregated roles with their rules.
pub fn rbac_defaults() -> Vec<Value> {
    let mut objects = Vec::new();
    for (list, kind) in [
        ("/clusterRoles", "ClusterRole"),
        ("/clusterRoleBindings", "ClusterRoleBinding"),
        ("/roles", "Role"),
        ("/roleBindings", "RoleBinding"),
    ] {
        objects.extend(list_at(rbac_data(), list).iter().map(|row| rbac_object(kind, row)));
    }
    // `admin` is made of `edit`, which is made of `view`: three rounds reach the end whatever the order of names.
    for _ in 0..3 {
        let roles: Vec<Value> = objects
            .iter()
            .filter(|o| object::kind(o) == "ClusterRole")
            .cloned()
            .collect();
        for object in &mut objects {
            if let Some(rules) = aggregated_rules(object, roles.iter()) {
                object["rules"] = rules.into();
            }
        }
    }
    objects
}

fn rbac_object(kind: &str, row: &Value) -> Value {
    let common = &rbac_data()["_common"];
    let mut object = row.clone();
    let map = object::as_map(&mut object);
    let mut metadata = json!({
        "name": map.remove("name"),
        "labels": common["labels"],
        "annotations": common["annotations"],
    });
    if let Some(namespace) = map.remove("namespace") {
        metadata["namespace"] = namespace;
    }
    if let Some(Value::Object(labels)) = map.remove("labels") {
        object::map_entry(&mut metadata, "labels").extend(labels);
    }
    if let Some(Value::Object(annotations)) = map.remove("annotations") {
        object::map_entry(&mut metadata, "annotations").extend(annotations);
    }
    map.insert("apiVersion".into(), common["apiVersion"].clone());
    map.insert("kind".into(), kind.into());
    map.insert("metadata".into(), metadata);
    if let Some(reference) = map.get_mut("roleRef") {
        reference["apiGroup"] = RBAC_GROUP.into();
    }
    if let Some(Value::Array(subjects)) = map.get_mut("subjects") {
        for subject in subjects.iter_mut().filter(|s| s["kind"] != "ServiceAccount") {
            subject["apiGroup"] = RBAC_GROUP.into();
        }
    }
    object
}

fn others(pki: &Pki) -> Vec<Value> {
    let priority = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name, "generation": 1},
            "value": value, "preemptionPolicy": "PreemptLowerPriority", "description": description,
        })
    };
    vec![
        json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "wasm"},
            "handler": "wasm",
        }),
        // Where extension servers and clients in the cluster find the CA of client certificates.
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": {"client-ca-file": pki.ca_pem()},
        }),
        priority(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        priority(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}
