//! What is allowed in a pod and yet probably not meant: texts for `Warning:` headers.

use std::collections::HashMap;

use serde_json::Value;
use skiff_api::field::Path;
use skiff_api::object::{int_at, list_at, str_at};
use skiff_api::pod_settings;

use super::defaults::CONTAINER_LISTS;
use crate::kinds::validate::quantity;

/// Labels of nodes that have newer names: since when, and which.
const OLD_NODE_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
];

/// Volume sources that are on their way out.
const OLD_VOLUMES: [(&str, &str); 10] = [
    ("gitRepo", "deprecated in v1.11"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("awsElasticBlockStore", "deprecated in v1.17"),
];

/// Warnings about a pod, or about the template of pods at `path` (`spec.template`).
pub(crate) fn of_template(template: &Value, path: &Path) -> Vec<String> {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let containers: Vec<&str> = CONTAINER_LISTS
        .iter()
        .flat_map(|list| list_at(spec, &format!("/{list}")))
        .map(|container| str_at(container, "/name"))
        .collect();
    let annotations = template.pointer("/metadata/annotations");
    let mut warnings = pod_settings::warnings(annotations, &containers, &path.child("metadata").child("annotations"));
    warnings.extend(of_spec(spec, &path.child("spec")));
    warnings
}

/// Warnings about a spec at `path` (`spec`, or `spec.template.spec`).
fn of_spec(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |path: Path, text: &str| warnings.push(format!("{path}: {text}"));
    for (key, _) in spec
        .get("nodeSelector")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Some(text) = old_label(key) {
            warn(path.child("nodeSelector").key(key), &text);
        }
    }
    for (i, constraint) in list_at(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(i);
        if let Some(text) = old_label(str_at(constraint, "/topologyKey")) {
            warn(path.child("topologyKey"), &text);
        }
        if constraint.get("labelSelector").is_none_or(Value::is_null) {
            warn(
                path.child("labelSelector"),
                "a null labelSelector results in matching no pod",
            );
        }
    }
    for (i, volume) in list_at(spec, "/volumes").iter().enumerate() {
        for (kind, text) in OLD_VOLUMES {
            if volume.get(kind).is_some_and(|v| !v.is_null()) {
                warn(path.child("volumes").index(i).child(kind), text);
            }
        }
    }
    let mut secrets = Vec::new();
    for (i, secret) in list_at(spec, "/imagePullSecrets").iter().enumerate() {
        let name = str_at(secret, "/name");
        let path = path.child("imagePullSecrets").index(i).child("name");
        if name.is_empty() {
            warn(path, "invalid empty name \"\"");
        } else if secrets.contains(&name) {
            warn(path, &format!("duplicate name {name:?}"));
        }
        secrets.push(name);
    }
    let mut port_names: HashMap<&str, Path> = HashMap::new();
    for list in CONTAINER_LISTS {
        for (i, container) in list_at(spec, &format!("/{list}")).iter().enumerate() {
            let path = path.child(list).index(i);
            resources(container, &path.child("resources"), &mut warn);
            env(list_at(container, "/env"), &path.child("env"), &mut warn);
            ports(
                list_at(container, "/ports"),
                &path.child("ports"),
                &mut port_names,
                &mut warn,
            );
        }
    }
    warnings
}

fn old_label(key: &str) -> Option<String> {
    let (_, since, new) = OLD_NODE_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since {since}; use {new:?} instead"))
}

/// Bytes come whole.
fn resources(container: &Value, path: &Path, warn: &mut impl FnMut(Path, &str)) {
    for list in ["limits", "requests"] {
        for resource in ["memory", "ephemeral-storage"] {
            let Some(amount) = container.pointer(&format!("/resources/{list}/{resource}")) else {
                continue;
            };
            let amount = quantity(amount);
            if amount.milli_value() % 1000 != 0 {
                let text = format!(
                    "fractional byte value {:?} is invalid, must be an integer",
                    amount.to_string()
                );
                warn(path.child(list).key(resource), &text);
            }
        }
    }
}

fn env(variables: &[Value], path: &Path, warn: &mut impl FnMut(Path, &str)) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, variable) in variables.iter().enumerate() {
        let name = str_at(variable, "/name");
        // A variable may build upon its own earlier value.
        let builds_upon = str_at(variable, "/value").contains(&format!("$({name})"));
        if seen.contains(&name) && !builds_upon {
            let text = format!("hides previous definition of {name:?}, which may be dropped when using apply");
            warn(path.index(i), &text);
        }
        seen.push(name);
    }
}

fn ports<'a>(ports: &'a [Value], path: &Path, names: &mut HashMap<&'a str, Path>, warn: &mut impl FnMut(Path, &str)) {
    for (i, port) in ports.iter().enumerate() {
        let key = |port: &Value| {
            (
                int_at(port, "/containerPort"),
                int_at(port, "/hostPort"),
                str_at(port, "/protocol").to_owned(),
                str_at(port, "/hostIP").to_owned(),
            )
        };
        if let Some(earlier) = ports[..i].iter().position(|other| key(other) == key(port)) {
            warn(
                path.index(i),
                &format!("duplicate port definition with {}", path.index(earlier)),
            );
        }
        let name = str_at(port, "/name");
        if name.is_empty() {
            continue;
        }
        let own = path.index(i);
        if let Some(first) = names.get(name) {
            let text = format!(
                "duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"
            );
            warn(own, &text);
        } else {
            names.insert(name, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::object;

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let spec = object(
            "{nodeSelector: {beta.kubernetes.io/os: linux}, volumes: [{name: v, gitRepo: {repository: x}}], containers: [{name: c, env: [{name: A, value: '1'}, {name: A, value: '2'}, {name: A, value: '$(A)3'}], resources: {limits: {memory: 100m}}, ports: [{containerPort: 80, protocol: TCP, name: http}, {containerPort: 80, protocol: TCP}]}, {name: d, ports: [{containerPort: 81, name: http}]}]}",
        );
        assert_eq!(
            of_spec(&spec, &Path::new("spec")),
            [
                r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
                "spec.volumes[0].gitRepo: deprecated in v1.11",
                r#"spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer"#,
                r#"spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#,
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                r#"spec.containers[1].ports[0]: duplicate port name "http" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"#,
            ]
        );
    }
}
