//! What every namespace gets: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

use crate::caches::Caches;
use crate::controller::{Context, Controller};
use crate::plan::{Action, ObjectKey, Plan, Report, Resource, Target};

/// Name of the ServiceAccount that pods without another one run as.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// Name of the ConfigMap that carries the cluster's CA.
pub const ROOT_CA_MAP: &str = "kube-root-ca.crt";
/// The key of its data, and Kubernetes' words about it.
const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
     distributions of Kubernetes clusters.";

fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
        && namespace
            .status
            .as_ref()
            .is_none_or(|status| status.phase.as_deref() != Some("Terminating"))
}

/// Keeps ServiceAccount `default`. Keys are names of namespaces.
pub struct ServiceAccountController;

#[derive(Debug, Clone)]
pub struct AccountWorld {
    pub namespace: Arc<Namespace>,
    pub exists: bool,
}

impl Controller for ServiceAccountController {
    type World = AccountWorld;
    const NAME: &'static str = "serviceaccount-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<AccountWorld> {
        let namespace = caches.namespaces.read().get(key)?;
        let account = ObjectKey::new(&key.name, DEFAULT_SERVICE_ACCOUNT);
        Some(AccountWorld {
            namespace,
            exists: caches.service_accounts.read().get(&account).is_some(),
        })
    }

    fn reconcile(&self, world: &AccountWorld, _: &Context) -> Plan {
        if world.exists || !is_active(&world.namespace) {
            return Plan::default();
        }
        let object = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": DEFAULT_SERVICE_ACCOUNT, "namespace": world.namespace.metadata.name},
        });
        Plan {
            actions: vec![Action::create(Resource::SERVICE_ACCOUNT, object)],
            report: Report::TooFew { have: 0, want: 1 },
            ..Plan::default()
        }
    }
}

/// Keeps ConfigMap `kube-root-ca.crt`. Keys are names of namespaces.
pub struct RootCaController {
    /// PEM.
    pub certificate: String,
}

#[derive(Debug, Clone)]
pub struct RootCaWorld {
    pub namespace: Arc<Namespace>,
    pub map: Option<Arc<ConfigMap>>,
}

impl Controller for RootCaController {
    type World = RootCaWorld;
    const NAME: &'static str = "root-ca-certificate-publisher-controller";

    fn observe(&self, caches: &Caches, key: &ObjectKey) -> Option<RootCaWorld> {
        let namespace = caches.namespaces.read().get(key)?;
        let map = caches.root_ca_maps.read().get(&ObjectKey::new(&key.name, ROOT_CA_MAP));
        Some(RootCaWorld { namespace, map })
    }

    fn reconcile(&self, world: &RootCaWorld, _: &Context) -> Plan {
        if self.certificate.is_empty() || !is_active(&world.namespace) {
            return Plan::default();
        }
        let data = json!({ROOT_CA_KEY: self.certificate});
        let annotations = json!({DESCRIPTION: DESCRIPTION_TEXT});
        let action = match &world.map {
            None => Action::create(
                Resource::CONFIG_MAP,
                json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": ROOT_CA_MAP,
                        "namespace": world.namespace.metadata.name,
                        "annotations": annotations,
                    },
                    "data": data,
                }),
            ),
            Some(map) => {
                let right = |map: &ConfigMap| {
                    let data = map.data.as_ref();
                    data.is_some_and(|data| data.len() == 1 && data.get(ROOT_CA_KEY) == Some(&self.certificate))
                        && map
                            .metadata
                            .annotations
                            .as_ref()
                            .is_some_and(|all| all.contains_key(DESCRIPTION))
                };
                if right(map) {
                    return Plan::default();
                }
                // Other keys do not belong there: they are taken out by naming them as null.
                let mut patch = json!({"metadata": {"annotations": annotations}, "data": data});
                for key in map
                    .data
                    .iter()
                    .flatten()
                    .map(|(key, _)| key)
                    .filter(|key| *key != ROOT_CA_KEY)
                {
                    patch["data"][key] = serde_json::Value::Null;
                }
                Action::patch(Target::exact(Resource::CONFIG_MAP, &map.metadata), patch)
            }
        };
        Plan {
            actions: vec![action],
            report: Report::TooFew { have: 0, want: 1 },
            ..Plan::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{describe, from_yaml, now};
    use expect_test::expect;

    fn ctx() -> Context {
        Context {
            now: now(),
            failure: None,
        }
    }

    #[test]
    fn a_namespace_gets_its_default_account_once() {
        let namespace: Arc<Namespace> = from_yaml("{metadata: {name: shop}}");
        let plan = |exists| {
            ServiceAccountController.reconcile(
                &AccountWorld {
                    namespace: namespace.clone(),
                    exists,
                },
                &ctx(),
            )
        };
        expect![[r#"
            create ServiceAccount shop/default
            report TooFew { have: 0, want: 1 }
        "#]]
        .assert_eq(&describe(&plan(false)));
        assert!(plan(true).is_empty());
    }

    #[test]
    fn a_terminating_namespace_gets_nothing() {
        let namespace: Arc<Namespace> = from_yaml("{metadata: {name: shop}, status: {phase: Terminating}}");
        let world = AccountWorld {
            namespace: namespace.clone(),
            exists: false,
        };
        assert!(ServiceAccountController.reconcile(&world, &ctx()).is_empty());
        let publisher = RootCaController {
            certificate: "PEM".into(),
        };
        assert!(
            publisher
                .reconcile(&RootCaWorld { namespace, map: None }, &ctx())
                .is_empty()
        );
    }

    #[test]
    fn a_changed_root_certificate_map_is_put_right() {
        let namespace: Arc<Namespace> = from_yaml("{metadata: {name: shop}}");
        let publisher = RootCaController {
            certificate: "PEM".into(),
        };
        let changed: Arc<ConfigMap> = from_yaml(
            "{metadata: {name: kube-root-ca.crt, namespace: shop, uid: m, resourceVersion: '7'}, data: {ca.crt: OLD, x: y}}",
        );
        let plan = publisher.reconcile(
            &RootCaWorld {
                namespace: namespace.clone(),
                map: Some(changed),
            },
            &ctx(),
        );
        let text = describe(&plan);
        assert!(
            text.starts_with("patch ConfigMap shop/kube-root-ca.crt uid=m rv=7"),
            "{text}"
        );
        assert!(text.contains(r#""data":{"ca.crt":"PEM","x":null}"#), "{text}");
        let right: Arc<ConfigMap> = from_yaml(
            "{metadata: {name: kube-root-ca.crt, namespace: shop, annotations: {kubernetes.io/description: x}}, data: {ca.crt: PEM}}",
        );
        assert!(
            publisher
                .reconcile(
                    &RootCaWorld {
                        namespace,
                        map: Some(right)
                    },
                    &ctx()
                )
                .is_empty()
        );
    }
}
