//! Validation of security contexts, of pods and of containers.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{bool_at, list_at, str_at};

use super::internal;
use super::volumes::descending_path;
use crate::kinds::validate::invalid_raw;

/// What names of kernel parameters look like, and how long they may be.
const SYSCTL_MAX: usize = 253;
const SYSCTL_REGEX: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

pub(super) fn pod(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(context) = spec.get("securityContext").filter(|c| c.is_object()) else {
        return;
    };
    let path = path.child("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, key, &path, errors);
    }
    for (i, group) in list_at(context, "/supplementalGroups").iter().enumerate() {
        id_value(group, &path.child("supplementalGroups").index(i), errors);
    }
    if bool_at(spec, "/shareProcessNamespace") && bool_at(spec, "/hostPID") {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(context, &path.child("sysctls"), errors);
    choice(
        context,
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
        &path,
        errors,
    );
    choice(context, "supplementalGroupsPolicy", &["Merge", "Strict"], &path, errors);
    profile(context, "seccompProfile", "seccomp", &path, errors);
    profile(context, "appArmorProfile", "AppArmor", &path, errors);
}

pub(super) fn container(context: Option<&Value>, path: &Path, errors: &mut FieldErrors) {
    let Some(context) = context.filter(|c| c.is_object()) else {
        return;
    };
    for key in ["runAsUser", "runAsGroup"] {
        id(context, key, path, errors);
    }
    choice(context, "procMount", &["Default", "Unmasked"], path, errors);
    profile(context, "seccompProfile", "seccomp", path, errors);
    profile(context, "appArmorProfile", "AppArmor", path, errors);
    if context.get("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        let shown = || internal::compact(&internal::SECURITY_CONTEXT, context);
        if bool_at(context, "/privileged") {
            invalid_raw(
                errors,
                path,
                &shown(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if list_at(context, "/capabilities/add")
            .iter()
            .any(|c| c == "CAP_SYS_ADMIN")
        {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            invalid_raw(errors, path, &shown(), detail);
        }
    }
}

fn id(context: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(value) = context.get(key) {
        id_value(value, &path.child(key), errors);
    }
}

fn id_value(value: &Value, path: &Path, errors: &mut FieldErrors) {
    for problem in value.as_i64().map(names::user_id).unwrap_or_default() {
        errors.invalid(path, value.clone(), &problem);
    }
}

fn choice(context: &Value, key: &str, choices: &[&str], path: &Path, errors: &mut FieldErrors) {
    let value = str_at(context, &format!("/{key}"));
    if !value.is_empty() && !choices.contains(&value) {
        errors.not_supported(&path.child(key), value, choices);
    }
}

/// A seccomp or AppArmor profile: its type, and the local file that goes with `Localhost` alone.
fn profile(context: &Value, key: &str, what: &str, path: &Path, errors: &mut FieldErrors) {
    let Some(profile) = context.get(key).filter(|p| p.is_object()) else {
        return;
    };
    let path = path.child(key);
    let local = profile.get("localhostProfile").and_then(Value::as_str);
    match str_at(profile, "/type") {
        "Localhost" => {
            if local.unwrap_or("").is_empty() {
                let detail = format!("must be set when {what} type is Localhost");
                errors.required(&path.child("localhostProfile"), &detail);
            } else if what == "seccomp" {
                descending_path(local.unwrap_or(""), &path.child("localhostProfile"), errors);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(local) = local {
                let detail = format!("can only be set when {what} type is Localhost");
                errors.invalid(&path.child("localhostProfile"), local, &detail);
            }
        }
        "" => errors.required(&path.child("type"), &format!("type is required when {key} is set")),
        other => errors.not_supported(
            &path.child("type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
}

fn sysctls(context: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (i, sysctl) in list_at(context, "/sysctls").iter().enumerate() {
        let path = path.index(i).child("name");
        let name = str_at(sysctl, "/name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if name.len() > SYSCTL_MAX || !is_sysctl(name) {
            let detail = format!("must have at most {SYSCTL_MAX} characters and match regex {SYSCTL_REGEX}");
            errors.invalid(&path, name, &detail);
        } else if seen.contains(&name) {
            errors.duplicate(&path, name);
        }
        seen.push(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    name.split(['.', '/']).all(|part| {
        let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(alnum) && part.ends_with(alnum) && part.chars().all(|c| alnum(c) || c == '-' || c == '_')
    })
}
