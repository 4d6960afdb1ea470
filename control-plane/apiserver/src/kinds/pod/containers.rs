//! Validation of containers of all three sorts: what they share, and what only some may have.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{bool_at, int_at, list_at, str_at};

use super::env::{env, env_from};
use super::probes;
use super::security;
use super::validate::one_of;
use super::volumes::optional_descending;
use crate::kinds::validate::{invalid_each, required, resources};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const MOUNT_PROPAGATIONS: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
/// All containers of a spec. `volumes`: names that mounts may use.
pub(super) fn validate(spec: &Value, path: &Path, volumes: &[&str], errors: &mut FieldErrors) {
    let containers = list_at(spec, "/containers");
    let list_path = path.child("containers");
    if containers.is_empty() {
        errors.required(&list_path, "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let path = list_path.index(i);
        common(container, &path, volumes, errors);
        unique_name(container, &mut seen, &path, errors);
        probes::lifecycle(container.get("lifecycle"), &path.child("lifecycle"), errors);
        probes::all(container, &path, errors);
        restart_policy(container, &path, errors);
    }
    host_port_conflicts(containers, &list_path, errors);
    let list_path = path.child("initContainers");
    for (i, container) in list_at(spec, "/initContainers").iter().enumerate() {
        let path = list_path.index(i);
        common(container, &path, volumes, errors);
        unique_name(container, &mut seen, &path, errors);
        host_port_conflicts(std::slice::from_ref(container), &list_path, errors);
        restart_policy(container, &path, errors);
        if str_at(container, "/restartPolicy") == "Always" {
            probes::lifecycle(container.get("lifecycle"), &path.child("lifecycle"), errors);
            probes::all(container, &path, errors);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.get(key).is_some_and(|v| !v.is_null()) {
                    errors.forbidden(
                        &path.child(key),
                        "may not be set for init containers without restartPolicy=Always",
                    );
                }
            }
        }
    }
    ephemeral(spec, path, volumes, seen, errors);
}

fn ephemeral<'a>(spec: &'a Value, path: &Path, volumes: &[&str], mut seen: Vec<&'a str>, errors: &mut FieldErrors) {
    const FORBIDDEN: [&str; 7] = [
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
    ];
    for (i, container) in list_at(spec, "/ephemeralContainers").iter().enumerate() {
        let path = path.child("ephemeralContainers").index(i);
        common(container, &path, volumes, errors);
        unique_name(container, &mut seen, &path, errors);
        for key in FORBIDDEN {
            let set = container
                .get(key)
                .is_some_and(|v| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty()));
            if set {
                errors.forbidden(&path.child(key), "cannot be set for an Ephemeral Container");
            }
        }
        let resources = container.get("resources").and_then(Value::as_object);
        if resources.is_some_and(|r| r.values().any(|v| v.as_object().is_some_and(|m| !m.is_empty()))) {
            errors.forbidden(&path.child("resources"), "cannot be set for an Ephemeral Container");
        }
        let target = str_at(container, "/targetContainerName");
        let exists = list_at(spec, "/containers")
            .iter()
            .any(|c| str_at(c, "/name") == target);
        if !target.is_empty() && !exists {
            errors.not_found(&path.child("targetContainerName"), target);
        }
    }
}

fn unique_name<'a>(container: &'a Value, seen: &mut Vec<&'a str>, path: &Path, errors: &mut FieldErrors) {
    let name = str_at(container, "/name");
    if name.is_empty() {
        return;
    }
    if seen.contains(&name) {
        errors.duplicate(&path.child("name"), name);
    } else {
        seen.push(name);
    }
}

fn restart_policy(container: &Value, path: &Path, errors: &mut FieldErrors) {
    let policy = str_at(container, "/restartPolicy");
    if !policy.is_empty() && !RESTART_POLICIES.contains(&policy) {
        errors.not_supported(&path.child("restartPolicy"), policy, &RESTART_POLICIES);
    }
}

