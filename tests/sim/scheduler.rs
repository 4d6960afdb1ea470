//! A scheduler's process: its own lagging picture, assumptions, and bindings under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use skiff_controllers::ObjectKey;
use skiff_scheduler::{Cluster, Cursor, Decision, PodInfo, schedule};

use crate::api::{Api, Kind, Typed};
use crate::ledger::{has_ended, node_of};
use crate::pods::BindingRead;
use crate::world::Fault;

/// A binding between decision and answer.
struct Binding {
    key: ObjectKey,
    uid: String,
    node: String,
    /// What the API server has read so far.
    read: Option<BindingRead>,
}

pub struct Scheduler {
    seed: u64,
    cluster: Cluster,
    search: Cursor,
    pods: BTreeMap<ObjectKey, Arc<Pod>>,
    cursors: BTreeMap<Kind, usize>,
    bindings: Vec<Binding>,
}

const WATCHED: [Kind; 2] = [Kind::Pod, Kind::Node];

fn uid_of(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or("")
}

impl Scheduler {
    pub fn start(api: &Api, seed: u64) -> Self {
        let mut scheduler = Scheduler {
            seed,
            cluster: Cluster::default(),
            search: Cursor::default(),
            pods: BTreeMap::new(),
            cursors: BTreeMap::new(),
            bindings: Vec::new(),
        };
        WATCHED.into_iter().for_each(|kind| scheduler.list_again(api, kind));
        scheduler
    }

    pub fn list_again(&mut self, api: &Api, kind: Kind) {
        match kind {
            Kind::Pod => {
                let listed: Vec<Arc<Pod>> = api.pods().cloned().collect();
                let is_listed = |key: &ObjectKey| listed.iter().any(|pod| ObjectKey::of(&pod.metadata) == *key);
                let gone: Vec<ObjectKey> = self.pods.keys().filter(|key| !is_listed(key)).cloned().collect();
                gone.iter().for_each(|key| self.pod_gone(key));
                listed.into_iter().for_each(|pod| self.pod_seen(pod));
            }
            Kind::Node => {
                let is_listed = |name: &str| api.get(Kind::Node, &ObjectKey::cluster(name)).is_some();
                let known: Vec<String> = self.cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
                known
                    .iter()
                    .filter(|name| !is_listed(name))
                    .for_each(|name| self.cluster.remove_node(name));
                for stored in api.list(Kind::Node) {
                    if let Typed::Node(node) = &stored.typed {
                        self.cluster.set_node(node.clone());
                    }
                }
            }
            _ => return,
        }
        self.cursors.insert(kind, api.log.len());
    }

    pub fn deliver(&mut self, api: &Api, kind: Kind) -> bool {
        if !WATCHED.contains(&kind) {
            return false;
        }
        let cursor = self.cursors.entry(kind).or_default();
        let Some(offset) = api.log[*cursor..].iter().position(|event| event.kind == kind) else {
            *cursor = api.log.len();
            return false;
        };
        let event = &api.log[*cursor + offset];
        *cursor += offset + 1;
        match &event.object {
            Typed::Pod(_) if event.deleted => self.pod_gone(&event.key),
            Typed::Pod(pod) => self.pod_seen(pod.clone()),
            Typed::Node(_) if event.deleted => self.cluster.remove_node(&event.key.name),
            Typed::Node(node) => self.cluster.set_node(node.clone()),
            _ => {}
        }
        true
    }

    fn pod_seen(&mut self, pod: Arc<Pod>) {
        let old = self.pods.insert(ObjectKey::of(&pod.metadata), pod.clone());
        if let Some(old) = old.filter(|old| old.metadata.uid != pod.metadata.uid) {
            self.cluster.remove_pod(uid_of(&old));
        }
        if has_ended(&pod) {
            self.cluster.remove_pod(uid_of(&pod));
        } else if let Some(node) = node_of(&pod) {
            self.cluster.place_pod(node, Arc::new(PodInfo::new(pod.clone())));
        }
    }

    fn pod_gone(&mut self, key: &ObjectKey) {
        if let Some(old) = self.pods.remove(key) {
            self.cluster.remove_pod(uid_of(&old));
        }
    }

    /// Pods that it could look at.
    pub fn waiting(&self) -> Vec<ObjectKey> {
        let waits = |pod: &Pod| {
            node_of(pod).is_none()
                && pod.metadata.deletion_timestamp.is_none()
                && !has_ended(pod)
                && self.cluster.node_of(uid_of(pod)).is_none()
        };
        self.pods
            .iter()
            .filter(|(_, pod)| waits(pod))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// One cycle; the node if there is one.
    pub fn decide(&mut self, key: &ObjectKey) -> Option<String> {
        let info = Arc::new(PodInfo::new(self.pods.get(key)?.clone()));
        match schedule(&self.cluster, &info, &mut self.search, self.seed) {
            Decision::Bind(node) => {
                let (key, uid) = (key.clone(), info.uid().to_owned());
                self.cluster.place_pod(&node, info);
                self.bindings.push(Binding {
                    key,
                    uid,
                    node: node.clone(),
                    read: None,
                });
                Some(node)
            }
            Decision::Wait(_) => None,
        }
    }

    pub fn bindings(&self) -> usize {
        self.bindings.len()
    }

    /// A binding goes one half further.
    pub fn advance(&mut self, api: &mut Api, index: usize, fault: Fault, compare: bool) -> String {
        let binding = &mut self.bindings[index];
        let text = format!("bind {} to {}", binding.key, binding.node);
        let answer = match binding.read.take() {
            None => match api.read_for_binding(&binding.key, &binding.uid, &binding.node) {
                Ok(read) => {
                    binding.read = Some(read);
                    return format!("{text}: read");
                }
                Err(error) => Err(error.message),
            },
            Some(_) if fault == Fault::RequestLost => Err("lost".to_owned()),
            Some(read) => {
                if !api.commit_binding(&binding.key, &binding.node, &read, compare) {
                    return format!("{text}: again");
                }
                if fault == Fault::ReplyLost {
                    Err("lost".to_owned())
                } else {
                    Ok(())
                }
            }
        };
        let binding = self.bindings.remove(index);
        match answer {
            Ok(()) => format!("{text}: done"),
            Err(why) => {
                let seen = self.pods.get(&binding.key);
                if !seen.is_some_and(|pod| uid_of(pod) == binding.uid && node_of(pod).is_some()) {
                    self.cluster.remove_pod(&binding.uid);
                }
                format!("{text}: {why}")
            }
        }
    }
}
