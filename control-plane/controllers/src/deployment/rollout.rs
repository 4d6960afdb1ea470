//! The working state of one plan: the Deployment, drafts of its ReplicaSets, and what has been decided so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::annotations::{self, DESIRED_REPLICAS, MAX_REPLICAS, REVISION};
use super::status::{self, Progress};
use crate::adoption;
use crate::controller::{Context, FailedVerb};
use crate::hash::template_hash;
use crate::plan::{Action, EventDraft, Plan, Regarding, Report, Resource, Target};

/// The label by which a ReplicaSet of a Deployment is told from its siblings.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// A ReplicaSet and the changes decided for it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) set: Arc<ReplicaSet>,
    /// `spec.replicas` as decided.
    pub(super) replicas: i32,
    changes: BTreeMap<String, String>,
    min_ready_seconds: Option<i32>,
    deleted: bool,
}

impl Draft {
    fn new(set: Arc<ReplicaSet>) -> Self {
        let replicas = spec_replicas(&set);
        Draft {
            set,
            replicas,
            changes: BTreeMap::new(),
            min_ready_seconds: None,
            deleted: false,
        }
    }
    pub(super) fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or("")
    }
    pub(super) fn available(&self) -> i32 {
        self.set
            .status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
    }
    /// Pods that will still serve once the set has the size decided.
    pub(super) fn available_at_most(&self) -> i32 {
        self.available().min(self.replicas)
    }
    /// The set's status is about its present spec.
    pub(super) fn is_observed(&self) -> bool {
        let observed = self.set.status.as_ref().and_then(|status| status.observed_generation);
        observed.unwrap_or(0) >= self.set.metadata.generation.unwrap_or(0)
    }
    pub(super) fn actual(&self) -> i32 {
        self.set.status.as_ref().map_or(0, |status| status.replicas)
    }
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.changes
            .get(key)
            .map(String::as_str)
            .or_else(|| annotations::get(&self.set.metadata, key))
    }
}

fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// A ReplicaSet that does not exist yet.
pub(super) struct NewSet {
    pub(super) name: String,
    pub(super) replicas: i32,
    object: Value,
}

pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    /// Oldest first.
    pub(super) sets: Vec<Draft>,
    /// Index of the set with the current template.
    pub(super) new: Option<usize>,
    pub(super) created: Option<NewSet>,
    pub(super) progress: Progress,
    pub(super) deployment_revision: Option<String>,
    collided: bool,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(deployment: &'a Deployment, spec: &'a DeploymentSpec, mut own: Vec<Arc<ReplicaSet>>) -> Self {
        own.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.metadata.name.clone()));
        let sets: Vec<Draft> = own.into_iter().map(Draft::new).collect();
        let new = sets.iter().position(|draft| same_template(&draft.set, &spec.template));
        Rollout {
            deployment,
            spec,
            sets,
            new,
            created: None,
            progress: Progress::default(),
            deployment_revision: None,
            collided: false,
        }
    }

    pub(super) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Everything but the set of the current template, oldest first.
    pub(super) fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|index| Some(*index) != self.new).collect()
    }

    /// The sum of `spec.replicas`, as decided, of all sets.
    pub(super) fn total_replicas(&self) -> i32 {
        self.sets.iter().map(|draft| draft.replicas).sum::<i32>() + self.created.as_ref().map_or(0, |set| set.replicas)
    }

    /// `maxSurge` in pods; 0 unless the strategy is RollingUpdate.
    pub(super) fn max_surge(&self) -> i32 {
        self.fence_posts().0
    }

    /// `maxUnavailable` in pods.
    pub(super) fn max_unavailable(&self) -> i32 {
        if self.replicas() == 0 {
            0
        } else {
            self.fence_posts().1.min(self.replicas())
        }
    }

    fn fence_posts(&self) -> (i32, i32) {
        if super::strategy(self.deployment) != "RollingUpdate" {
            return (0, 0);
        }
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let value = |field: Option<&IntOrString>, up: bool| resolve(field, self.replicas(), up);
        let surge = value(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let unavailable = value(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
        // With both at zero nothing could ever move.
        if surge == 0 && unavailable == 0 {
            (0, 1)
        } else {
            (surge, unavailable)
        }
    }

    /// Whether `spec.replicas` has changed since the sets were last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        self.sets.iter().filter(|draft| draft.replicas > 0).any(|draft| {
            draft
                .annotation(DESIRED_REPLICAS)
                .and_then(|text| text.parse::<i32>().ok())
                .is_some_and(|desired| desired != self.replicas())
        })
    }

    /// Finds the set of the current template, numbers it, and makes it if it is missing and wanted.
    pub(super) fn sync_revision(&mut self, create: bool, ctx: &Context) {
        let newest = self
            .old()
            .into_iter()
            .map(|index| annotations::revision(&self.sets[index].set.metadata))
            .max();
        let revision = newest.unwrap_or(0) + 1;
        match self.new {
            Some(index) => {
                let draft = &mut self.sets[index];
                draft.changes.extend(annotations::for_existing(
                    &self.deployment.metadata,
                    &draft.set,
                    revision,
                ));
                let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
                if draft
                    .set
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.min_ready_seconds)
                    .unwrap_or(0)
                    != min_ready
                {
                    draft.min_ready_seconds = Some(min_ready);
                }
                self.deployment_revision = draft.annotation(REVISION).map(str::to_owned);
                let name = self.sets[index].name().to_owned();
                self.progress.found(name);
            }
            None if create => self.create_set(revision, ctx),
            None => {}
        }
    }

    fn create_set(&mut self, revision: i64, ctx: &Context) {
        if ctx
            .failure
            .as_ref()
            .is_some_and(|failure| failure.verb == FailedVerb::CreateCollision)
        {
            self.collided = true;
            return;
        }
        let meta = &self.deployment.metadata;
        let deployment_name = meta.name.as_deref().unwrap_or("");
        let collisions = self
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count)
            .unwrap_or(0);
        let text = serde_json::to_string(&self.spec.template).expect("a pod template is plain data");
        let hash = template_hash(&text, collisions);
        let name = format!("{deployment_name}-{hash}");
        let mut template = self.spec.template.clone();
        let template_meta = template.metadata.get_or_insert_default();
        template_meta
            .labels
            .get_or_insert_default()
            .insert(TEMPLATE_HASH_LABEL.to_owned(), hash.clone());
        let labels = template_meta.labels.clone();
        let mut selector = self.spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(TEMPLATE_HASH_LABEL.to_owned(), hash);
        let replicas = super::rolling::new_set_replicas(self, 0);
        let mut all = annotations::copied(meta);
        all.insert(REVISION.to_owned(), revision.to_string());
        all.extend(self.size_annotations());
        let object_meta = ObjectMeta {
            name: Some(name.clone()),
            namespace: meta.namespace.clone(),
            labels,
            annotations: Some(all),
            owner_references: Some(vec![adoption::reference(&Resource::DEPLOYMENT, meta)]),
            ..ObjectMeta::default()
        };
        let mut spec = json!({"replicas": replicas, "selector": selector, "template": template});
        if let Some(seconds) = self.spec.min_ready_seconds.filter(|seconds| *seconds != 0) {
            spec["minReadySeconds"] = json!(seconds);
        }
        let object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": object_meta, "spec": spec});
        self.progress.created(name.clone());
        self.deployment_revision = Some(revision.to_string());
        self.created = Some(NewSet { name, replicas, object });
    }

    fn size_annotations(&self) -> [(String, String); 2] {
        [
            (DESIRED_REPLICAS.to_owned(), self.replicas().to_string()),
            (
                MAX_REPLICAS.to_owned(),
                (self.replicas() + self.max_surge()).to_string(),
            ),
        ]
    }

    /// Decides a set's size; returns whether that changes it.
    pub(super) fn scale_set(&mut self, index: usize, replicas: i32) -> bool {
        let sizes = self.size_annotations();
        let draft = &mut self.sets[index];
        for (key, value) in sizes {
            if draft.annotation(&key) != Some(value.as_str()) {
                draft.changes.insert(key, value);
            }
        }
        let changed = draft.replicas != replicas;
        draft.replicas = replicas;
        changed
    }

    /// Deletes the oldest empty sets beyond `revisionHistoryLimit`.
    pub(super) fn clean_up_history(&mut self) {
        let Some(limit) = self
            .spec
            .revision_history_limit
            .and_then(|limit| usize::try_from(limit).ok())
        else {
            return;
        };
        let mut old: Vec<usize> = self.old();
        old.retain(|index| self.sets[*index].set.metadata.deletion_timestamp.is_none());
        old.sort_by_key(|index| annotations::revision(&self.sets[*index].set.metadata));
        let surplus = old.len().saturating_sub(limit);
        for index in old.into_iter().take(surplus) {
            let draft = &mut self.sets[index];
            let observed = draft.set.status.as_ref().and_then(|status| status.observed_generation);
            draft.deleted = draft.actual() == 0 && draft.replicas == 0 && observed >= draft.set.metadata.generation;
        }
    }

    pub(super) fn into_plan(self, ctx: &Context) -> Plan {
        let mut plan = Plan::default();
        let meta = &self.deployment.metadata;
        let scaled = |name: &str, from: i32, to: i32| EventDraft {
            regarding: Regarding::of(&Resource::DEPLOYMENT, meta),
            warning: false,
            reason: "ScalingReplicaSet",
            message: format!(
                "Scaled {} replica set {name} from {from} to {to}",
                if to > from { "up" } else { "down" }
            ),
        };
        if let Some(set) = &self.created {
            let mut action = Action::create(Resource::REPLICA_SET, set.object.clone()).or_else(EventDraft {
                regarding: Regarding::of(&Resource::DEPLOYMENT, meta),
                warning: true,
                reason: "ReplicaSetCreateError",
                message: format!("Failed to create new replica set {:?}: {{error}}", set.name),
            });
            if set.replicas > 0 {
                action = action.then(scaled(&set.name, 0, set.replicas));
            }
            plan.actions.push(action);
        }
        for draft in &self.sets {
            if draft.deleted {
                plan.actions.push(Action::delete(Target::exact(
                    Resource::REPLICA_SET,
                    &draft.set.metadata,
                )));
                continue;
            }
            let before = spec_replicas(&draft.set);
            let mut patch = json!({});
            if !draft.changes.is_empty() {
                patch["metadata"] = json!({"annotations": draft.changes});
            }
            if draft.replicas != before {
                patch["spec"]["replicas"] = json!(draft.replicas);
            }
            if let Some(seconds) = draft.min_ready_seconds {
                patch["spec"]["minReadySeconds"] = json!(seconds);
            }
            if patch != json!({}) {
                let action = Action::patch(Target::exact(Resource::REPLICA_SET, &draft.set.metadata), patch);
                let resized = draft.replicas != before;
                let event = || scaled(draft.name(), before, draft.replicas);
                plan.actions.push(if resized { action.then(event()) } else { action });
            }
        }
        if !plan.actions.is_empty() {
            plan.report = Report::Changing(format!("replica sets towards {} replicas", self.replicas()));
        }
        status::add(&self, self.collided, &mut plan, ctx);
        plan
    }
}

/// Equal but for the hash label that the set's template carries.
fn same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let strip = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(TEMPLATE_HASH_LABEL);
            }
            meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
            meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
            meta.creation_timestamp = None;
        }
        template.metadata = template.metadata.filter(|meta| *meta != ObjectMeta::default());
        template
    };
    set.spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref())
        .is_some_and(|own| strip(own) == strip(template))
}

/// A count or a percentage (`25%`) of `total`, rounded as told; absent is 25 %, the API's default.
fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    let percent = |text: &str| text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
    let share = match value {
        Some(IntOrString::Int(count)) => return (*count).max(0),
        Some(IntOrString::String(text)) => percent(text).unwrap_or(0),
        None => 25,
    };
    let product = i64::from(total) * share;
    i32::try_from(if round_up { (product + 99) / 100 } else { product / 100 }).unwrap_or(total)
}
