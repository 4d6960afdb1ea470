//! ServiceAccount: every pod runs as a ServiceAccount that exists, and gets its token, unless it says no.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use skiff_api::object::{self, list_at, map_entry, str_at};
use skiff_api::status::ApiResult;

use super::{Admission, AdmissionRequest, Operation};
use crate::handlers::metadata::generate_name;
use crate::registry::Lookup;

const DEFAULT_ACCOUNT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const TOKEN_MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour, and a little more so that holders who count on an hour get one.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// How long a pod waits for the account of a namespace that has just been made, and how often it looks.
const DEFAULT_ACCOUNT_LOOKS: u32 = 40;
const DEFAULT_ACCOUNT_PAUSE: Duration = Duration::from_millis(50);

pub struct ServiceAccount;

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }
    async fn admit(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        // What a node runs of its own accord has no account.
        if object::annotations(&request.object).contains_key(MIRROR_ANNOTATION) {
            if !str_at(&request.object, "/spec/serviceAccountName").is_empty() {
                return Err(request.forbidden("a mirror pod may not reference service accounts"));
            }
            return Ok(());
        }
        let spec = map_entry(&mut request.object, "spec");
        if spec
            .get("serviceAccountName")
            .and_then(Value::as_str)
            .unwrap_or("")
            .is_empty()
        {
            spec.insert("serviceAccountName".into(), DEFAULT_ACCOUNT.into());
            spec.insert("serviceAccount".into(), DEFAULT_ACCOUNT.into());
        }
        let name = str_at(&request.object, "/spec/serviceAccountName").to_owned();
        let Some(account) = account(lookup, &request.namespace, &name).await else {
            let namespace = &request.namespace;
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(request.forbidden(&why));
        };
        let spec = map_entry(&mut request.object, "spec");
        if wants_token(spec, &account) {
            mount_token(spec);
        }
        let secrets = list_at(&account, "/imagePullSecrets");
        if spec
            .get("imagePullSecrets")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
            && !secrets.is_empty()
        {
            spec.insert("imagePullSecrets".into(), secrets.to_vec().into());
        }
        Ok(())
    }
}

/// The account; the default one is waited for, because a controller makes it a moment after its namespace.
async fn account(lookup: &dyn Lookup, namespace: &str, name: &str) -> Option<Arc<Value>> {
    let mut looks = if name == DEFAULT_ACCOUNT {
        DEFAULT_ACCOUNT_LOOKS
    } else {
        1
    };
    loop {
        if let Some(account) = lookup.get("", "serviceaccounts", namespace, name) {
            return Some(account);
        }
        looks -= 1;
        if looks == 0 {
            return None;
        }
        tokio::time::sleep(DEFAULT_ACCOUNT_PAUSE).await;
    }
}

fn wants_token(spec: &Map<String, Value>, account: &Value) -> bool {
    let own = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    own.or_else(|| account.get("automountServiceAccountToken").and_then(Value::as_bool))
        .unwrap_or(true)
}

/// Mounts the token's volume into every container that has nothing at that path, and adds the volume if one needs it.
fn mount_token(spec: &mut Map<String, Value>) {
    let volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let existing = volumes
        .iter()
        .map(|v| str_at(v, "/name"))
        .find(|name| name.starts_with(VOLUME_PREFIX));
    let name = existing.map_or_else(|| generate_name(VOLUME_PREFIX), str::to_owned);
    let has_volume = existing.is_some();
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if list_at(container, "/volumeMounts")
                .iter()
                .any(|m| str_at(m, "/mountPath") == TOKEN_MOUNT_PATH)
            {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_MOUNT_PATH});
            push(object::as_map(container), "volumeMounts", mount);
            mounted = true;
        }
    }
    if mounted && !has_volume {
        push(spec, "volumes", json!({"name": name, "projected": token_volume()}));
    }
}

fn token_volume() -> Value {
    json!({
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ],
    })
}

/// Appends to the list at `key`, made when absent.
fn push(map: &mut Map<String, Value>, key: &str, value: Value) {
    match map.entry(key).or_insert_with(|| json!([])) {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::admission::testing::{Objects, check_refused, create};

    fn objects() -> Objects {
        Objects::of(&[
            (
                "serviceaccounts",
                "{metadata: {name: default, namespace: ns}, imagePullSecrets: [{name: s}]}",
            ),
            (
                "serviceaccounts",
                "{metadata: {name: shy, namespace: ns}, automountServiceAccountToken: false}",
            ),
        ])
    }

    #[tokio::test]
    async fn a_pod_gets_the_default_account_and_its_token() {
        let mut request = create(
            "pods",
            "ns",
            "{metadata: {name: a}, spec: {containers: [{name: c}, {name: d, volumeMounts: [{name: own, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}]}}",
        );
        ServiceAccount.admit(&mut request, &objects()).await.unwrap();
        let spec = &request.object["spec"];
        assert_eq!(
            (&spec["serviceAccountName"], &spec["serviceAccount"]),
            (&json!("default"), &json!("default"))
        );
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "s"}]));
        let volume = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(volume.starts_with("kube-api-access-") && volume.len() == "kube-api-access-".len() + 5);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(list_at(&spec["containers"][1], "/volumeMounts").len(), 1);
        expect![[r#"{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}"#]]
            .assert_eq(&spec["volumes"][0]["projected"].to_string());
    }

    #[tokio::test]
    async fn pod_and_account_may_refuse_the_token() {
        for yaml in [
            "{metadata: {name: a}, spec: {serviceAccountName: shy, containers: [{name: c}]}}",
            "{metadata: {name: a}, spec: {automountServiceAccountToken: false, containers: [{name: c}]}}",
        ] {
            let mut request = create("pods", "ns", yaml);
            ServiceAccount.admit(&mut request, &objects()).await.unwrap();
            assert!(request.object["spec"].get("volumes").is_none(), "{yaml}");
        }
    }

    #[tokio::test]
    async fn an_account_that_does_not_exist_is_refused() {
        check_refused(
            &ServiceAccount,
            create("pods", "ns", "{metadata: {name: v}, spec: {serviceAccountName: absent}}"),
            &objects(),
            expect![[r#"403 pods "v" is forbidden: error looking up service account ns/absent: serviceaccount "absent" not found"#]],
        )
        .await;
    }
}
