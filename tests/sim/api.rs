//! The API server as its clients see it: objects with revisions, optimistic concurrency, graceful deletion, finalizers,
//! merge patches, bindings that are checked against what the node has left, and one log of all changes.
//!
//! What no component may ever do to an object is checked with each commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_controllers::invariants::Observation;
use skiff_controllers::{DeleteOptions, ObjectKey, Resource, Target};

use crate::ledger;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pod,
    ReplicaSet,
    Deployment,
    Node,
    Namespace,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Pod,
        Kind::ReplicaSet,
        Kind::Deployment,
        Kind::Node,
        Kind::Namespace,
    ];

    pub fn of(resource: &Resource) -> Kind {
        match resource.plural.as_ref() {
            "pods" => Kind::Pod,
            "replicasets" => Kind::ReplicaSet,
            "deployments" => Kind::Deployment,
            "nodes" => Kind::Node,
            "namespaces" => Kind::Namespace,
            other => panic!("the simulation serves no {other}"),
        }
    }

    pub fn resource(self) -> Resource {
        match self {
            Kind::Pod => Resource::POD,
            Kind::ReplicaSet => Resource::REPLICA_SET,
            Kind::Deployment => Resource::DEPLOYMENT,
            Kind::Node => Resource::NODE,
            Kind::Namespace => Resource::NAMESPACE,
        }
    }

    fn tracks_generation(self) -> bool {
        matches!(self, Kind::Pod | Kind::ReplicaSet | Kind::Deployment)
    }
}

#[derive(Debug, Clone)]
pub enum Typed {
    Pod(Arc<Pod>),
    ReplicaSet(Arc<ReplicaSet>),
    Deployment(Arc<Deployment>),
    Node(Arc<Node>),
    Namespace(Arc<Namespace>),
}

impl Typed {
    fn read(kind: Kind, value: &Value) -> Typed {
        fn parse<'a, T: Deserialize<'a>>(value: &'a Value) -> Arc<T> {
            Arc::new(T::deserialize(value).unwrap_or_else(|error| panic!("{error}: {value}")))
        }
        match kind {
            Kind::Pod => Typed::Pod(parse(value)),
            Kind::ReplicaSet => Typed::ReplicaSet(parse(value)),
            Kind::Deployment => Typed::Deployment(parse(value)),
            Kind::Node => Typed::Node(parse(value)),
            Kind::Namespace => Typed::Namespace(parse(value)),
        }
    }

    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Typed::Pod(object) => &object.metadata,
            Typed::ReplicaSet(object) => &object.metadata,
            Typed::Deployment(object) => &object.metadata,
            Typed::Node(object) => &object.metadata,
            Typed::Namespace(object) => &object.metadata,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

pub fn refused(code: u16, reason: &'static str, message: impl Into<String>) -> Refused {
    Refused {
        code,
        reason,
        message: message.into(),
    }
}

#[derive(Debug, Clone)]
pub struct Stored {
    pub value: Value,
    pub typed: Typed,
    pub revision: u64,
}

/// One change; for a deletion the object's last state, at the revision of the deletion.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: Kind,
    pub key: ObjectKey,
    pub object: Typed,
    pub deleted: bool,
}

#[derive(Default)]
pub struct Api {
    objects: BTreeMap<(Kind, ObjectKey), Stored>,
    pub log: Vec<Event>,
    pub revision: u64,
    /// Heads of the node ledgers: revision of the last binding to each node.
    pub heads: BTreeMap<String, u64>,
    gone: BTreeSet<String>,
    /// Pods that their agents have told to have ended.
    pub told_ended: BTreeSet<String>,
    pub breaches: Vec<String>,
    pub now: i64,
}

const EPOCH: i64 = 1_767_225_600;

impl Api {
    pub fn time(&self) -> Timestamp {
        Timestamp::from_second(EPOCH + self.now).expect("within jiff's years")
    }

    pub fn stamp(&self, after: i64) -> String {
        Timestamp::from_second(EPOCH + self.now + after)
            .expect("within jiff's years")
            .to_string()
    }

    pub fn get(&self, kind: Kind, key: &ObjectKey) -> Option<&Stored> {
        self.objects.get(&(kind, key.clone()))
    }

    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Stored> {
        let of_kind = self.objects.range((kind, ObjectKey::new("", ""))..);
        of_kind
            .take_while(move |((found, _), _)| *found == kind)
            .map(|(_, stored)| stored)
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.list(Kind::Pod).filter_map(|stored| match &stored.typed {
            Typed::Pod(pod) => Some(pod),
            _ => None,
        })
    }

