//! Validation of volumes: exactly one source each, and what each source needs.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{int_at, list_at, str_at};

use super::env::{VOLUME_FIELDS, object_field, resource_field};
use crate::kinds::validate::{quantity, required};

/// Highest file mode: 0777.
const MODE_MAX: i64 = 0o777;
/// Shortest and longest life of a projected token.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks the list; the names of the volumes that are fine, for mounts to refer to.
pub(super) fn validate<'a>(volumes: &'a [Value], path: &Path, errors: &mut FieldErrors) -> Vec<&'a str> {
    let mut good = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let name = str_at(volume, "/name");
        let mut own = FieldErrors::new();
        sources(volume, &path, &mut own);
        required(&mut own, &path.child("name"), name, names::dns1123_label);
        if good.contains(&name) {
            own.duplicate(&path.child("name"), name);
        }
        if own.is_empty() {
            good.push(name);
        } else {
            errors.extend(own);
        }
    }
    good
}

/// A token needs a ServiceAccount to be issued for (pods only; templates are filled in later).
pub(super) fn tokens_need_an_account(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (i, volume) in list_at(spec, "/volumes").iter().enumerate() {
        for (j, source) in list_at(volume, "/projected/sources").iter().enumerate() {
            if source.get("serviceAccountToken").is_some_and(|t| !t.is_null()) {
                let path = path
                    .child("volumes")
                    .index(i)
                    .child("projected")
                    .child("sources")
                    .index(j);
                errors.forbidden(
                    &path.child("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                );
            }
        }
    }
}

fn sources(volume: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut found = 0;
    for (key, source) in volume.as_object().into_iter().flatten() {
        if key == "name" || source.is_null() {
            continue;
        }
        found += 1;
        if found > 1 {
            errors.forbidden(&path.child(key), "may not specify more than 1 volume type");
            continue;
        }
        source_of(key, source, &path.child(key), errors);
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn source_of(kind: &str, source: &Value, path: &Path, errors: &mut FieldErrors) {
    let need = |key: &str, errors: &mut FieldErrors| {
        if str_at(source, &format!("/{key}")).is_empty() {
            errors.required(&path.child(key), "");
        }
    };
    match kind {
        "emptyDir"
            if source
                .get("sizeLimit")
                .is_some_and(|limit| !limit.is_null() && quantity(limit).sign() < 0) =>
        {
            errors.forbidden(
                &path.child("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
        "hostPath" => {
            need("path", errors);
            no_backsteps(str_at(source, "/path"), &path.child("path"), errors);
            let kind = str_at(source, "/type");
            if !HOST_PATH_TYPES.contains(&kind) {
                errors.not_supported(&path.child("type"), kind, &HOST_PATH_TYPES);
            }
        }
        "secret" => {
            need("secretName", errors);
            mode(source, "defaultMode", path, errors);
            key_paths(source, path, errors);
        }
        "configMap" => {
            need("name", errors);
            mode(source, "defaultMode", path, errors);
            key_paths(source, path, errors);
        }
        "persistentVolumeClaim" => need("claimName", errors),
        "nfs" => {
            need("server", errors);
            let target = str_at(source, "/path");
            need("path", errors);
            if !target.is_empty() && !target.starts_with('/') {
                errors.invalid(&path.child("path"), target, "must be an absolute path");
            }
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            downward_items(source, path, errors);
        }
        "projected" => projected(source, path, errors),
        "csi" => need("driver", errors),
        "ephemeral" if source.get("volumeClaimTemplate").is_none_or(Value::is_null) => {
            errors.required(&path.child("volumeClaimTemplate"), "");
        }
        "image" => need("reference", errors),
        _ => {}
    }
}

fn projected(projected: &Value, path: &Path, errors: &mut FieldErrors) {
    mode(projected, "defaultMode", path, errors);
    let mut paths: Vec<&str> = Vec::new();
    for (i, source) in list_at(projected, "/sources").iter().enumerate() {
        let path = path.child("sources").index(i);
        let mut found = 0;
        for (key, inner) in source
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, inner)| !inner.is_null())
        {
            found += 1;
            let path = path.child(key);
            if found > 1 {
                errors.forbidden(&path, "may not specify more than 1 volume type per source");
                continue;
            }
            match key.as_str() {
                "secret" | "configMap" => {
                    if str_at(inner, "/name").is_empty() {
                        errors.required(&path.child("name"), "");
                    }
                    key_paths(inner, &path, errors);
                }
                "downwardAPI" => downward_items(inner, &path, errors),
                "serviceAccountToken" => token(inner, &path, errors),
                _ => {}
            }
            for target in targets(key, inner) {
                if !target.is_empty() && paths.contains(&target) {
                    errors.invalid(&path.child("path"), target, "conflicting duplicate paths");
                }
                paths.push(target);
            }
        }
        if found == 0 {
            errors.required(&path, "must specify a volume type");
        }
    }
}

/// The files that a projected source makes.
fn targets<'a>(kind: &str, source: &'a Value) -> Vec<&'a str> {
    match kind {
        "serviceAccountToken" => vec![str_at(source, "/path")],
        _ => list_at(source, "/items")
            .iter()
            .map(|item| str_at(item, "/path"))
            .collect(),
    }
}

fn token(token: &Value, path: &Path, errors: &mut FieldErrors) {
    if let Some(seconds) = int_at(token, "/expirationSeconds") {
        let path = path.child("expirationSeconds");
        if seconds < TOKEN_SECONDS_MIN {
            errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > TOKEN_SECONDS_MAX {
            errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
    let target = str_at(token, "/path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
    } else {
        local_path(target, &path.child("path"), errors);
    }
}

fn key_paths(source: &Value, path: &Path, errors: &mut FieldErrors) {
    for (i, item) in list_at(source, "/items").iter().enumerate() {
        let path = path.child("items").index(i);
        if str_at(item, "/key").is_empty() {
            errors.required(&path.child("key"), "");
        }
        file(item, &path, errors);
    }
}

fn downward_items(source: &Value, path: &Path, errors: &mut FieldErrors) {
    for (i, item) in list_at(source, "/items").iter().enumerate() {
        let path = path.child("items").index(i);
        file(item, &path, errors);
        let field = item.get("fieldRef").filter(|f| f.is_object());
        let resource = item.get("resourceFieldRef").filter(|f| f.is_object());
        match (field, resource) {
            (Some(field), other) => {
                object_field(field, VOLUME_FIELDS, &path.child("fieldRef"), errors);
                if other.is_some() {
                    errors.invalid(
                        &path,
                        "resource",
                        "fieldRef and resourceFieldRef can not be specified simultaneously",
                    );
                }
            }
            (None, Some(resource)) => resource_field(resource, true, &path.child("resourceFieldRef"), errors),
            (None, None) => errors.required(
                &path.child("fieldRef"),
                "one of fieldRef and resourceFieldRef is required",
            ),
        }
    }
}

/// `path` and `mode` of a projected file.
fn file(item: &Value, path: &Path, errors: &mut FieldErrors) {
    let target = str_at(item, "/path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
    }
    local_path(target, &path.child("path"), errors);
    mode(item, "mode", path, errors);
}

fn mode(source: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(mode) = int_at(source, &format!("/{key}"))
        && !(0..=MODE_MAX).contains(&mode)
    {
        errors.invalid(
            &path.child(key),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

/// A path below the volume that does not take names the kubelet keeps for itself.
fn local_path(target: &str, path: &Path, errors: &mut FieldErrors) {
    descending_path(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") && target != ".." {
        errors.invalid(path, target, "must not start with '..'");
    }
}

/// A relative path that never climbs.
pub(super) fn descending_path(target: &str, path: &Path, errors: &mut FieldErrors) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, errors);
}

fn no_backsteps(target: &str, path: &Path, errors: &mut FieldErrors) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// A mount's `subPath` and the like, when given.
pub(super) fn optional_descending(value: &str, path: &Path, errors: &mut FieldErrors) {
    if !value.is_empty() {
        descending_path(value, path, errors);
    }
}
