//! The objects that are sent.

use serde_json::{Value, json};

/// A pod as a typical web service has it, about 1.9 kB on the wire, whose scheduler nobody serves: it only rests in the
/// store.
pub fn resting_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "storefront",
                "app.kubernetes.io/part-of": "bench",
                "app.kubernetes.io/version": "v3.1.4",
                "tier": "frontend",
            },
            "annotations": {
                // Sorts first, so that a watcher finds it at the beginning of the object.
                "bench": name,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "9100",
                "example.com/checksum": "d41d8cd98f00b204e9800998ecf8427ed41d8cd9",
            },
        },
        "spec": {
            "schedulerName": "nobody",
            "terminationGracePeriodSeconds": 30,
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "32Mi"}}],
            "containers": [{
                "name": "storefront",
                "image": "registry.example.com/shop/storefront:v3.1.4",
                "imagePullPolicy": "IfNotPresent",
                "command": ["/usr/bin/storefront"],
                "args": ["--listen=[::]:8080", "--metrics=[::]:9100", "--log=json", "--drain=15s"],
                "ports": [
                    {"name": "web", "containerPort": 8080, "protocol": "TCP"},
                    {"name": "metrics", "containerPort": 9100, "protocol": "TCP"},
                ],
                "env": [
                    {"name": "LEVEL", "value": "info"},
                    {"name": "SITE", "value": "rotterdam-2"},
                    {"name": "ORDERS", "value": "http://orders.default.svc.cluster.local:8080"},
                    {"name": "SESSIONS", "value": "redis://sessions.default.svc.cluster.local:6379/1"},
                    {"name": "SWITCHES", "value": "quick-search,new-basket"},
                    {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "64Mi"},
                    "limits": {"memory": "64Mi"},
                },
                "readinessProbe": {
                    "httpGet": {"path": "/ready", "port": "web"},
                    "periodSeconds": 5,
                    "timeoutSeconds": 2,
                },
                "livenessProbe": {
                    "httpGet": {"path": "/alive", "port": "web"},
                    "initialDelaySeconds": 10,
                    "periodSeconds": 10,
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "runAsNonRoot": true,
                    "runAsUser": 1000,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
            }],
        },
    })
}

/// A pod that runs a pushed guest with these limits.
pub fn guest_pod(name: &str, image: &str, limits: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "suite": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main",
                "image": image,
                "ports": [{"containerPort": 8080}],
                "resources": {"limits": limits, "requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    })
}