    pub fn pod_of_uid(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods().find(|pod| pod.metadata.uid.as_deref() == Some(uid))
    }

    pub fn owner(&self, kind: &str, key: &ObjectKey) -> Option<&ObjectMeta> {
        let kind = Kind::ALL.into_iter().find(|one| one.resource().kind == kind)?;
        self.get(kind, key).map(|stored| stored.typed.meta())
    }

    pub fn observe(&self) -> Observation {
        let mut seen = Observation::default();
        for stored in self.objects.values() {
            match &stored.typed {
                Typed::Pod(object) => seen.pods.push(object.clone()),
                Typed::ReplicaSet(object) => seen.replica_sets.push(object.clone()),
                Typed::Deployment(object) => seen.deployments.push(object.clone()),
                Typed::Node(object) => seen.nodes.push(object.clone()),
                Typed::Namespace(_) => {}
            }
        }
        seen
    }

    pub fn commit(&mut self, kind: Kind, key: &ObjectKey, value: Option<Value>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let old = self.objects.remove(&(kind, key.clone()));
        let deleted = value.is_none();
        let mut value = value.unwrap_or_else(|| old.as_ref().map(|old| old.value.clone()).unwrap_or_default());
        value["metadata"]["resourceVersion"] = json!(revision.to_string());
        let typed = Typed::read(kind, &value);
        let uid = typed.meta().uid.clone().unwrap_or_default();
        if deleted {
            self.gone.insert(uid);
        } else if self.gone.contains(&uid) {
            self.breaches.push(format!("{kind:?} {key} came back with uid {uid}"));
        }
        self.log.push(Event {
            kind,
            key: key.clone(),
            object: typed.clone(),
            deleted,
        });
        if !deleted {
            if let (Some(Typed::Pod(old)), Typed::Pod(new)) = (old.as_ref().map(|old| &old.typed), &typed) {
                self.breaches.extend(crate::checks::pod_changed(old, new));
            }
            self.objects
                .insert((kind, key.clone()), Stored { value, typed, revision });
            if kind == Kind::Pod || kind == Kind::Node {
                self.breaches.extend(ledger::overcommitted(self));
            }
        }
        revision
    }

