//! TaintNodesByCondition: a new node takes no pods until its controller has seen it ready.

use async_trait::async_trait;
use serde_json::{Value, json};
use skiff_api::object::{list_at, map_entry, str_at};
use skiff_api::status::ApiResult;

use super::{Admission, AdmissionRequest, Operation};
use crate::registry::Lookup;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }
    async fn admit(&self, request: &mut AdmissionRequest, _lookup: &dyn Lookup) -> ApiResult<()> {
        if !request.is("", "nodes") || request.operation != Operation::Create {
            return Ok(());
        }
        let tainted = list_at(&request.object, "/spec/taints")
            .iter()
            .any(|taint| str_at(taint, "/key") == NOT_READY && str_at(taint, "/effect") == "NoSchedule");
        if !tainted {
            let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
            match map_entry(&mut request.object, "spec")
                .entry("taints")
                .or_insert_with(|| json!([]))
            {
                Value::Array(taints) => taints.push(taint),
                other => *other = json!([taint]),
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
    async fn a_new_node_is_tainted_once() {
        let mut request = create("nodes", "", "{metadata: {name: n}}");
        for _ in 0..2 {
            TaintNodesByCondition
                .admit(&mut request, &Objects::of(&[]))
                .await
                .unwrap();
            assert_eq!(
                request.object["spec"]["taints"],
                json!([{"key": NOT_READY, "effect": "NoSchedule"}])
            );
        }
    }
}
