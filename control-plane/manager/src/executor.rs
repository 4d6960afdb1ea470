//! The only code that turns an Action into a request.

use std::time::Duration;

use futures::future::join_all;
use hyper::Method;
use serde_json::{Value, json};
use skiff_controllers::{Action, DeleteOptions, FailedVerb, Failure, ObjectKey, Outcome, Resource, Target};

use crate::recorder::{Recorder, Style};
use crate::requests::{RequestError, Requests, Written, collection, object};
use crate::written::Expected;

/// First batch of simultaneous creations; each further batch is twice as large, so that a quota or a broken webhook costs
/// a few requests and not thousands (Kubernetes' slow start).
const BATCH_FIRST: usize = 1;
/// Largest batch: more at once gains nothing over one connection.
const BATCH_MAX: usize = 64;
/// Pauses between the tries to learn whether a creation was carried out: about as long in all as a key waits for its own
/// writes.
const LOOK_PAUSE_FIRST: Duration = Duration::from_millis(20);
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a plan did.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    /// What the caches must show before the key runs again.
    pub(crate) expected: Vec<Expected>,
    pub(crate) failure: Option<(Failure, bool)>,
}

#[derive(Clone)]
pub(crate) struct Executor {
    requests: Requests,
    recorder: Recorder,
}

impl Executor {
    pub(crate) fn new(requests: Requests, recorder: Recorder) -> Self {
        Executor { requests, recorder }
    }

    /// In order; the first failure ends it. Runs of creations and of deletions go in growing batches.
    pub(crate) async fn run(&self, component: &'static str, actions: &[Action]) -> Executed {
        let mut executed = Executed::default();
        let mut batch = BATCH_FIRST;
        let mut rest = actions;
        while !rest.is_empty() && executed.failure.is_none() {
            let same = rest
                .iter()
                .take_while(|action| is_independent(action))
                .count()
                .min(batch)
                .max(1);
            let (now, later) = rest.split_at(same);
            rest = later;
            batch = if is_independent(&now[0]) {
                (batch * 2).min(BATCH_MAX)
            } else {
                BATCH_FIRST
            };
            for outcome in join_all(now.iter().map(|action| self.perform(component, action))).await {
                match outcome {
                    Ok(expected) => executed.expected.extend(expected),
                    Err(failure) => executed.failure = executed.failure.or(Some(failure)),
                }
            }
        }
        executed
    }

    async fn perform(&self, component: &'static str, action: &Action) -> Result<Option<Expected>, (Failure, bool)> {
        let (verb, result) = match action {
            Action::Create { resource, object, .. } => (FailedVerb::Create, self.create(resource, object).await),
            Action::Patch {
                target,
                subresource,
                patch,
                ..
            } => (FailedVerb::Patch, self.patch(target, subresource, patch).await),
            Action::Delete { target, options, .. } => (FailedVerb::Delete, self.delete(target, *options).await),
            Action::Finalize { target, finalizers } => (FailedVerb::Patch, self.finalize(target, finalizers).await),
            Action::ConfirmAbsent { target } => (FailedVerb::Delete, self.confirm_absent(target).await),
            Action::Event(draft) => {
                self.recorder.record(component, Style::Source, draft.clone());
                return Ok(None);
            }
        };
        let outcome = outcome_of(action);
        match result {
            Ok(done) => {
                // What was done already by an earlier run of the same plan has had its Event.
                if let Some(event) = outcome
                    .and_then(|outcome| outcome.on_success.clone())
                    .filter(|_| done.by_us)
                {
                    self.recorder.record(component, Style::Source, event);
                }
                Ok(done.expected)
            }
            Err(error) => {
                let message = error.to_string();
                let expected_race = (error.code() == 409 && !error.is_reason("AlreadyExists"))
                    || (error.is_not_found() && verb == FailedVerb::Patch)
                    || error.is_namespace_terminating();
                if let Some(mut event) = outcome.and_then(|o| o.on_failure.clone()).filter(|_| !expected_race) {
                    event.message = event.message.replace("{error}", &message);
                    self.recorder.record(component, Style::Source, event);
                }
                let collision = verb == FailedVerb::Create && error.is_reason("AlreadyExists");
                let verb = if collision { FailedVerb::CreateCollision } else { verb };
                Err((Failure { verb, message }, expected_race))
            }
        }
    }

    /// Whether a creation without an answer was carried out is settled by looking at the name. Without that, the next
    /// plan may see neither the object nor the version of the owner that named it, and make one too many.
    async fn create(&self, resource: &Resource, body: &Value) -> Result<Done, RequestError> {
        let key = ObjectKey::new(skiff_api::object::namespace(body), skiff_api::object::name(body));
        let error = match self.requests.create(&collection(resource, &key.namespace), body).await {
            Ok(written) => return Ok(Done::wrote(resource, &written)),
            Err(error) => error,
        };
        let in_doubt = error.is_in_doubt();
        if !in_doubt && !error.is_reason("AlreadyExists") {
            return Err(error);
        }
        let existing = match self.look(&object(resource, &key)).await {
            Ok(existing) => existing,
            Err(absent) if in_doubt && absent.is_not_found() => return Err(error),
            Err(other) => return Err(other),
        };
        if controller_uid(&existing) != controller_uid(body) || skiff_api::object::is_terminating(&existing) {
            return Err(error);
        }
        let version = skiff_api::object::resource_version(&existing).parse().ok();
        Ok(Done {
            by_us: in_doubt,
            expected: version.map(|version| Expected::Version {
                resource: resource.clone(),
                version,
            }),
        })
    }