    pub fn create(&mut self, kind: Kind, mut object: Value) -> Result<u64, Refused> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
        let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
        if self.get(kind, &key).is_some() {
            return Err(refused(409, "AlreadyExists", format!("{key} already exists")));
        }
        if !key.namespace.is_empty() {
            let namespace = self.get(Kind::Namespace, &ObjectKey::cluster(key.namespace.clone()));
            match namespace.map(|stored| stored.typed.meta().deletion_timestamp.is_some()) {
                None => {
                    return Err(refused(
                        404,
                        "NotFound",
                        format!("namespace {} not found", key.namespace),
                    ));
                }
                Some(true) => {
                    let why = format!("namespace {} is being terminated", key.namespace);
                    return Err(refused(403, "Forbidden", why));
                }
                Some(false) => {}
            }
        }
        object["metadata"]["uid"] = json!(format!("{:?}-{}", kind, self.revision + 1).to_lowercase());
        object["metadata"]["creationTimestamp"] = json!(self.stamp(0));
        if kind.tracks_generation() {
            object["metadata"]["generation"] = json!(1);
        }
        match kind {
            Kind::Pod => object["status"] = json!({"phase": "Pending"}),
            Kind::Namespace => object["spec"] = json!({"finalizers": ["kubernetes"]}),
            _ => {}
        }
        Ok(self.commit(kind, &key, Some(object)))
    }

    /// The object that a precondition means.
    pub fn find(&self, target: &Target) -> Result<(Kind, Stored), Refused> {
        let kind = Kind::of(&target.resource);
        let Some(stored) = self.get(kind, &target.key) else {
            return Err(refused(404, "NotFound", format!("{} not found", target.key)));
        };
        let uid = stored.typed.meta().uid.as_deref().unwrap_or("");
        let other_uid = !target.uid.is_empty() && target.uid != uid;
        let other_version = target
            .resource_version
            .as_ref()
            .is_some_and(|one| *one != stored.revision.to_string());
        if other_uid || other_version {
            return Err(refused(409, "Conflict", format!("{} has been modified", target.key)));
        }
        Ok((kind, stored.clone()))
    }

    /// A merge patch of the object or of its status.
    pub fn patch(&mut self, target: &Target, subresource: &str, patch: &Value) -> Result<u64, Refused> {
        let (kind, stored) = self.find(target)?;
        let mut new = skiff_api::patch::merge::apply(&stored.value, patch);
        let kept = if subresource == "status" { "spec" } else { "status" };
        new[kept] = stored.value[kept].clone();
        if new[kept].is_null() {
            new.as_object_mut().expect("an object").remove(kept);
        }
        self.update(kind, &target.key, &stored, new)
    }

    pub fn update(&mut self, kind: Kind, key: &ObjectKey, stored: &Stored, mut new: Value) -> Result<u64, Refused> {
        new["metadata"]["resourceVersion"] = stored.value["metadata"]["resourceVersion"].clone();
        if new == stored.value {
            return Ok(stored.revision);
        }
        if kind.tracks_generation() && new["spec"] != stored.value["spec"] {
            let generation = new["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            new["metadata"]["generation"] = json!(generation);
        }
        let stays = !is_terminating(&new) || has_finalizers(kind, &new) || grace_of(&new) > 0;
        Ok(self.commit(kind, key, stays.then_some(new)))
    }

    /// A user's change of the spec.
    pub fn edit(&mut self, kind: Kind, key: &ObjectKey, change: impl FnOnce(&mut Value)) -> bool {
        let Some(stored) = self.get(kind, key).cloned() else {
            return false;
        };
        let mut new = stored.value.clone();
        change(&mut new);
        self.update(kind, key, &stored, new).is_ok()
    }

    pub fn delete(&mut self, target: &Target, options: DeleteOptions) -> Result<(), Refused> {
        let (kind, stored) = self.find(target)?;
        let old = &stored.value;
        let mut new = old.clone();
        set_finalizers(&mut new, options.propagation);
        let wanted = options.grace_period_seconds;
        let period = match kind {
            Kind::Pod if old["spec"]["nodeName"].is_null() || has_ended(old) => 0,
            Kind::Pod => wanted
                .or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_i64())
                .unwrap_or(30),
            _ => 0,
        };
        if is_terminating(old) {
            if wanted.is_some() && period < grace_of(old) {
                new["metadata"]["deletionGracePeriodSeconds"] = json!(period);
            }
        } else if period > 0 || has_finalizers(kind, &new) {
            new["metadata"]["deletionTimestamp"] = json!(self.stamp(period));
            new["metadata"]["deletionGracePeriodSeconds"] = json!(period);
            if kind == Kind::Namespace {
                new["status"] = json!({"phase": "Terminating"});
            }
            if kind.tracks_generation() {
                new["metadata"]["generation"] = json!(new["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
        }
        let stays = has_finalizers(kind, &new) || (is_terminating(&new) && grace_of(&new) > 0);
        if !stays || new != *old {
            self.commit(kind, &target.key, stays.then_some(new));
        }
        Ok(())
    }

    pub fn finalize(&mut self, target: &Target, finalizers: &[String]) -> Result<(), Refused> {
        let (kind, stored) = match self.find(target) {
            Err(error) if error.code == 404 || error.code == 409 => return Ok(()),
            other => other?,
        };
        let mut new = stored.value.clone();
        new["spec"]["finalizers"] = json!(finalizers);
        self.update(kind, &target.key, &stored, new).map(drop)
    }
}

pub fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn grace_of(object: &Value) -> i64 {
    object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

fn has_finalizers(kind: Kind, object: &Value) -> bool {
    let any = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    any("/metadata/finalizers") || (kind == Kind::Namespace && any("/spec/finalizers"))
}

fn set_finalizers(object: &mut Value, propagation: Option<&'static str>) {
    let Some(propagation) = propagation else { return };
    let existing = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut list: Vec<Value> = existing
        .into_iter()
        .filter(|one| !matches!(one.as_str(), Some("orphan" | "foregroundDeletion")))
        .collect();
    match propagation {
        "Orphan" => list.push(json!("orphan")),
        "Foreground" => list.push(json!("foregroundDeletion")),
        _ => {}
    }
    let meta = object["metadata"].as_object_mut().expect("an object has metadata");
    if list.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), list.into());
    }
}
