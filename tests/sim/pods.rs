//! What the API server does with pods besides: bindings with the nodes' ledgers, and statuses as agents write them.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};
use skiff_controllers::{ObjectKey, Resource, Target};

use crate::api::{Api, Kind, Refused, Stored, Typed, refused};
use crate::ledger;

/// What a binding has read, for the comparison at its commit.
#[derive(Debug, Clone)]
pub struct BindingRead {
    pod_revision: u64,
    head: u64,
}

impl Api {
    /// The first half of a binding: reads pod and ledger and checks.
    pub fn read_for_binding(&self, key: &ObjectKey, uid: &str, node: &str) -> Result<BindingRead, Refused> {
        let conflict = |why: &str| refused(409, "Conflict", format!("pod {key}: {why}"));
        let Some(Stored {
            typed: Typed::Pod(pod),
            revision,
            ..
        }) = self.get(Kind::Pod, key)
        else {
            return Err(refused(404, "NotFound", format!("pods {key} not found")));
        };
        if pod.metadata.uid.as_deref() != Some(uid) {
            return Err(conflict("another uid"));
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return Err(conflict("is being deleted"));
        }
        if ledger::node_of(pod).is_some() {
            return Err(conflict("is already assigned"));
        }
        if !ledger::fits(self, node, pod) {
            return Err(conflict("the node is full"));
        }
        Ok(BindingRead {
            pod_revision: *revision,
            head: self.heads.get(node).copied().unwrap_or(0),
        })
    }

    /// The second half: false when pod or ledger were written since, unless nothing is compared.
    pub fn commit_binding(&mut self, key: &ObjectKey, node: &str, read: &BindingRead, compare: bool) -> bool {
        let Some(stored) = self.get(Kind::Pod, key).cloned() else {
            return false;
        };
        let same = stored.revision == read.pod_revision && self.heads.get(node).copied().unwrap_or(0) == read.head;
        if compare && !same {
            return false;
        }
        let mut pod = stored.value;
        pod["spec"]["nodeName"] = json!(node);
        let at = self.stamp(0);
        let condition = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": at});
        put_condition(&mut pod["status"], condition);
        self.commit(Kind::Pod, key, Some(pod));
        self.heads.insert(node.to_owned(), self.revision);
        true
    }

    /// An agent's status of a pod: what went away is removed, conditions of others stay.
    pub fn write_pod_status(
        &mut self,
        key: &ObjectKey,
        uid: &str,
        old: &PodStatus,
        new: &PodStatus,
    ) -> Result<u64, Refused> {
        let target = Target {
            resource: Resource::POD,
            key: key.clone(),
            uid: uid.to_owned(),
            resource_version: None,
        };
        let (kind, stored) = self.find(&target)?;
        let (old, new) = (json!(old), json!(new));
        let mut pod = stored.value.clone();
        let mut status = pod["status"].take();
        for gone in old.as_object().into_iter().flatten().map(|(field, _)| field) {
            if new.get(gone).is_none() {
                status.as_object_mut().expect("an object").remove(gone);
            }
        }
        for (field, value) in new.as_object().into_iter().flatten() {
            if field == "conditions" {
                let conditions = value.as_array().into_iter().flatten();
                conditions.for_each(|condition| put_condition(&mut status, condition.clone()));
            } else {
                status[field] = value.clone();
            }
        }
        if matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
            self.told_ended.insert(uid.to_owned());
        } else if self.told_ended.contains(uid) {
            self.breaches.push(format!("pod {key} had ended and lives again"));
        }
        pod["status"] = status;
        self.update(kind, key, &stored, pod)
    }
}

fn put_condition(status: &mut Value, condition: Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let list = status["conditions"].as_array_mut().expect("made above");
    match list.iter_mut().find(|one| one["type"] == condition["type"]) {
        Some(one) => *one = condition,
        None => list.push(condition),
    }
}
