//! Carries out the deletion of namespaces: asks for the deletion of all content, looks at what is left, and lets the pure
//! controller decide.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use skiff_controllers::{
    Caches, Context, NAMESPACE_CONTROLLER, NamespaceContent, NamespaceWorld, ObjectKey, namespace_concerns,
    reconcile_namespace,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::discovery::Served;
use crate::executor::Executor;
use crate::queue::Queue;
use crate::requests::{RequestError, Requests, collection};

/// Namespaces that are emptied at once (Kubernetes' 10).
const WORKERS: usize = 4;
/// Objects looked at for their finalizers; more change nothing but the number in a message.
const LISTED_MAX: usize = 500;
/// Removals come in bursts: they are taken together for this long.
const SETTLE: Duration = Duration::from_millis(20);

pub(crate) struct Namespaces {
    caches: Arc<Caches>,
    requests: Requests,
    executor: Executor,
    queue: Queue<ObjectKey>,
}

impl Namespaces {
    pub(crate) fn new(caches: Arc<Caches>, requests: Requests, executor: Executor) -> Arc<Self> {
        Arc::new(Namespaces {
            caches,
            requests,
            executor,
            queue: Queue::new(),
        })
    }

    /// The namespace changed.
    pub(crate) fn changed(&self, key: &ObjectKey) {
        if self
            .caches
            .namespaces
            .read()
            .get(key)
            .is_some_and(|namespace| namespace_concerns(&namespace))
        {
            self.queue.add(key.clone());
        }
    }

    /// An object of the namespace is gone: perhaps it was the last.
    pub(crate) fn object_removed(&self, namespace: &str) {
        let key = ObjectKey::cluster(namespace);
        if self
            .caches
            .namespaces
            .read()
            .get(&key)
            .is_some_and(|namespace| namespace_concerns(&namespace))
        {
            self.queue.add_after(key, SETTLE);
        }
    }

    pub(crate) fn start(
        self: &Arc<Self>,
        served: watch::Receiver<Vec<Served>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        self.caches
            .namespaces
            .read()
            .keys()
            .iter()
            .for_each(|key| self.changed(key));
        for _ in 0..WORKERS {
            let (namespaces, stop, mut served) = (self.clone(), stop.clone(), served.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = served.wait_for(|served| !served.is_empty()) => {}
                }
                loop {
                    let key = tokio::select! {
                        () = stop.cancelled() => return,
                        key = namespaces.queue.next() => key,
                    };
                    let resources = served.borrow().clone();
                    namespaces.run_key(&key, &resources).await;
                    namespaces.queue.done(&key);
                }
            });
        }
    }

    async fn run_key(&self, key: &ObjectKey, served: &[Served]) {
        let Some(namespace) = self
            .caches
            .namespaces
            .read()
            .get(key)
            .filter(|one| namespace_concerns(one))
        else {
            self.queue.forget(key);
            return;
        };
        let content = self.empty(&key.name, served).await;
        let ctx = Context {
            now: jiff::Timestamp::now(),
            failure: None,
        };
        let plan = reconcile_namespace(&NamespaceWorld { namespace, content }, &ctx);
        tracing::debug!(controller = NAMESPACE_CONTROLLER, key = %key, report = ?plan.report, "reconciled");
        let actions: Vec<_> = plan.actions.iter().chain(plan.status.iter()).cloned().collect();
        let executed = self.executor.run(NAMESPACE_CONTROLLER, &actions).await;
        match executed.failure {
            Some((failure, _)) => {
                let delay = self.queue.back_off(key.clone());
                tracing::debug!(controller = NAMESPACE_CONTROLLER, key = %key, error = %failure.message, ?delay, "failed");
            }
            None => {
                self.queue.forget(key);
                if let Some(delay) = plan.requeue_after {
                    self.queue.add_after(key.clone(), delay);
                }
            }
        }
    }

    /// Asks for the deletion of everything in the namespace, and returns what is left.
    async fn empty(&self, namespace: &str, served: &[Served]) -> NamespaceContent {
        let mut content = NamespaceContent::default();
        let namespaced = served
            .iter()
            .filter(|one| one.resource.namespaced && one.can("list") && one.can("delete"));
        for one in namespaced {
            if let Err(error) = self.empty_one(namespace, one, &mut content).await {
                content.deletion_failure = Some(format!(
                    "Failed to delete all resource types, 1 remaining: {} {}: {error}",
                    one.resource.api_version, one.resource.plural
                ));
            }
        }
        content
    }

    async fn empty_one(
        &self,
        namespace: &str,
        served: &Served,
        content: &mut NamespaceContent,
    ) -> Result<(), RequestError> {
        let path = collection(&served.resource, namespace);
        let list = format!("{path}?limit={LISTED_MAX}");
        let before = items(self.requests.get(&list).await?);
        // What is on its way out already has been asked once.
        if before
            .iter()
            .any(|item| item.pointer("/metadata/deletionTimestamp").is_none())
        {
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
            if served.can("deletecollection") {
                self.requests
                    .send(Method::DELETE, &path, "application/json", Some(&options))
                    .await?;
            } else {
                for item in &before {
                    let name = skiff_api::object::name(item);
                    match self.requests.delete(&format!("{path}/{name}"), &options).await {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
            }
        } else if before.is_empty() {
            return Ok(());
        }
        let left = items(self.requests.get(&list).await?);
        if left.is_empty() {
            return Ok(());
        }
        let (group, _) = skiff_api::kind::split_api_version(&served.resource.api_version);
        content
            .remaining
            .insert(format!("{}.{group}", served.resource.plural), left.len());
        for finalizer in left.iter().flat_map(|item| skiff_api::object::finalizers(item)) {
            *content.finalizers.entry(finalizer.to_owned()).or_insert(0) += 1;
        }
        Ok(())
    }
}

fn items(mut list: Value) -> Vec<Value> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}
