//! What a node may do: read what its own pods refer to, keep its own Node and Lease, report on its own pods.
//!
//! A node is a user `system:node:NAME` in group `system:nodes`. Which object belongs to which node follows from the pods
//! in the cache that are bound to it.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use serde_json::Value;
use skiff_api::capabilities::{self, ConfigSource};
use skiff_api::object::{self, list_at, str_at};
use skiff_api::pod_settings;

use super::rules::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::authn::UserInfo;
use crate::registry::{FieldQuery, Lookup};

pub const USER_PREFIX: &str = "system:node:";
pub const GROUP: &str = "system:nodes";
/// Where the heartbeat Leases of nodes are.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The node that a user is, if it is one.
pub fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    (!name.is_empty() && user.in_group(GROUP)).then_some(name)
}

pub struct NodeAuthorizer {
    lookup: Arc<dyn Lookup>,
}

/// The general rules of nodes, as the bootstrap ClusterRole `system:node` has them. Kinds with rules of their own below
/// never come this far.
static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let data = crate::bootstrap::rbac_data();
    list_at(data, "/clusterRoles")
        .iter()
        .find(|role| role["name"] == "system:node")
        .map(Rule::list_of)
        .unwrap_or_default()
});

/// Paths outside the API that nodes use: the tunnel, renewing their certificate, pulling modules.
fn own_path(attributes: &Attributes) -> bool {
    let path = attributes.path.as_str();
    match attributes.verb.as_str() {
        "get" | "head" => path.starts_with("/skiff/v1/") || path == "/v2" || path.starts_with("/v2/"),
        "post" => path.starts_with("/skiff/v1/"),
        _ => false,
    }
}

fn allow() -> Decision {
    Decision::Allow { reason: String::new() }
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion { reason: reason.into() }
}

impl NodeAuthorizer {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    fn decide(&self, node: &str, attributes: &Attributes) -> Decision {
        if !attributes.resource_request {
            return if own_path(attributes) { allow() } else { no("") };
        }
        match (attributes.group.as_str(), attributes.resource.as_str()) {
            ("", "secrets") => self.read_of_pods(node, attributes, refers_to_secret),
            ("", "configmaps") => self.read_of_pods(node, attributes, refers_to_config_map),
            ("", "persistentvolumeclaims") => self.read_of_pods(node, attributes, refers_to_claim),
            ("", "serviceaccounts") if attributes.subresource == "token" => {
                if attributes.verb != "create" {
                    return no("can only create tokens for individual service accounts");
                }
                self.of_pods(node, attributes, uses_service_account)
            }
            ("", "serviceaccounts") => self.read_of_pods(node, attributes, uses_service_account),
            ("coordination.k8s.io", "leases") => lease(node, attributes),
            ("", "nodes") => own_node(node, attributes),
            ("", "pods") => self.pods(node, attributes),
            _ => by_rules(attributes),
        }
    }

