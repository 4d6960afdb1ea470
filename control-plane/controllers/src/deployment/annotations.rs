//! The annotations that Deployments and their ReplicaSets talk through; other tools read them too (kubectl rollout).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// kubectl apply's memory of the Deployment, and what only concerns the Deployment: not copied to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// Kubernetes' bound on the text of `revision-history`.
const REVISION_HISTORY_LENGTH_MAX: usize = 2000;

pub(super) fn get<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// `deployment.kubernetes.io/revision`; 0 if there is none.
pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    get(meta, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The Deployment's annotations that its sets carry too.
pub(super) fn copied(deployment: &ObjectMeta) -> BTreeMap<String, String> {
    let all = deployment.annotations.iter().flatten();
    all.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// What must change on an existing set so that it is the Deployment's set of `revision`.
pub(super) fn for_existing(deployment: &ObjectMeta, set: &ReplicaSet, newest: i64) -> BTreeMap<String, String> {
    let mut changes: BTreeMap<String, String> = copied(deployment)
        .into_iter()
        .filter(|(key, value)| get(&set.metadata, key) != Some(value.as_str()))
        .collect();
    let old = revision(&set.metadata);
    if old < newest {
        changes.insert(REVISION.to_owned(), newest.to_string());
        if let Some(old) = get(&set.metadata, REVISION) {
            let mut history: Vec<&str> = get(&set.metadata, REVISION_HISTORY).unwrap_or("").split(',').collect();
            history.retain(|entry| !entry.is_empty());
            history.push(old);
            while history.join(",").len() > REVISION_HISTORY_LENGTH_MAX {
                history.remove(0);
            }
            changes.insert(REVISION_HISTORY.to_owned(), history.join(","));
        }
    }
    changes
}
