//! Defaults of pods and of pod templates, on JSON. Idempotent.

use serde_json::{Map, Value, json};
use skiff_api::object::{self, map_entry, set_default};

use crate::kinds::common::{each_mut, sub_mut};

/// Permission bits of projected files: 0644.
const DEFAULT_MODE: i64 = 0o644;
/// Lists of containers in a pod's spec.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a whole Pod.
pub(super) fn pod(pod: &mut Value) {
    let spec = map_entry(pod, "spec");
    pod_spec(spec);
    set_default(spec, "enableServiceLinks", true);
    for list in ["initContainers", "containers"] {
        each_mut(spec, list, requests_from_limits);
    }
    if let Some(resources) = sub_mut(spec, "resources") {
        copy_limits(resources, |resource| {
            matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
        });
    }
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["initContainers", "containers"] {
            each_mut(spec, list, |container| each_mut(container, "ports", host_port));
        }
    }
    map_entry(pod, "status");
}

/// Defaults of a PodTemplateSpec.
pub(crate) fn template(template: &mut Map<String, Value>) {
    let mut value = Value::Object(std::mem::take(template));
    map_entry(&mut value, "metadata");
    pod_spec(map_entry(&mut value, "spec"));
    if let Value::Object(map) = value {
        *template = map;
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "securityContext", json!({}));
    // The old name of the field goes along with the new one.
    let account = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .filter_map(|key| spec.get(key).and_then(Value::as_str))
        .find(|name| !name.is_empty())
        .map(str::to_owned);
    if let Some(account) = account {
        spec.insert("serviceAccountName".into(), account.clone().into());
        spec.insert("serviceAccount".into(), account.into());
    }
    each_mut(spec, "volumes", volume);
    for list in CONTAINER_LISTS {
        each_mut(spec, list, container);
    }
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("").to_owned();
    set_default(container, "imagePullPolicy", pull_policy(&image));
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    set_default(container, "resources", json!({}));
    each_mut(container, "ports", |port| set_default(port, "protocol", "TCP"));
    each_mut(container, "env", |env| {
        if let Some(source) = sub_mut(env, "valueFrom") {
            if let Some(field) = sub_mut(source, "fieldRef") {
                set_default(field, "apiVersion", "v1");
            }
            if let Some(file) = sub_mut(source, "fileKeyRef") {
                set_default(file, "optional", false);
            }
        }
    });
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = sub_mut(container, key) {
            set_default(probe, "timeoutSeconds", 1);
            set_default(probe, "periodSeconds", 10);
            set_default(probe, "successThreshold", 1);
            set_default(probe, "failureThreshold", 3);
            // Zero means "not said" for these, as in Go.
            for (key, default) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                if probe.get(key).and_then(Value::as_i64) == Some(0) {
                    probe.insert(key.into(), default.into());
                }
            }
            http_get(probe);
            if let Some(grpc) = sub_mut(probe, "grpc") {
                set_default(grpc, "service", "");
            }
        }
    }
    if let Some(lifecycle) = sub_mut(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = sub_mut(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(get) = sub_mut(handler, "httpGet") {
        set_default_text(get, "path", "/");
        set_default_text(get, "scheme", "HTTP");
    }
}

/// Like `set_default`, for texts whose empty form also means "not said".
fn set_default_text(map: &mut Map<String, Value>, key: &str, default: &str) {
    if map.get(key).and_then(Value::as_str).unwrap_or("").is_empty() {
        map.insert(key.to_owned(), default.into());
    }
}

/// `Always` for `:latest` and for images without tag and digest, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn requests_from_limits(container: &mut Map<String, Value>) {
    if let Some(resources) = sub_mut(container, "resources") {
        copy_limits(resources, |_| true);
    }
}

/// Each limit that has no request becomes its own request.
fn copy_limits(resources: &mut Map<String, Value>, wanted: impl Fn(&str) -> bool) {
    let limits: Vec<(String, Value)> = resources
        .get("limits")
        .and_then(Value::as_object)
        .map(|limits| {
            limits
                .iter()
                .filter(|(k, _)| wanted(k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        })
        .unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let requests = object::as_map(resources.entry("requests").or_insert_with(|| json!({})));
    for (resource, quantity) in limits {
        requests.entry(resource).or_insert(quantity);
    }
}

/// On the host's network a container port is a host port.
fn host_port(port: &mut Map<String, Value>) {
    if port.get("hostPort").and_then(Value::as_i64).unwrap_or(0) == 0
        && let Some(number) = port.get("containerPort").cloned()
    {
        port.insert("hostPort".into(), number);
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if !volume.iter().any(|(key, value)| key != "name" && !value.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = sub_mut(volume, key) {
            set_default(source, "defaultMode", DEFAULT_MODE);
        }
    }
    if let Some(source) = sub_mut(volume, "downwardAPI") {
        each_mut(source, "items", downward_item);
    }
    if let Some(projected) = sub_mut(volume, "projected") {
        each_mut(projected, "sources", |source| {
            if let Some(token) = sub_mut(source, "serviceAccountToken") {
                set_default(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = sub_mut(source, "downwardAPI") {
                each_mut(downward, "items", downward_item);
            }
        });
    }
    let rules: [(&str, &[(&str, &str)]); 5] = [
        ("hostPath", &[("type", "")]),
        ("iscsi", &[("iscsiInterface", "default")]),
        (
            "rbd",
            &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")],
        ),
        (
            "azureDisk",
            &[("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")],
        ),
        ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
    ];
    for (key, defaults) in rules {
        if let Some(source) = sub_mut(volume, key) {
            for (field, default) in defaults {
                set_default(source, field, *default);
            }
        }
    }
    if let Some(disk) = sub_mut(volume, "azureDisk") {
        set_default(disk, "readOnly", false);
    }
    if let Some(image) = sub_mut(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or("").to_owned();
        set_default(image, "pullPolicy", pull_policy(&reference));
    }
    if let Some(claim) = sub_mut(volume, "ephemeral").and_then(|e| sub_mut(e, "volumeClaimTemplate")) {
        let mut template = Value::Object(std::mem::take(claim));
        map_entry(&mut template, "metadata");
        let spec = map_entry(&mut template, "spec");
        set_default(spec, "volumeMode", "Filesystem");
        set_default(spec, "resources", json!({}));
        if let Value::Object(map) = template {
            *claim = map;
        }
    }
}

fn downward_item(item: &mut Map<String, Value>) {
    if let Some(field) = sub_mut(item, "fieldRef") {
        set_default(field, "apiVersion", "v1");
    }
}
