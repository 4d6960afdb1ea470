//! A container's environment and arguments: values, references to ConfigMaps, Secrets, the pod and its resources, and
//! `$(VAR)`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use skiff_api::quantity::Quantity;
use skiff_lifecycle::spec;

use crate::context::Context;
use crate::objects::Objects;
use crate::perform::namespace_and_name;

/// A host name is a label of DNS.
const HOSTNAME_MAX: usize = 63;

/// What fields and resources can refer to besides the pod.
pub(crate) struct Facts {
    node_name: String,
    host_ip: String,
    pod_ip: Option<String>,
    allocatable: BTreeMap<String, ApiQuantity>,
}

impl Facts {
    pub(crate) fn new(ctx: &Context, pod_ip: Option<String>) -> Self {
        let node = ctx.node.borrow().clone();
        let allocatable = node
            .and_then(|node| node.status.as_ref()?.allocatable.clone())
            .unwrap_or_default();
        Self {
            node_name: ctx.config.node_name.clone(),
            host_ip: ctx.config.node_ip.to_string(),
            pod_ip,
            allocatable,
        }
    }
}

/// All variables in order; errors are kubelet's texts behind CreateContainerConfigError.
pub(crate) async fn resolve(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let (namespace, _) = namespace_and_name(pod);
    let mut env = Environment::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        for (key, value) in from_source(objects, namespace, source).await? {
            env.set(format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => match from_reference(objects, pod, container, source, facts).await? {
                Some(value) => value,
                None => continue,
            },
            None => expand(variable.value.as_deref().unwrap_or_default(), &env.variables),
        };
        env.set(variable.name.clone(), value);
    }
    // Container runtimes set it last and only if nobody else has, so that `$(HOSTNAME)` refers to nothing.
    if !env.variables.iter().any(|(name, _)| name == "HOSTNAME") {
        env.set("HOSTNAME".to_owned(), hostname(pod, &facts.node_name));
    }
    Ok(env.variables)
}

/// The name that the pod's containers see as their host's: their own, the pod's, or the node's on the node's network.
pub(crate) fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return node_name.to_owned();
    }
    let own = spec
        .and_then(|spec| spec.hostname.as_deref())
        .filter(|own| !own.is_empty());
    let name = own.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[derive(Default)]
struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// The last value of a name wins, at the place of the first.
    fn set(&mut self, name: String, value: String) {
        match self.variables.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name, value)),
        }
    }
}

async fn from_source(
    objects: &Objects,
    namespace: &str,
    source: &EnvFromSource,
) -> Result<BTreeMap<String, String>, String> {
    if let Some(reference) = &source.config_map_ref {
        let found = objects
            .config_map(namespace, &reference.name)
            .await
            .map_err(api_error)?;
        return match found {
            Some(found) => Ok(found.data.clone().unwrap_or_default()),
            None if reference.optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(format!("configmap \"{}\" not found", reference.name)),
        };
    }
    if let Some(reference) = &source.secret_ref {
        let found = objects.secret(namespace, &reference.name).await.map_err(api_error)?;
        return match found {
            Some(found) => {
                let data = found.data.iter().flatten();
                Ok(data
                    .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
                    .collect())
            }
            None if reference.optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(format!("secret \"{}\" not found", reference.name)),
        };
    }
    Ok(BTreeMap::new())
}