/// What every container must satisfy.
fn common(container: &Value, path: &Path, volumes: &[&str], errors: &mut FieldErrors) {
    required(
        errors,
        &path.child("name"),
        str_at(container, "/name"),
        names::dns1123_label,
    );
    if str_at(container, "/image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy = str_at(container, "/terminationMessagePolicy");
    one_of(
        errors,
        &path.child("terminationMessagePolicy"),
        policy,
        &MESSAGE_POLICIES,
    );
    ports(list_at(container, "/ports"), &path.child("ports"), errors);
    env(list_at(container, "/env"), &path.child("env"), errors);
    env_from(list_at(container, "/envFrom"), &path.child("envFrom"), errors);
    mounts(container, &path.child("volumeMounts"), volumes, errors);
    devices(container, &path.child("volumeDevices"), volumes, errors);
    one_of(
        errors,
        &path.child("imagePullPolicy"),
        str_at(container, "/imagePullPolicy"),
        &PULL_POLICIES,
    );
    if let Some(own) = container.get("resources").filter(|r| r.is_object()) {
        resources(errors, &path.child("resources"), own.get("requests"), own.get("limits"));
    }
    security::container(container.get("securityContext"), &path.child("securityContext"), errors);
}

fn ports(ports: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = str_at(port, "/name");
        if !name.is_empty() {
            let problems = names::port_name(name);
            if problems.is_empty() && seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            } else {
                seen.push(name);
            }
            invalid_each(errors, &path.child("name"), name, problems);
        }
        match int_at(port, "/containerPort").unwrap_or(0) {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(errors, &path.child("containerPort"), number),
        }
        if let Some(number) = int_at(port, "/hostPort").filter(|n| *n != 0) {
            port_number(errors, &path.child("hostPort"), number);
        }
        one_of(errors, &path.child("protocol"), str_at(port, "/protocol"), &PROTOCOLS);
    }
}

pub(super) fn port_number(errors: &mut FieldErrors, path: &Path, number: i64) {
    for problem in names::port_number(number) {
        errors.invalid(path, number, &problem);
    }
}

/// On the host's network a host port cannot differ from the container's.
pub(super) fn host_ports_match(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for list in ["containers", "initContainers"] {
        for (i, container) in list_at(spec, &format!("/{list}")).iter().enumerate() {
            for (j, port) in list_at(container, "/ports").iter().enumerate() {
                let (own, host) = (int_at(port, "/containerPort"), int_at(port, "/hostPort").unwrap_or(0));
                if own != Some(host) {
                    let path = path.child(list).index(i).child("ports").index(j).child("hostPort");
                    errors.invalid(&path, host, "must match `containerPort` when `hostNetwork` is true");
                }
            }
        }
    }
}

/// Two containers of a pod cannot both have the same port of the host.
fn host_port_conflicts(containers: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut taken = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list_at(container, "/ports").iter().enumerate() {
            let number = int_at(port, "/hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let (protocol, ip) = (str_at(port, "/protocol"), str_at(port, "/hostIP"));
            let text = format!("{protocol}/{ip}/{number}");
            if taken.contains(&text) {
                errors.duplicate(&path.index(i).child("ports").index(j).child("hostPort"), text);
            } else {
                taken.push(text);
            }
        }
    }
}

fn mounts(container: &Value, path: &Path, volumes: &[&str], errors: &mut FieldErrors) {
    let mut targets: Vec<&str> = Vec::new();
    for (i, mount) in list_at(container, "/volumeMounts").iter().enumerate() {
        let path = path.index(i);
        let (name, target) = (str_at(mount, "/name"), str_at(mount, "/mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !volumes.contains(&name) {
            errors.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if targets.contains(&target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        targets.push(target);
        let devices = list_at(container, "/volumeDevices");
        if devices.iter().any(|d| str_at(d, "/name") == name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| str_at(d, "/devicePath") == target) {
            errors.invalid(
                &path.child("mountPath"),
                target,
                "must not already exist as a path in volumeDevices",
            );
        }
        let (sub, expression) = (str_at(mount, "/subPath"), str_at(mount, "/subPathExpr"));
        optional_descending(sub, &path.child("subPath"), errors);
        if !expression.is_empty() && !sub.is_empty() {
            errors.invalid(
                &path.child("subPathExpr"),
                expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        optional_descending(expression, &path.child("subPathExpr"), errors);
        let propagation = str_at(mount, "/mountPropagation");
        if !propagation.is_empty() {
            let path = path.child("mountPropagation");
            if !MOUNT_PROPAGATIONS.contains(&propagation) {
                errors.not_supported(&path, propagation, &MOUNT_PROPAGATIONS);
            } else if propagation == "Bidirectional" && !bool_at(container, "/securityContext/privileged") {
                errors.forbidden(
                    &path,
                    "Bidirectional mount propagation is available only to privileged containers",
                );
            }
        }
    }
}

fn devices(container: &Value, path: &Path, volumes: &[&str], errors: &mut FieldErrors) {
    for (i, device) in list_at(container, "/volumeDevices").iter().enumerate() {
        let path = path.index(i);
        let (name, target) = (str_at(device, "/name"), str_at(device, "/devicePath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !volumes.contains(&name) {
            errors.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&path.child("devicePath"), "");
        }
    }
}
