//! RuntimeClass: what a pod's runtime costs and where it exists is written into the pod.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skiff_api::object::{list_at, map_entry, str_at};
use skiff_api::status::ApiResult;

use super::{Admission, AdmissionRequest, Operation};
use crate::registry::Lookup;

pub struct RuntimeClass;

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }
    async fn admit(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        let Some(class) = class(request, lookup)? else {
            return Ok(());
        };
        let overhead = class
            .pointer("/overhead/podFixed")
            .filter(|o| o.as_object().is_some_and(|m| !m.is_empty()));
        if let Some(overhead) = overhead
            && request.object.pointer("/spec/overhead").is_none_or(Value::is_null)
        {
            map_entry(&mut request.object, "spec").insert("overhead".into(), overhead.clone());
        }
        node_selector(request, &class)?;
        tolerations(request, &class);
        Ok(())
    }
    async fn validate(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let class = class(request, lookup)?;
        let own = request.object.pointer("/spec/overhead").filter(|o| !o.is_null());
        let fixed = class
            .as_ref()
            .and_then(|c| c.pointer("/overhead/podFixed"))
            .filter(|o| !o.is_null());
        match (own, fixed) {
            (Some(_), None) => {
                Err(request
                    .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
            }
            (own, Some(_)) if own != fixed => {
                Err(request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
            }
            _ => Ok(()),
        }
    }
}

/// The class that a new pod names, if it names one.
fn class(request: &AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<Option<Arc<Value>>> {
    let name = str_at(&request.object, "/spec/runtimeClassName");
    if !request.is("", "pods") || request.operation != Operation::Create || name.is_empty() {
        return Ok(None);
    }
    match lookup.get("node.k8s.io", "runtimeclasses", "", name) {
        Some(class) => Ok(Some(class)),
        None => Err(request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

fn node_selector(request: &mut AdmissionRequest, class: &Value) -> ApiResult<()> {
    let Some(wanted) = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object) else {
        return Ok(());
    };
    let mut selector = request
        .object
        .pointer("/spec/nodeSelector")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (key, value) in wanted {
        match selector.get(key) {
            Some(own) if own != value => {
                let (own, value) = (own.as_str().unwrap_or(""), value.as_str().unwrap_or(""));
                return Err(request.forbidden(&format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                )));
            }
            _ => {
                selector.insert(key.clone(), value.clone());
            }
        }
    }
    map_entry(&mut request.object, "spec").insert("nodeSelector".into(), selector.into());
    Ok(())
}

fn tolerations(request: &mut AdmissionRequest, class: &Value) {
    let wanted = list_at(class, "/scheduling/tolerations");
    if wanted.is_empty() {
        return;
    }
    let mut tolerations = list_at(&request.object, "/spec/tolerations").to_vec();
    for toleration in wanted {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    map_entry(&mut request.object, "spec").insert("tolerations".into(), tolerations.into());
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::admission::testing::{Objects, check_refused, create};

    fn objects() -> Objects {
        Objects::of(&[(
            "runtimeclasses",
            "{metadata: {name: rc}, handler: h, overhead: {podFixed: {cpu: 50m}}, scheduling: {nodeSelector: {rt: x}, tolerations: [{key: rt, operator: Exists}]}}",
        )])
    }

    #[tokio::test]
    async fn overhead_and_scheduling_are_merged() {
        let mut request = create(
            "pods",
            "ns",
            "{metadata: {name: a}, spec: {runtimeClassName: rc, nodeSelector: {a: b}}}",
        );
        RuntimeClass.admit(&mut request, &objects()).await.unwrap();
        RuntimeClass.validate(&mut request, &objects()).await.unwrap();
        assert_eq!(
            request.object["spec"],
            json!({
                "runtimeClassName": "rc",
                "nodeSelector": {"a": "b", "rt": "x"},
                "overhead": {"cpu": "50m"},
                "tolerations": [{"key": "rt", "operator": "Exists"}],
            })
        );
    }

    async fn refused(spec: &str, expected: Expect) {
        let request = create("pods", "ns", &format!("{{metadata: {{name: v}}, spec: {spec}}}"));
        check_refused(&RuntimeClass, request, &objects(), expected).await;
    }

    #[tokio::test]
    async fn contradictions_are_refused() {
        refused(
            "{runtimeClassName: absent}",
            expect![[r#"403 pods "v" is forbidden: pod rejected: RuntimeClass "absent" not found"#]],
        )
        .await;
        refused(
            "{runtimeClassName: rc, nodeSelector: {rt: y}}",
            expect![[r#"403 pods "v" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[rt] = x; pod.spec.nodeSelector[rt] = y"#]],
        )
        .await;
        refused(
            "{runtimeClassName: rc, overhead: {cpu: '1'}}",
            expect![[r#"403 pods "v" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"#]],
        )
        .await;
        refused(
            "{overhead: {cpu: '1'}}",
            expect![[r#"403 pods "v" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"#]],
        )
        .await;
    }
}
