//! What every write shares: decoding with field validation, admission, generation, the no-op check, and the commit.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use skiff_api::canonical;
use skiff_api::codec::Decoded;
use skiff_api::field::FieldErrors;
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};
use skiff_store::Txn;

use super::body::{self, Expected};
use super::options::{Validation, WriteOptions};
use super::{Scope, metadata};
use crate::admission::{AdmissionRequest, Operation};
use crate::body::RequestBody;
use crate::clock;
use crate::registry::{OBJECT_MODIFIED, Put, Resource, Stored};
use crate::strategy::WriteContext;
use crate::subresources::ledger;

/// How an attempt to write ended.
pub enum Written {
    /// The object's bytes as they are served now.
    Done(Bytes),
    /// Someone else wrote first.
    Conflict,
}

/// A write on its way.
pub struct Write<'a> {
    pub scope: &'a Scope,
    pub options: &'a WriteOptions,
    /// Who owns the fields that are written.
    pub manager: String,
    pub now: String,
    pub warnings: Vec<String>,
    /// How many warnings are about the body and outlive a lost race.
    pub kept_warnings: usize,
}

impl<'a> Write<'a> {
    pub fn new(scope: &'a Scope, options: &'a WriteOptions) -> Self {
        let agent = scope
            .parts
            .headers
            .get(hyper::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        Self {
            scope,
            options,
            manager: options.manager(agent),
            now: clock::now(),
            warnings: Vec::new(),
            kept_warnings: 0,
        }
    }
    /// Forgets what an attempt warned about, before the next one.
    pub fn begin_attempt(&mut self) {
        self.warnings.truncate(self.kept_warnings);
    }
    pub fn resource(&self) -> &'a Arc<Resource> {
        &self.scope.resource
    }
    pub fn context(&self) -> WriteContext {
        WriteContext {
            now: self.now.clone(),
            uuid: uuid::Uuid::new_v4().to_string(),
            subresource: self.scope.subresource,
        }
    }

    /// Reads and decodes the body as the resource's kind, with `fieldValidation`.
    pub async fn read_object(&mut self, request_body: &mut RequestBody) -> ApiResult<Value> {
        let bytes = body::read(&self.scope.parts, request_body).await?;
        let info = self.resource().info;
        let expected = Expected {
            group: info.kind_group,
            version: info.kind_version,
            kind: info.kind,
        };
        let decoded = body::decode_as(&body::media_type(&self.scope.parts), &bytes, expected)?;
        let value = self.field_validation(decoded, |problems| {
            ApiStatus::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {problems}",
                info.kind, info.kind_version, info.kind
            ))
        })?;
        self.kept_warnings = self.warnings.len();
        Ok(value)
    }
    /// Ignore, warn about or refuse the problems of a decoded object.
    pub fn field_validation(
        &mut self,
        decoded: Decoded,
        refuse: impl FnOnce(&str) -> Box<ApiStatus>,
    ) -> ApiResult<Value> {
        if !decoded.problems.is_empty() {
            match self.options.validation {
                Validation::Ignore => {}
                Validation::Warn => self.warnings.extend(decoded.problems),
                Validation::Strict => return Err(refuse(&decoded.problems.join(", "))),
            }
        }
        Ok(decoded.value)
    }

    /// The question to admission. Takes the object, which comes back through `AdmissionRequest::object`.
    pub fn admission(&self, operation: Operation, object: Value, old: Option<Arc<Value>>) -> AdmissionRequest {
        let name = if self.scope.name.is_empty() {
            object::name(&object).to_owned()
        } else {
            self.scope.name.clone()
        };
        AdmissionRequest {
            operation,
            info: self.resource().info,
            subresource: self.scope.subresource.to_owned(),
            namespace: self.scope.namespace.clone(),
            name,
            user: self.scope.user.clone(),
            dry_run: self.options.dry_run,
            object,
            old,
            options: self.options.to_json(),
            warnings: Vec::new(),
        }
    }

    /// One attempt to replace `stored` by `new`: everything from admission to the commit. managedFields are up to date.
    pub async fn update(&mut self, stored: &Stored, new: Value) -> ApiResult<Written> {
        let server = &self.scope.server;
        let strategy = &self.resource().strategy;
        let old = Arc::new(stored.value.clone());
        let mut request = self.admission(Operation::Update, new, Some(old.clone()));
        server.plugins.admission.admit(&mut request, &*server.registry).await?;
        metadata::carry_over(&mut request.object, &old);
        let context = self.context();
        if self.scope.subresource == "status" {
            strategy.prepare_for_status_update(&mut request.object, &old, &context);
        } else {
            strategy.prepare_for_update(&mut request.object, &old, &context);
            let differs = spec_differs(&request.object, &old) || strategy.raises_generation(&request.object, &old);
            if strategy.tracks_generation() && differs {
                let next = object::generation(&old) + 1;
                object::metadata_mut(&mut request.object).insert("generation".into(), next.into());
            }
        }
        self.validate_update(&request.object, &old)?;
        server
            .plugins
            .admission
            .validate(&mut request, &*server.registry)
            .await?;
        self.warnings.append(&mut request.warnings);
        self.warnings.extend(strategy.warnings(&request.object, Some(&old)));
        self.commit_update(stored, request.object).await
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ApiResult<()> {
        let strategy = &self.resource().strategy;
        let mut errors = FieldErrors::new();
        metadata::validate_change(new, old, strategy.metadata_checks(), &mut errors);
        if self.scope.subresource == "status" {
            strategy.validate_status_update(new, old, &mut errors);
        } else {
            strategy.validate(new, &mut errors);
            strategy.validate_update(new, old, &mut errors);
        }
        invalid_unless_empty(self.resource(), object::name(new), &errors)
    }

    /// Writes what changed, or nothing if nothing did; deletes when the last finalizer of a deleted object is gone.
    async fn commit_update(&self, stored: &Stored, mut new: Value) -> ApiResult<Written> {
        let resource = self.resource();
        if same_but_for_times(&new, &stored.value) {
            return Ok(Written::Done(served(&stored.value, stored.revision)));
        }
        object::metadata_mut(&mut new).remove("resourceVersion");
        if self.options.dry_run {
            return Ok(Written::Done(served(&new, stored.revision)));
        }
        let waits = resource.strategy.has_finalizers(&new)
            || object::int_at(&new, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) > 0;
        let gone = object::is_terminating(&new) && !waits;
        let target = (!gone).then_some(&new);
        match put(self.scope, &stored.key, stored.revision, Some(&stored.value), target).await? {
            Put::Done { bytes, .. } if !gone => Ok(Written::Done(bytes)),
            // Its last state keeps the version that it had.
            Put::Done { .. } => Ok(Written::Done(served(&new, stored.revision))),
            Put::Changed(_) | Put::BookkeepingChanged => Ok(Written::Conflict),
        }
    }
}

