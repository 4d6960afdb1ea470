//! Validation of probes and lifecycle hooks: one handler each, numbers in range.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{int_at, list_at, str_at};

use super::containers::port_number;
use super::validate::one_of;
use crate::kinds::validate::{invalid_each, not_negative};

const SCHEMES: [&str; 2] = ["HTTP", "HTTPS"];
/// What a handler may be, in Kubernetes' order of checking.
const PROBE_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

/// The three probes of a container.
pub(super) fn all(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(key).filter(|p| p.is_object()) else {
            continue;
        };
        let path = path.child(key);
        handler(probe, PROBE_HANDLERS, &path, errors);
        for key in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            not_negative(errors, &path.child(key), int_at(probe, &format!("/{key}")));
        }
        let grace = int_at(probe, "/terminationGracePeriodSeconds");
        if key == "readinessProbe" {
            if let Some(grace) = grace {
                let path = path.child("terminationGracePeriodSeconds");
                errors.invalid(&path, grace, "must not be set for readinessProbes");
            }
            continue;
        }
        if let Some(grace) = grace.filter(|g| *g <= 0) {
            errors.invalid(
                &path.child("terminationGracePeriodSeconds"),
                grace,
                "must be greater than 0",
            );
        }
        if let Some(threshold) = int_at(probe, "/successThreshold").filter(|t| *t != 1) {
            errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
        }
    }
}

pub(super) fn lifecycle(lifecycle: Option<&Value>, path: &Path, errors: &mut FieldErrors) {
    for key in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.and_then(|l| l.get(key)).filter(|h| h.is_object()) {
            handler(hook, HOOK_HANDLERS, &path.child(key), errors);
        }
    }
}

fn handler(parent: &Value, kinds: &[&str], path: &Path, errors: &mut FieldErrors) {
    let mut found = 0;
    for kind in kinds {
        let Some(handler) = parent.get(*kind).filter(|h| h.is_object()) else {
            continue;
        };
        found += 1;
        let path = path.child(kind);
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                if list_at(handler, "/command").is_empty() {
                    errors.required(&path.child("command"), "");
                }
            }
            "httpGet" => http_get(handler, &path, errors),
            "tcpSocket" => port(handler, &path, errors),
            "grpc" => port_number(errors, &path.child("port"), int_at(handler, "/port").unwrap_or(0)),
            _ => {
                let seconds = int_at(handler, "/seconds").unwrap_or(0);
                if seconds < 0 {
                    errors.invalid(&path, seconds, "must be greater than or equal to 0");
                }
            }
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(handler: &Value, path: &Path, errors: &mut FieldErrors) {
    if str_at(handler, "/path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(handler, path, errors);
    one_of(errors, &path.child("scheme"), str_at(handler, "/scheme"), &SCHEMES);
    for header in list_at(handler, "/httpHeaders") {
        let name = str_at(header, "/name");
        invalid_each(errors, &path.child("httpHeaders"), name, names::http_header_name(name));
    }
}

/// A port by number or by name.
fn port(handler: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("port");
    match handler.get("port") {
        Some(Value::String(name)) => invalid_each(errors, &path, name, names::port_name(name)),
        other => port_number(errors, &path, other.and_then(Value::as_i64).unwrap_or(0)),
    }
}
