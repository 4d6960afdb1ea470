//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away; three namespaces stay.

use async_trait::async_trait;
use serde_json::json;
use skiff_api::object::str_at;
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::{Admission, AdmissionRequest, Operation};
use crate::registry::Lookup;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }
    async fn admit(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        if request.operation == Operation::Delete {
            if request.is("", "namespaces") && IMMORTAL.contains(&request.name.as_str()) {
                return Err(request.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        if !request.info.namespaced || request.namespace.is_empty() {
            return Ok(());
        }
        let namespace = &request.namespace;
        let Some(found) = lookup.get("", "namespaces", "", namespace) else {
            return Err(ApiStatus::not_found(Subject {
                group: "",
                resource: "namespaces",
                name: namespace,
            }));
        };
        if request.operation != Operation::Create || str_at(&found, "/status/phase") != "Terminating" {
            return Ok(());
        }
        let mut refusal = request.forbidden(&format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        ));
        refusal.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::admission::testing::{Objects, check_refused, create, delete};

    #[tokio::test]
    async fn content_needs_a_living_namespace() {
        let objects = Objects::of(&[
            ("namespaces", "{metadata: {name: gone}, status: {phase: Terminating}}"),
            ("namespaces", "{metadata: {name: ok}, status: {phase: Active}}"),
        ]);
        NamespaceLifecycle
            .admit(&mut create("pods", "ok", "{metadata: {name: a}}"), &objects)
            .await
            .unwrap();
        check_refused(
            &NamespaceLifecycle,
            create("pods", "none", "{metadata: {name: a}}"),
            &objects,
            expect![[r#"404 namespaces "none" not found"#]],
        )
        .await;
        check_refused(
            &NamespaceLifecycle,
            create("pods", "gone", "{metadata: {name: a}}"),
            &objects,
            expect![[r#"403 pods "a" is forbidden: unable to create new content in namespace gone because it is being terminated"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn the_default_namespace_stays() {
        let objects = Objects::of(&[]);
        check_refused(
            &NamespaceLifecycle,
            delete("namespaces", "", "default"),
            &objects,
            expect![[r#"403 namespaces "default" is forbidden: this namespace may not be deleted"#]],
        )
        .await;
        NamespaceLifecycle
            .admit(&mut delete("namespaces", "", "other"), &objects)
            .await
            .unwrap();
    }
}
