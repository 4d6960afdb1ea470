//! Priority: a pod's priority and preemption policy come from its PriorityClass, never from the pod itself.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skiff_api::object::{self, bool_at, int_at, map_entry, str_at};
use skiff_api::status::ApiResult;

use super::{Admission, AdmissionRequest, Operation};
use crate::registry::Lookup;

const GROUP: &str = "scheduling.k8s.io";
const PREEMPT: &str = "PreemptLowerPriority";
/// Classes that exist in every cluster.
pub(crate) const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

pub struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }
    async fn admit(&self, request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
        let is_system = SYSTEM_CLASSES.iter().any(|(name, _)| *name == request.name);
        if request.is(GROUP, "priorityclasses") && request.operation == Operation::Delete && is_system {
            return Err(request.forbidden("this is a system priority class and cannot be deleted"));
        }
        if !request.is("", "pods") {
            return Ok(());
        }
        match request.operation {
            Operation::Create => create(request, lookup),
            Operation::Update => {
                keep(request);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn create(request: &mut AdmissionRequest, lookup: &dyn Lookup) -> ApiResult<()> {
    let name = str_at(&request.object, "/spec/priorityClassName").to_owned();
    let class = if name.is_empty() {
        lookup
            .list(GROUP, "priorityclasses", "")
            .into_iter()
            .filter(|c| bool_at(c, "/globalDefault"))
            .min_by_key(value)
    } else {
        let class = lookup
            .get(GROUP, "priorityclasses", "", &name)
            .or_else(|| system_class(&name));
        let Some(class) = class else {
            return Err(request.forbidden(&format!("no PriorityClass with name {name} was found")));
        };
        Some(class)
    };
    let priority = class.as_ref().map_or(0, value);
    let policy = class.as_ref().map_or("", |c| str_at(c, "/preemptionPolicy"));
    let policy = if policy.is_empty() { PREEMPT } else { policy }.to_owned();
    if let Some(given) = int_at(&request.object, "/spec/priority")
        && given != priority
    {
        return Err(request.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    let given = str_at(&request.object, "/spec/preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(request.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let spec = map_entry(&mut request.object, "spec");
    if let Some(class) = class.filter(|_| name.is_empty()) {
        spec.insert("priorityClassName".into(), object::name(&class).into());
    }
    spec.insert("priority".into(), priority.into());
    spec.insert("preemptionPolicy".into(), policy.into());
    Ok(())
}

/// An update that does not mention them keeps them.
fn keep(request: &mut AdmissionRequest) {
    let Some(old) = request.old.clone() else { return };
    let spec = map_entry(&mut request.object, "spec");
    for key in ["priority", "preemptionPolicy"] {
        if let Some(value) = old.pointer(&format!("/spec/{key}")) {
            object::set_default(spec, key, value.clone());
        }
    }
}

fn value(class: &Arc<Value>) -> i64 {
    int_at(class, "/value").unwrap_or(0)
}

fn system_class(name: &str) -> Option<Arc<Value>> {
    let (name, value) = SYSTEM_CLASSES.iter().find(|(n, _)| *n == name)?;
    Some(Arc::new(json!({"metadata": {"name": name}, "value": value})))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::admission::testing::{Objects, check_refused, create};

    fn objects() -> Objects {
        Objects::of(&[(
            "priorityclasses",
            "{metadata: {name: hi}, value: 1000, preemptionPolicy: Never}",
        )])
    }

    #[tokio::test]
    async fn priorities_come_from_the_class() {
        for (class, priority, policy) in [
            ("", 0, PREEMPT),
            ("hi", 1000, "Never"),
            ("system-node-critical", 2_000_001_000, PREEMPT),
        ] {
            let mut request = create(
                "pods",
                "ns",
                &format!("{{metadata: {{name: a}}, spec: {{priorityClassName: '{class}'}}}}"),
            );
            Priority.admit(&mut request, &objects()).await.unwrap();
            assert_eq!(request.object["spec"]["priority"], priority);
            assert_eq!(request.object["spec"]["preemptionPolicy"], policy);
        }
    }

    #[tokio::test]
    async fn pods_do_not_choose_their_own() {
        check_refused(
            &Priority,
            create("pods", "ns", "{metadata: {name: v}, spec: {priority: 5}}"),
            &objects(),
            expect![[r#"403 pods "v" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"#]],
        )
        .await;
        check_refused(
            &Priority,
            create("pods", "ns", "{metadata: {name: v}, spec: {priorityClassName: absent}}"),
            &objects(),
            expect![[r#"403 pods "v" is forbidden: no PriorityClass with name absent was found"#]],
        )
        .await;
    }
}
