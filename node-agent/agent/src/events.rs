//! Events: written by a task of their own, so that nothing waits for them. Repeats raise a count instead of adding
//! objects, and each pod has a budget, so that one crashing pod cannot flood the server.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use skiff_lifecycle::{EventKind, PodEvent, spec};
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Events waiting to be written. More than this during a long absence of the server are dropped: events are advice.
const QUEUE_MAX: usize = 1024;
/// Distinct events that are counted up instead of repeated; client-go's size of that cache.
const REMEMBERED_MAX: usize = 4096;
/// Repeats later than this start a new event. client-go's value.
const AGGREGATE_FOR_SECONDS: i64 = 600;
/// Budget per object: so many at once, and one more every five minutes. client-go's values.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
/// One event may not hold up the others for longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// While the server is away events wait, the first of them for this long.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::Sender<Draft>,
}

struct Draft {
    involved: ObjectReference,
    kind: EventKind,
    reason: String,
    message: String,
    at: Timestamp,
}

impl Events {
    pub(crate) fn start(client: kube::Client, node_name: String) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            client,
            node_name,
            known: HashMap::new(),
            budgets: HashMap::new(),
        };
        tokio::spawn(writer.run(receiver));
        Self { sender }
    }

    pub(crate) fn pod(&self, pod: &Pod, event: PodEvent) {
        let meta = pod.metadata.clone();
        let spec = pod.spec.as_ref();
        let involved = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace,
            name: meta.name,
            uid: meta.uid,
            resource_version: meta.resource_version,
            field_path: event
                .container
                .zip(spec)
                .and_then(|(name, spec)| spec::field_path(spec, &name)),
        };
        self.send(involved, event.kind, &event.reason, event.message);
    }

    /// An event about the node; kubelet gives the node's name as its uid.
    pub(crate) fn node(&self, node: &Node, kind: EventKind, reason: &str, message: String) {
        let name = node.metadata.name.clone();
        let involved = ObjectReference {
            kind: Some("Node".to_owned()),
            uid: node.metadata.uid.clone().or_else(|| name.clone()),
            name,
            ..ObjectReference::default()
        };
        self.send(involved, kind, reason, message);
    }

    fn send(&self, involved: ObjectReference, kind: EventKind, reason: &str, message: String) {
        let draft = Draft {
            involved,
            kind,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        if self.sender.try_send(draft).is_err() {
            warn!(reason, "dropped an event, too many are waiting");
        }
    }
}

struct Known {
    name: String,
    namespace: String,
    count: i32,
    last: Timestamp,
}

struct Budget {
    left: f64,
    at: Timestamp,
}

struct Writer {
    client: kube::Client,
    node_name: String,
    known: HashMap<String, Known>,
    budgets: HashMap<String, Budget>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Draft>) {
        while let Some(draft) = receiver.recv().await {
            if !self.within_budget(&draft) {
                continue;
            }
            while self.write_in_time(&draft).await && Timestamp::now().duration_since(draft.at) < KEPT_FOR {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// True when the server did not answer, so that another try may help.
    async fn write_in_time(&mut self, draft: &Draft) -> bool {
        match tokio::time::timeout(WRITE_TIMEOUT, self.write(draft)).await {
            Ok(Ok(())) => false,
            Ok(Err(error @ kube::Error::Api(_))) => {
                debug!(%error, reason = draft.reason, "an event was refused");
                false
            }
            Ok(Err(_)) | Err(_) => true,
        }
    }

    fn within_budget(&mut self, draft: &Draft) -> bool {
        if self.budgets.len() >= REMEMBERED_MAX {
            self.budgets.clear();
        }
        let uid = draft.involved.uid.clone().unwrap_or_default();
        let budget = self.budgets.entry(uid).or_insert(Budget {
            left: BURST,
            at: draft.at,
        });
        let passed = draft.at.duration_since(budget.at).as_secs_f64().max(0.0);
        budget.left = (budget.left + passed * REFILL_PER_SECOND).min(BURST);
        budget.at = draft.at;
        if budget.left < 1.0 {
            return false;
        }
        budget.left -= 1.0;
        true
    }

    async fn write(&mut self, draft: &Draft) -> Result<(), kube::Error> {
        let involved = &draft.involved;
        let key = format!(
            "{}/{}/{}/{}",
            involved.uid.as_deref().unwrap_or_default(),
            involved.field_path.as_deref().unwrap_or_default(),
            draft.reason,
            draft.message
        );
        if let Some(known) = self.known.get_mut(&key)
            && draft.at.duration_since(known.last).as_secs() < AGGREGATE_FOR_SECONDS
        {
            known.count += 1;
            known.last = draft.at;
            let patch = serde_json::json!({ "count": known.count, "lastTimestamp": Time(draft.at) });
            let api: Api<Event> = Api::namespaced(self.client.clone(), &known.namespace);
            match api
                .patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(|_| ()),
            }
        }
        let event = self.event(draft);
        let name = event.metadata.name.clone().unwrap_or_default();
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &event).await?;
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(
            key,
            Known {
                name,
                namespace,
                count: 1,
                last: draft.at,
            },
        );
        Ok(())
    }

    fn event(&self, draft: &Draft) -> Event {
        let namespace = draft.involved.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let object = draft.involved.name.as_deref().unwrap_or_default();
        let kind = match draft.kind {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{object}.{:x}", draft.at.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: draft.involved.clone(),
            reason: Some(draft.reason.clone()),
            message: Some(draft.message.clone()),
            type_: Some(kind.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(draft.at)),
            last_timestamp: Some(Time(draft.at)),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node_name.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            ..Event::default()
        }
    }
}