/// None: an optional reference that leads nowhere; the variable is left out.
async fn from_reference(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &Facts,
) -> Result<Option<String>, String> {
    let (namespace, _) = namespace_and_name(pod);
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let (name, key) = (&reference.name, &reference.key);
        return match objects.config_map(namespace, name).await.map_err(api_error)? {
            Some(found) => match found.data.as_ref().and_then(|data| data.get(key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(format!("couldn't find key {key} in ConfigMap {namespace}/{name}")),
            },
            None if optional => Ok(None),
            None => Err(format!("configmap \"{name}\" not found")),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let (name, key) = (&reference.name, &reference.key);
        return match objects.secret(namespace, name).await.map_err(api_error)? {
            Some(found) => match found.data.as_ref().and_then(|data| data.get(key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(format!("couldn't find key {key} in Secret {namespace}/{name}")),
            },
            None if optional => Ok(None),
            None => Err(format!("secret \"{name}\" not found")),
        };
    }
    if let Some(reference) = &source.field_ref {
        return field(pod, reference, facts).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(pod, Some(container), reference, facts).map(Some);
    }
    Ok(Some(String::new()))
}

pub(crate) fn api_error(error: kube::Error) -> String {
    match error {
        kube::Error::Api(answer) => answer.message,
        other => crate::error::chain(&other),
    }
}

/// A field of the pod, as the downward API names it.
pub(crate) fn field(pod: &Pod, reference: &ObjectFieldSelector, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    let path = reference.field_path.as_str();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let ip = || facts.pod_ip.clone().unwrap_or_default();
    if let Some((map, key)) = path
        .split_once("['")
        .and_then(|(map, rest)| Some((map, rest.strip_suffix("']")?)))
    {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("invalid fieldPath: {path}")),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => formatted(&meta.labels),
        "metadata.annotations" => formatted(&meta.annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" | "status.podIPs" => ip(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `key="value"` lines, sorted: a whole map as a downward API file.
fn formatted(map: &Option<BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// A request or limit of a container, divided and rounded up.
pub(crate) fn resource(
    pod: &Pod,
    container: Option<&Container>,
    reference: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let named = reference.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => pod
            .spec
            .as_ref()
            .and_then(|spec| spec::find(spec, name))
            .map(|(_, container)| container),
        None => container,
    };
    let container = container.ok_or_else(|| format!("container {} not found", named.unwrap_or_default()))?;
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = reference.resource.split_once('.').unwrap_or(("", &reference.resource));
    let own = match kind {
        "limits" => quantity(resources.limits.as_ref().and_then(|map| map.get(name)))
            // Without a limit the node's allocatable is the limit.
            .or_else(|| quantity(facts.allocatable.get(name))),
        "requests" => quantity(resources.requests.as_ref().and_then(|map| map.get(name))),
        _ => return Err(format!("unsupported container resource : {}", reference.resource)),
    };
    let own = own.unwrap_or(Quantity::ZERO);
    let divisor = quantity(reference.divisor.as_ref());
    let (amount, divisor) = match name {
        "cpu" => (own.milli_value(), divisor.map_or(0, |divisor| divisor.milli_value())),
        _ => (own.value(), divisor.map_or(0, |divisor| divisor.value())),
    };
    let divisor = match (divisor, name) {
        (0, "cpu") => 1000,
        (0, _) => 1,
        (divisor, _) => divisor,
    };
    Ok(((amount as i128 + divisor as i128 - 1) / divisor as i128).to_string())
}

pub(crate) fn quantity(quantity: Option<&ApiQuantity>) -> Option<Quantity> {
    quantity.and_then(|quantity| Quantity::parse(&quantity.0).ok())
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for `$`, and an unknown name is left as it is.
pub(crate) fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.iter().find(|(other, _)| other == name) {
                Some((_, value)) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vec<(String, String)> {
        vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]
    }

    #[test]
    fn references_expand_once_and_unknown_ones_stay() {
        let cases = [
            ("x$(A)y", "x1y"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $ $(A", "$A $ $(A"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &vars()), expected, "{text}");
        }
    }

    #[test]
    fn a_pods_host_name_is_a_label_of_dns() {
        let of = |name: &str, spec: serde_json::Value| {
            let mut spec = spec;
            spec["containers"] = serde_json::json!([]);
            let pod = serde_json::json!({"metadata": {"name": name}, "spec": spec});
            hostname(&serde_json::from_value(pod).unwrap(), "node-a")
        };
        assert_eq!(of("web", serde_json::json!({})), "web");
        assert_eq!(of("web", serde_json::json!({"hostname": "job-3"})), "job-3");
        assert_eq!(of("web", serde_json::json!({"hostNetwork": true})), "node-a");
        assert_eq!(
            of(&format!("{}-.x", "a".repeat(61)), serde_json::json!({})),
            "a".repeat(61)
        );
    }

    #[test]
    fn a_resource_is_divided_and_rounded_up() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "resources": { "limits": { "cpu": "1500m" }, "requests": { "memory": "100Mi" } }
        }))
        .unwrap();
        let facts = Facts {
            node_name: String::new(),
            host_ip: String::new(),
            pod_ip: None,
            allocatable: [("memory".to_owned(), ApiQuantity("2Gi".to_owned()))].into(),
        };
        let ask = |name: &str, divisor: &str| {
            let divisor = Some(ApiQuantity(divisor.to_owned())).filter(|divisor| !divisor.0.is_empty());
            let reference = ResourceFieldSelector {
                container_name: None,
                divisor,
                resource: name.to_owned(),
            };
            resource(&Pod::default(), Some(&container), &reference, &facts).unwrap()
        };
        assert_eq!(ask("limits.cpu", ""), "2");
        assert_eq!(ask("limits.cpu", "1m"), "1500");
        assert_eq!(ask("requests.memory", "1Mi"), "100");
        assert_eq!(ask("limits.memory", "1Gi"), "2");
        assert_eq!(ask("requests.cpu", ""), "0");
    }
}
