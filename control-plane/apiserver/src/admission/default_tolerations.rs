//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or cannot be reached.

use async_trait::async_trait;
use serde_json::{Value, json};
use skiff_api::object::{list_at, map_entry, str_at};
use skiff_api::status::ApiResult;

use super::{Admission, AdmissionRequest, Operation};
use crate::registry::Lookup;

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }
    async fn admit(&self, request: &mut AdmissionRequest, _lookup: &dyn Lookup) -> ApiResult<()> {
        if !request.is("", "pods") || !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        for taint in TAINTS {
            let tolerated = list_at(&request.object, "/spec/tolerations").iter().any(|toleration| {
                matches!(str_at(toleration, "/key"), key if key == taint || key.is_empty())
                    && matches!(str_at(toleration, "/effect"), "NoExecute" | "")
            });
            if tolerated {
                continue;
            }
            let toleration =
                json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
            match map_entry(&mut request.object, "spec")
                .entry("tolerations")
                .or_insert_with(|| json!([]))
            {
                Value::Array(list) => list.push(toleration),
                other => *other = json!([toleration]),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::{Objects, create};

    #[tokio::test]
    async fn what_a_pod_says_itself_stays() {
        let mut request = create(
            "pods",
            "ns",
            "{metadata: {name: a}, spec: {tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]}}",
        );
        DefaultTolerationSeconds
            .admit(&mut request, &Objects::of(&[]))
            .await
            .unwrap();
        let seconds: Vec<_> = list_at(&request.object, "/spec/tolerations")
            .iter()
            .map(|t| (str_at(t, "/key").to_owned(), t["tolerationSeconds"].as_i64()))
            .collect();
        assert_eq!(
            seconds,
            [(TAINTS[0].to_owned(), Some(5)), (TAINTS[1].to_owned(), Some(SECONDS))]
        );
    }
}
