//! Taints: a node repels pods that do not tolerate its NoSchedule and NoExecute taints.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Search, Unfit};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(super) fn filter(search: &Search<'_>, node: &NodeInfo) -> Result<(), Unfit> {
    let repelling = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    let tolerated = |taint: &Taint| {
        search
            .pod
            .tolerations()
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    };
    if node.taints().iter().filter(repelling).all(tolerated) {
        return Ok(());
    }
    Err(Unfit::for_good("node(s) had untolerated taint(s)"))
}

pub(super) fn tolerates_unschedulable(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        value: None,
        time_added: None,
    };
    pod.tolerations().iter().any(|toleration| tolerates(toleration, &taint))
}

/// Kubernetes' rule: an empty effect or key matches all, `Exists` ignores the value, `Gt` and `Lt` compare numbers.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (own, value) = (
        toleration.value.as_deref().unwrap_or(""),
        taint.value.as_deref().unwrap_or(""),
    );
    match toleration.operator.as_deref().unwrap_or("") {
        "" | "Equal" => !key.is_empty() && own == value,
        "Exists" => true,
        operator @ ("Gt" | "Lt") => match (value.parse::<i64>(), own.parse::<i64>()) {
            (Ok(have), Ok(bound)) => {
                if operator == "Gt" {
                    have > bound
                } else {
                    have < bound
                }
            }
            _ => false,
        },
        _ => false,
    }
}
