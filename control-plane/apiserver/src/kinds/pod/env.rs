//! Validation of environment variables, and of references to fields and resources, which files make too.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::str_at;

use crate::kinds::validate::{invalid_each, optional, required};

/// Fields of a pod that an environment variable may show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may show.
pub(super) const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields that the downward API knows at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn env(variables: &[Value], path: &Path, errors: &mut FieldErrors) {
    for (i, variable) in variables.iter().enumerate() {
        let path = path.index(i);
        required(
            errors,
            &path.child("name"),
            str_at(variable, "/name"),
            names::env_var_name,
        );
        let Some(from) = variable.get("valueFrom").filter(|v| v.is_object()) else {
            continue;
        };
        let path = path.child("valueFrom");
        let mut sources = 0;
        let mut source = |key: &str| {
            let found = from.get(key).filter(|s| s.is_object());
            sources += usize::from(found.is_some());
            found
        };
        if let Some(field) = source("fieldRef") {
            object_field(field, ENV_FIELDS, &path.child("fieldRef"), errors);
        }
        if let Some(resource) = source("resourceFieldRef") {
            resource_field(resource, false, &path.child("resourceFieldRef"), errors);
        }
        for key in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(selector) = source(key) {
                let path = path.child(key);
                if str_at(selector, "/name").is_empty() {
                    errors.required(&path.child("name"), "");
                }
                required(
                    errors,
                    &path.child("key"),
                    str_at(selector, "/key"),
                    names::config_map_key,
                );
            }
        }
        if let Some(file) = source("fileKeyRef") {
            for key in ["key", "path", "volumeName"] {
                if str_at(file, &format!("/{key}")).is_empty() {
                    errors.required(&path.child("fileKeyRef").child(key), "");
                }
            }
        }
        if sources == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.invalid(&path, "", detail);
        }
        if !str_at(variable, "/value").is_empty() {
            if sources != 0 {
                errors.invalid(&path, "", "may not be specified when `value` is not empty");
            }
        } else if sources > 1 {
            errors.invalid(&path, "", "may not have more than one field specified at a time");
        }
    }
}

/// A reference to a field of the pod, as variables and files make it.
pub(super) fn object_field(field: &Value, allowed: &[&str], path: &Path, errors: &mut FieldErrors) {
    let (version, target) = (str_at(field, "/apiVersion"), str_at(field, "/fieldPath"));
    if version.is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    if target.is_empty() {
        return errors.required(&path.child("fieldPath"), "");
    }
    if let Some((map, key)) = target.strip_suffix("']").and_then(|t| t.split_once("['")) {
        match map {
            "metadata.annotations" => invalid_each(errors, path, key, names::qualified_name(&key.to_ascii_lowercase())),
            "metadata.labels" => invalid_each(errors, path, key, names::qualified_name(key)),
            other => errors.invalid(path, other, "does not support subscript"),
        }
        return;
    }
    let path = path.child("fieldPath");
    let problem = if version != "v1" {
        format!("unsupported pod version: {version}")
    } else if !KNOWN_FIELDS.contains(&target) {
        format!("field label not supported: {target}")
    } else {
        if !allowed.contains(&target) && target != "spec.host" {
            errors.not_supported(&path, target, allowed);
        }
        return;
    };
    errors.invalid(&path, target, &format!("error converting fieldPath: {problem}"));
}

/// A reference to a request or limit of a container.
pub(super) fn resource_field(field: &Value, in_volume: bool, path: &Path, errors: &mut FieldErrors) {
    let resource = str_at(field, "/resource");
    if in_volume && str_at(field, "/containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource)
        && !resource.starts_with("limits.hugepages-")
        && !resource.starts_with("requests.hugepages-")
    {
        errors.not_supported(&path.child("resource"), resource, RESOURCE_FIELDS);
    }
}

pub(super) fn env_from(sources: &[Value], path: &Path, errors: &mut FieldErrors) {
    for source in sources {
        // Kubernetes reports these at the list, without an index.
        optional(
            errors,
            &path.child("prefix"),
            str_at(source, "/prefix"),
            names::env_var_name,
        );
        let mut found = 0;
        for key in ["configMapRef", "secretRef"] {
            if let Some(reference) = source.get(key).filter(|r| r.is_object()) {
                found += 1;
                if str_at(reference, "/name").is_empty() {
                    errors.required(&path.child(key).child("name"), "");
                }
            }
        }
        match found {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}