    /// Reading one named object that a pod of the node refers to.
    fn read_of_pods(&self, node: &str, attributes: &Attributes, refers: fn(&Value, &str) -> bool) -> Decision {
        if !matches!(attributes.verb.as_str(), "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !attributes.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if attributes.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.of_pods(node, attributes, refers)
    }

    fn of_pods(&self, node: &str, attributes: &Attributes, refers: fn(&Value, &str) -> bool) -> Decision {
        if attributes.name.is_empty() {
            return no("No Object name found");
        }
        let name = attributes.name.as_str();
        // A claim's name may be made of two others. All other names stand in the pod as they are, in quotes of their own or
        // in the annotation for `wasi:config`: those that need escapes are no names.
        let mentions = match attributes.resource.as_str() {
            "persistentvolumeclaims" => Vec::new(),
            "secrets" | "configmaps" => vec![format!("\"{name}\""), source(attributes, name).to_string()],
            _ => vec![format!("\"{name}\"")],
        };
        let of_the_node = FieldQuery {
            group: "",
            resource: "pods",
            namespace: &attributes.namespace,
            field: "spec.nodeName",
            value: node,
            mentions: &mentions,
        };
        if self.lookup.any_by_field(&of_the_node, &|pod| refers(pod, name)) {
            allow()
        } else {
            no(format!("no relationship found between node '{node}' and this object"))
        }
    }

    fn pods(&self, node: &str, attributes: &Attributes) -> Decision {
        let subresource = attributes.subresource.as_str();
        match attributes.verb.as_str() {
            "get" if subresource.is_empty() => {
                let pod = self.lookup.get("", "pods", &attributes.namespace, &attributes.name);
                if pod.is_some_and(|pod| str_at(&pod, "/spec/nodeName") == node) {
                    return allow();
                }
                no(format!("no relationship found between node '{node}' and this object"))
            }
            "list" | "watch" if subresource.is_empty() => {
                let own = attributes
                    .field_selector
                    .iter()
                    .any(|(field, value)| field == "spec.nodeName" && value == node);
                if own {
                    allow()
                } else {
                    no("can only list/watch pods with spec.nodeName field selector")
                }
            }
            // Whose pod it is, is checked when the object is at hand: node_restriction.rs.
            _ => by_rules(attributes),
        }
    }
}

fn by_rules(attributes: &Attributes) -> Decision {
    if NODE_RULES.iter().any(|rule| rule.allows(attributes)) {
        allow()
    } else {
        no("")
    }
}

fn lease(node: &str, attributes: &Attributes) -> Decision {
    match attributes.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        // One's own lease can be watched by name.
        "list" | "watch" if attributes.name == node => {}
        _ => return no("can only get, create, update, patch, or delete a node lease"),
    }
    if attributes.namespace != LEASE_NAMESPACE {
        return no(format!(
            "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
        ));
    }
    // The name of a new object is not in its request's path; node_restriction.rs looks at it.
    if attributes.verb != "create" && attributes.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, attributes: &Attributes) -> Decision {
    match attributes.verb.as_str() {
        "create" if attributes.subresource.is_empty() => allow(),
        "get" | "list" | "watch" if attributes.subresource.is_empty() && attributes.name == node => allow(),
        "get" | "list" | "watch" => no(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            attributes.name
        )),
        "update" | "patch" if matches!(attributes.subresource.as_str(), "" | "status") && attributes.name == node => {
            allow()
        }
        _ => no(""),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"]
        .into_iter()
        .flat_map(|pointer| list_at(pod, pointer))
}

/// Whether a container's environment or a volume names `name` under these keys.
fn refers(pod: &Value, name: &str, env_key: &str, env_from_key: &str, volume: &str, projected: &str) -> bool {
    let named = |value: &Value, pointer: &str| str_at(value, pointer) == name;
    let in_environment = containers(pod).any(|container| {
        list_at(container, "/env")
            .iter()
            .any(|env| named(env, &format!("/valueFrom/{env_key}/name")))
            || list_at(container, "/envFrom")
                .iter()
                .any(|from| named(from, &format!("/{env_from_key}/name")))
    });
    in_environment
        || list_at(pod, "/spec/volumes").iter().any(|v| {
            named(v, volume)
                || list_at(v, "/projected/sources")
                    .iter()
                    .any(|source| named(source, &format!("/{projected}/name")))
        })
}

/// The object as the annotation `skiff.dev/config` names it.
fn source(attributes: &Attributes, name: &str) -> ConfigSource {
    match attributes.resource.as_str() {
        "secrets" => ConfigSource::Secret(name.to_owned()),
        _ => ConfigSource::ConfigMap(name.to_owned()),
    }
}

fn is_config_source(pod: &Value, wanted: &ConfigSource) -> bool {
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    annotations.into_iter().flatten().any(|(key, value)| {
        pod_settings::of_key(key).is_some_and(|(setting, _)| setting.name == "config")
            && value
                .as_str()
                .and_then(|value| capabilities::config_sources(value).ok())
                .is_some_and(|sources| sources.contains(wanted))
    })
}

fn refers_to_secret(pod: &Value, name: &str) -> bool {
    is_config_source(pod, &ConfigSource::Secret(name.to_owned()))
        || refers(pod, name, "secretKeyRef", "secretRef", "/secret/secretName", "secret")
        || list_at(pod, "/spec/imagePullSecrets")
            .iter()
            .any(|secret| str_at(secret, "/name") == name)
}

fn refers_to_config_map(pod: &Value, name: &str) -> bool {
    is_config_source(pod, &ConfigSource::ConfigMap(name.to_owned()))
        || refers(
            pod,
            name,
            "configMapKeyRef",
            "configMapRef",
            "/configMap/name",
            "configMap",
        )
}

fn refers_to_claim(pod: &Value, name: &str) -> bool {
    list_at(pod, "/spec/volumes").iter().any(|v| {
        str_at(v, "/persistentVolumeClaim/claimName") == name
            || (v.get("ephemeral").is_some() && format!("{}-{}", object::name(pod), str_at(v, "/name")) == name)
    })
}

fn uses_service_account(pod: &Value, name: &str) -> bool {
    str_at(pod, "/spec/serviceAccountName") == name
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        match node_name(&attributes.user) {
            Some(node) => self.decide(node, attributes),
            None => no(""),
        }
    }
}
