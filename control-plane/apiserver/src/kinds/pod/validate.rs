//! Validation of a pod's spec: what is wrong with the whole, and with the parts outside containers and volumes.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{bool_at, int_at, list_at, str_at};

use super::{affinity, containers, security, volumes};
use crate::kinds::validate::{
    invalid_each, label_selector, labels, optional, required, resource_amount, resources, tolerations,
};

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const PREEMPTION_POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];
/// Limits of `dnsConfig`, as resolvers have them.
const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// Rules for a new pod.
pub(super) fn new_pod(pod: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    pod_spec(spec, &path, errors);
    if str_at(spec, "/serviceAccountName").is_empty() {
        volumes::tokens_need_an_account(spec, &path, errors);
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in list_at(spec, &format!("/{list}")).iter().enumerate() {
            let image = str_at(container, "/image");
            if image.trim() != image {
                let path = path.child(list).index(i).child("image");
                errors.invalid(&path, image, "must not have leading or trailing whitespace");
            }
        }
    }
    if !list_at(spec, "/schedulingGates").is_empty() && !str_at(spec, "/nodeName").is_empty() {
        errors.forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

/// Rules for the template of a set of pods at `path` (`spec.template`).
pub(crate) fn template(template: &Value, path: &Path, errors: &mut FieldErrors) {
    let metadata = path.child("metadata");
    labels(errors, &metadata.child("labels"), template.pointer("/metadata/labels"));
    for (key, _) in template
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        invalid_each(
            errors,
            &metadata.child("annotations"),
            key,
            names::qualified_name(&key.to_ascii_lowercase()),
        );
    }
    let spec = template.get("spec").unwrap_or(&Value::Null);
    pod_spec(spec, &path.child("spec"), errors);
    if !list_at(spec, "/ephemeralContainers").is_empty() {
        errors.forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// A PodSpec, of a pod or of a template.
pub(super) fn pod_spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let volume_names = volumes::validate(list_at(spec, "/volumes"), &path.child("volumes"), errors);
    containers::validate(spec, path, &volume_names, errors);
    if let Some(pod_resources) = spec.get("resources").filter(|r| r.is_object()) {
        resources(
            errors,
            &path.child("resources"),
            pod_resources.get("requests"),
            pod_resources.get("limits"),
        );
    }
    if bool_at(spec, "/hostNetwork") {
        containers::host_ports_match(spec, path, errors);
    }
    one_of(
        errors,
        &path.child("restartPolicy"),
        str_at(spec, "/restartPolicy"),
        &RESTART_POLICIES,
    );
    one_of(
        errors,
        &path.child("dnsPolicy"),
        str_at(spec, "/dnsPolicy"),
        &DNS_POLICIES,
    );
    labels(errors, &path.child("nodeSelector"), spec.get("nodeSelector"));
    security::pod(spec, path, errors);
    for (i, secret) in list_at(spec, "/imagePullSecrets").iter().enumerate() {
        if str_at(secret, "/name").is_empty() {
            errors.required(&path.child("imagePullSecrets").index(i).child("name"), "");
        }
    }
    affinity::validate(spec.get("affinity"), &path.child("affinity"), errors);
    dns_config(spec, path, errors);
    for (i, gate) in list_at(spec, "/readinessGates").iter().enumerate() {
        let kind = str_at(gate, "/conditionType");
        let path = path.child("readinessGates").index(i).child("conditionType");
        invalid_each(errors, &path, kind, names::qualified_name(kind));
    }
    scheduling_gates(spec, path, errors);
    spread_constraints(spec, &path.child("topologySpreadConstraints"), errors);
    let texts = [
        ("serviceAccountName", false),
        ("nodeName", false),
        ("hostname", true),
        ("subdomain", true),
    ];
    for (key, label) in texts {
        let check = if label {
            names::dns1123_label
        } else {
            names::dns1123_subdomain
        };
        // The deadline stands between the names of things and the names of hosts, as in Kubernetes.
        if key == "hostname" {
            active_deadline(spec, path, errors);
        }
        optional(errors, &path.child(key), str_at(spec, &format!("/{key}")), check);
    }
    tolerations(errors, &path.child("tolerations"), list_at(spec, "/tolerations"));
    host_aliases(spec, &path.child("hostAliases"), errors);
    for key in ["priorityClassName", "runtimeClassName"] {
        optional(
            errors,
            &path.child(key),
            str_at(spec, &format!("/{key}")),
            names::dns1123_subdomain,
        );
    }
    let preemption = str_at(spec, "/preemptionPolicy");
    if !preemption.is_empty() && !PREEMPTION_POLICIES.contains(&preemption) {
        errors.not_supported(&path.child("preemptionPolicy"), preemption, &PREEMPTION_POLICIES);
    }
    for (name, amount) in spec.get("overhead").and_then(Value::as_object).into_iter().flatten() {
        resource_amount(errors, &path.child("overhead").key(name), name, amount);
    }
    if let Some(os) = spec.get("os").filter(|os| os.is_object()) {
        let path = path.child("os").child("name");
        match str_at(os, "/name") {
            "" => errors.required(&path, "cannot be empty"),
            "linux" | "windows" => {}
            other => errors.not_supported(&path, other, &["linux", "windows"]),
        }
    }
}

/// A required choice.
pub(super) fn one_of(errors: &mut FieldErrors, path: &Path, value: &str, choices: &[&str]) {
    if value.is_empty() {
        errors.required(path, "");
    } else if !choices.contains(&value) {
        errors.not_supported(path, value, choices);
    }
}

fn active_deadline(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    const MAX: i64 = i32::MAX as i64;
    if let Some(seconds) = int_at(spec, "/activeDeadlineSeconds")
        && !(1..=MAX).contains(&seconds)
    {
        errors.invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            &names::out_of_range(1, MAX),
        );
    }
}

fn dns_config(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("dnsConfig");
    let config = spec.get("dnsConfig").filter(|c| c.is_object());
    let servers = config.map_or(&[][..], |c| list_at(c, "/nameservers"));
    if str_at(spec, "/dnsPolicy") == "None" {
        if config.is_none() {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(
                &path.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    let Some(config) = config else { return };
    if servers.len() > NAMESERVERS_MAX {
        let shown = Value::from(servers.to_vec());
        errors.invalid(
            &path.child("nameservers"),
            shown,
            &format!("must not have more than {NAMESERVERS_MAX} nameservers"),
        );
    }
    for (i, server) in servers.iter().enumerate() {
        let server = server.as_str().unwrap_or("");
        invalid_each(errors, &path.child("nameservers").index(i), server, names::ip(server));
    }
    let searches: Vec<&str> = list_at(config, "/searches").iter().filter_map(Value::as_str).collect();
    let searches_path = path.child("searches");
    if searches.len() > SEARCH_PATHS_MAX {
        errors.invalid(
            &searches_path,
            searches.clone(),
            &format!("must not have more than {SEARCH_PATHS_MAX} search paths"),
        );
    }
    if searches.join(" ").len() > SEARCH_CHARS_MAX {
        let detail =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        errors.invalid(&searches_path, searches.clone(), &detail);
    }
    for (i, search) in searches.iter().enumerate() {
        let trimmed = search.strip_suffix('.').unwrap_or(search);
        // A lone dot and underscores are allowed here.
        if !(*search == "." || trimmed.is_empty()) {
            let shown = trimmed.replace('_', "a");
            invalid_each(
                errors,
                &searches_path.index(i),
                search,
                names::dns1123_subdomain(&shown),
            );
        }
    }
    for (i, option) in list_at(config, "/options").iter().enumerate() {
        if str_at(option, "/name").is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

fn scheduling_gates(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (i, gate) in list_at(spec, "/schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates").index(i);
        let name = str_at(gate, "/name");
        invalid_each(errors, &path, name, names::qualified_name(name));
        if seen.contains(&name) {
            errors.duplicate(&path, name);
        }
        seen.push(name);
    }
}

fn spread_constraints(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    const POLICIES: [&str; 2] = ["Honor", "Ignore"];
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, constraint) in list_at(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = path.index(i);
        let skew = int_at(constraint, "/maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than 0");
        }
        let key = str_at(constraint, "/topologyKey");
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        } else {
            invalid_each(errors, &path.child("topologyKey"), key, names::qualified_name(key));
        }
        let when = str_at(constraint, "/whenUnsatisfiable");
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(
                &path.child("whenUnsatisfiable"),
                when,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        if !key.is_empty() && seen.contains(&(key, when)) {
            errors.duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {when}}}"),
            );
        }
        seen.push((key, when));
        if let Some(minimum) = int_at(constraint, "/minDomains") {
            let path = path.child("minDomains");
            if minimum <= 0 {
                errors.invalid(&path, minimum, "must be greater than 0");
            }
            if when != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.invalid(&path, minimum, &detail);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = str_at(constraint, &format!("/{key}"));
            if !policy.is_empty() && !POLICIES.contains(&policy) {
                errors.not_supported(&path.child(key), policy, &POLICIES);
            }
        }
        label_selector(errors, &path.child("labelSelector"), constraint.get("labelSelector"));
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (i, alias) in list_at(spec, "/hostAliases").iter().enumerate() {
        let address = str_at(alias, "/ip");
        let path = path.index(i);
        invalid_each(errors, &path.child("ip"), address, names::ip(address));
        for host in list_at(alias, "/hostnames").iter().filter_map(Value::as_str) {
            required(errors, &path.child("hostnames"), host, names::dns1123_subdomain);
        }
    }
}