    /// Reads an object, again and again while no answer comes.
    async fn look(&self, path: &str) -> Result<Value, RequestError> {
        let mut pause = LOOK_PAUSE_FIRST;
        loop {
            match self.requests.get(path).await {
                Err(error) if error.is_in_doubt() && pause <= LOOK_PAUSE_MAX => tokio::time::sleep(pause).await,
                other => return other,
            }
            pause *= 2;
        }
    }

    async fn patch(&self, target: &Target, subresource: &str, patch: &Value) -> Result<Done, RequestError> {
        let mut patch = patch.clone();
        if !target.uid.is_empty() {
            patch["metadata"]["uid"] = json!(target.uid);
        }
        if let Some(version) = &target.resource_version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        let mut path = object(&target.resource, &target.key);
        if !subresource.is_empty() {
            path = format!("{path}/{subresource}");
        }
        self.requests
            .merge(&path, &patch)
            .await
            .map(|written| Done::wrote(&target.resource, &written))
    }

    async fn delete(&self, target: &Target, options: DeleteOptions) -> Result<Done, RequestError> {
        let mut preconditions = json!({});
        if !target.uid.is_empty() {
            preconditions["uid"] = json!(target.uid);
        }
        if let Some(version) = &target.resource_version {
            preconditions["resourceVersion"] = json!(version);
        }
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
        if let Some(policy) = options.propagation {
            body["propagationPolicy"] = json!(policy);
        }
        if let Some(seconds) = options.grace_period_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        match self
            .requests
            .delete(&object(&target.resource, &target.key), &body)
            .await
        {
            Ok(()) => {
                let (resource, key, uid) = (target.resource.clone(), target.key.clone(), target.uid.clone());
                Ok(Done {
                    by_us: true,
                    expected: Some(Expected::Ending { resource, key, uid }),
                })
            }
            Err(error) if error.is_not_found() => Ok(Done {
                by_us: false,
                expected: None,
            }),
            Err(error) => Err(error),
        }
    }

    async fn finalize(&self, target: &Target, finalizers: &[String]) -> Result<Done, RequestError> {
        let path = object(&target.resource, &target.key);
        let mut body = self.requests.get(&path).await?;
        if body.pointer("/metadata/uid").and_then(Value::as_str) != Some(target.uid.as_str()) {
            return Ok(Done {
                by_us: false,
                expected: None,
            });
        }
        body["spec"]["finalizers"] = json!(finalizers);
        match self.requests.replace(&format!("{path}/finalize"), &body).await {
            Ok(_) => Ok(Done {
                by_us: true,
                expected: None,
            }),
            Err(error) if error.is_not_found() => Ok(Done {
                by_us: false,
                expected: None,
            }),
            Err(error) => Err(error),
        }
    }

    async fn confirm_absent(&self, target: &Target) -> Result<Done, RequestError> {
        match self
            .requests
            .send(
                Method::GET,
                &object(&target.resource, &target.key),
                "application/json",
                None,
            )
            .await
        {
            Err(error) if error.is_not_found() => Ok(Done {
                by_us: true,
                expected: None,
            }),
            Err(error) => Err(error),
            Ok(bytes) => {
                let found: Written =
                    serde_json::from_slice(&bytes).map_err(|error| RequestError::Answer(Box::new(error)))?;
                if !target.uid.is_empty() && found.metadata.uid != target.uid {
                    return Ok(Done {
                        by_us: true,
                        expected: None,
                    });
                }
                let message = format!("{} {} is there after all", target.resource.kind, target.key);
                Err(RequestError::Refused {
                    code: 409,
                    reason: "Conflict".to_owned(),
                    message,
                    causes: Vec::new(),
                })
            }
        }
    }
}

struct Done {
    by_us: bool,
    expected: Option<Expected>,
}

impl Done {
    fn wrote(resource: &Resource, written: &Written) -> Done {
        let version = written.metadata.resource_version.parse().ok();
        Done {
            by_us: true,
            expected: version.map(|version| Expected::Version {
                resource: resource.clone(),
                version,
            }),
        }
    }
}

fn is_independent(action: &Action) -> bool {
    matches!(action, Action::Create { .. } | Action::Delete { .. })
}

fn outcome_of(action: &Action) -> Option<&Outcome> {
    match action {
        Action::Create { outcome, .. } | Action::Patch { outcome, .. } | Action::Delete { outcome, .. } => {
            Some(outcome)
        }
        Action::Finalize { .. } | Action::ConfirmAbsent { .. } | Action::Event(_) => None,
    }
}

fn controller_uid(object: &Value) -> Option<&str> {
    skiff_api::object::controller_of(object)
        .and_then(|owner| owner.get("uid"))
        .and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