/// The compare-and-swap of a handler, with the ledger's part if the kind has one.
pub async fn put(scope: &Scope, key: &str, revision: u64, old: Option<&Value>, new: Option<&Value>) -> ApiResult<Put> {
    let registry = &scope.server.registry;
    let change = scope.resource.strategy.ledger_effect(old, new);
    let extra = change.map_or_else(Txn::default, |change| ledger::effect(registry, &change, new));
    registry.put(&scope.resource, key, revision, new, extra).await
}

/// An object's bytes at a revision.
pub fn served(value: &Value, revision: u64) -> Bytes {
    canonical::with_resource_version(&canonical::to_bytes(value), revision)
}

/// 422 with all errors, if there are any.
pub fn invalid_unless_empty(resource: &Resource, name: &str, errors: &FieldErrors) -> ApiResult<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiStatus::invalid(resource.kind_subject(name), errors))
    }
}

/// 409 after too many lost races, or at once when the client named a version.
pub fn conflict(resource: &Resource, name: &str) -> Box<ApiStatus> {
    ApiStatus::conflict(resource.subject(name), OBJECT_MODIFIED)
}

/// Whether anything but metadata and status differs.
fn spec_differs(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return true;
    };
    let relevant = |key: &str| !matches!(key, "metadata" | "status" | "kind" | "apiVersion");
    let count = |map: &serde_json::Map<String, Value>| map.keys().filter(|key| relevant(key)).count();
    count(new) != count(old)
        || new
            .iter()
            .any(|(key, value)| relevant(key) && old.get(key) != Some(value))
}

/// Whether two states of an object differ only in the times of managedFields entries.
fn same_but_for_times(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new == old;
    };
    let rest_equal = new.len() == old.len()
        && new
            .iter()
            .all(|(key, value)| key == "metadata" || old.get(key) == Some(value));
    if !rest_equal {
        return false;
    }
    let (Some(new), Some(old)) = (
        new.get("metadata").and_then(Value::as_object),
        old.get("metadata").and_then(Value::as_object),
    ) else {
        return false;
    };
    let relevant = |key: &str| !matches!(key, "managedFields" | "resourceVersion");
    let count = |map: &serde_json::Map<String, Value>| map.keys().filter(|key| relevant(key)).count();
    count(new) == count(old)
        && new
            .iter()
            .all(|(key, value)| !relevant(key) || old.get(key) == Some(value))
        && same_managers(new.get("managedFields"), old.get("managedFields"))
}

fn same_managers(new: Option<&Value>, old: Option<&Value>) -> bool {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (mut new, mut old) = (list(new), list(old));
    for entry in new.iter_mut().chain(old.iter_mut()) {
        object::as_map(entry).remove("time");
    }
    new == old
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_times_of_managers_do_not_count_as_a_change() {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "1",
            "managedFields": [{"manager": "m", "time": "1"}]}, "data": {"a": "1"}});
        let mut new = old.clone();
        new["metadata"]["managedFields"][0]["time"] = "2".into();
        assert!(same_but_for_times(&new, &old));
        new["data"]["a"] = "2".into();
        assert!(!same_but_for_times(&new, &old));
        let mut labelled = old.clone();
        labelled["metadata"]["labels"] = json!({"x": "y"});
        assert!(!same_but_for_times(&labelled, &old));
    }

    #[test]
    fn generation_follows_the_spec_only() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}, "status": {"x": 1}});
        let mut new = old.clone();
        new["status"]["x"] = 2.into();
        new["metadata"]["labels"] = json!({"a": "b"});
        assert!(!spec_differs(&new, &old));
        new["spec"]["replicas"] = 2.into();
        assert!(spec_differs(&new, &old));
    }
}
