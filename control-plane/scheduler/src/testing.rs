//! What tests of the scheduler share: objects from YAML.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::cluster::Cluster;
use crate::pod::PodInfo;

pub(crate) fn from_yaml<T: DeserializeOwned>(text: &str) -> Arc<T> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options).unwrap();
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn pod(text: &str) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(from_yaml(text)))
}

/// Nodes in columns: name, CPU, memory, pods, then `key=value` labels, `!key:Effect` taints, `cordoned`.
pub(crate) fn nodes(table: &str) -> Cluster {
    let mut cluster = Cluster::default();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let mut labels = serde_json::Map::new();
        labels.insert("kubernetes.io/hostname".into(), cells[0].into());
        let mut taints = Vec::new();
        let mut unschedulable = false;
        for cell in &cells[4..] {
            if let Some(taint) = cell.strip_prefix('!') {
                let (key, effect) = taint.split_once(':').unwrap();
                taints.push(serde_json::json!({"key": key, "effect": effect}));
            } else if let Some((key, value)) = cell.split_once('=') {
                labels.insert(key.into(), value.into());
            } else {
                unschedulable = *cell == "cordoned";
            }
        }
        let node = serde_json::json!({
            "metadata": {"name": cells[0], "labels": labels},
            "spec": {"taints": taints, "unschedulable": unschedulable},
            "status": {"allocatable": {"cpu": cells[1], "memory": cells[2], "pods": cells[3]}},
        });
        cluster.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    cluster
}

pub(crate) fn outcome(cluster: &Cluster, pod_text: &str) -> String {
    match crate::schedule(cluster, &pod(pod_text), &mut crate::Cursor::default(), 0) {
        crate::Decision::Bind(node) => node,
        crate::Decision::Wait(explanation) => explanation.to_string(),
    }
}
