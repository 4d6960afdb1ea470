//! `pods/NAME/binding` and `bindings`: puts a pod on a node, once, together with the node's ledger.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::object::{self, list_at, map_entry, metadata_mut, str_at};
use skiff_api::status::{ApiResult, ApiStatus, Subject};

use super::ledger::{self, Reservation};
use super::success;
use crate::admission::{AdmissionRequest, Operation};
use crate::authn::UserInfo;
use crate::body::Body;
use crate::clock;
use crate::plugins::{PluginRequest, Subresource};
use crate::registry::{Lookup, Put, Registry, Stored};
use crate::server::ApiServer;

/// Attempts before a lost race is reported. Each loss means that another binding to the node succeeded, so this bounds
/// how many schedulers may work on one node at once.
const ATTEMPTS_MAX: usize = 64;
/// Labels of a node that its pods are given, so that they may know where they run.
const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// `pods/NAME/binding`.
pub struct PodBinding;
/// The same as a resource of its own; the pod is named in the body.
pub struct Bindings;

#[async_trait]
impl Subresource for PodBinding {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }
    fn subresource(&self) -> &'static str {
        "binding"
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let binding = request.object(server, "", "v1", "Binding").await?;
        let name = request.info.name.clone();
        let given = object::name(&binding);
        if !given.is_empty() && given != name {
            return Err(ApiStatus::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let asked = Asked::of(&request, name);
        run(server, asked, binding).await?;
        request.respond(201, &success(201))
    }
}

#[async_trait]
impl Subresource for Bindings {
    fn group(&self) -> &'static str {
        ""
    }
    fn resources(&self) -> &'static [&'static str] {
        &["bindings"]
    }
    fn subresource(&self) -> &'static str {
        ""
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let binding = request.object(server, "", "v1", "Binding").await?;
        let name = object::name(&binding).to_owned();
        let asked = Asked::of(&request, name);
        run(server, asked, binding).await?;
        request.respond(201, &success(201))
    }
}

/// Which pod is to be bound, and who asks.
struct Asked {
    namespace: String,
    name: String,
    user: UserInfo,
    dry_run: bool,
}

impl Asked {
    fn of(request: &PluginRequest, name: String) -> Self {
        let namespace = request.info.namespace.clone();
        Self {
            namespace,
            name,
            user: request.user.clone(),
            dry_run: request.dry_run(),
        }
    }
}

async fn run(server: &Arc<ApiServer>, asked: Asked, binding: Value) -> ApiResult<()> {
    let given = object::namespace(&binding);
    if !given.is_empty() && given != asked.namespace {
        return Err(ApiStatus::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let registry = &server.registry;
    let mut admission = AdmissionRequest {
        operation: Operation::Create,
        info: registry.served("", "pods")?.info,
        subresource: "binding".into(),
        namespace: asked.namespace,
        name: asked.name,
        user: asked.user,
        dry_run: asked.dry_run,
        object: binding,
        old: None,
        options: Value::Null,
        warnings: Vec::new(),
    };
    server.plugins.admission.admit(&mut admission, &**registry).await?;
    server.plugins.admission.validate(&mut admission, &**registry).await?;
    check(&admission.object)?;
    bind(
        registry,
        &admission.namespace,
        &admission.name,
        &admission.object,
        admission.dry_run,
    )
    .await
}

/// Kubernetes reports these as plain errors, without reason and details.
fn check(binding: &Value) -> ApiResult<()> {
    let (kind, target) = (str_at(binding, "/target/kind"), str_at(binding, "/target/name"));
    let problem = if !matches!(kind, "" | "Node") {
        format!("target.kind: Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\"")
    } else if target.is_empty() {
        "target.name: Required value".to_owned()
    } else {
        return Ok(());
    };
    Err(ApiStatus::new(500, "", problem))
}

/// Binds the pod: again with fresh numbers when someone else wrote pod or ledger meanwhile, 409 when the pod cannot be
/// bound or the node is full.
pub async fn bind(registry: &Registry, namespace: &str, name: &str, binding: &Value, dry_run: bool) -> ApiResult<()> {
    let pods = registry.served("", "pods")?;
    let node = str_at(binding, "/target/name");
    for _ in 0..ATTEMPTS_MAX {
        let stored = registry.get(pods, namespace, name).await?;
        let pod = bound(registry, &stored, name, node, binding)?;
        let txn = match ledger::reserve(registry, node, &pod).await? {
            Reservation::Fits(txn) => txn,
            Reservation::Full(why) => return Err(conflict(name, &format!("node {node:?} is full: {why}"))),
        };
        if dry_run {
            return Ok(());
        }
        match registry
            .put(pods, &stored.key, stored.revision, Some(&pod), txn)
            .await?
        {
            Put::Done { .. } => return Ok(()),
            Put::Changed(_) | Put::BookkeepingChanged => {}
        }
    }
    Err(conflict(
        name,
        &format!("node {node:?} is being bound to by too many at once; please try again"),
    ))
}

/// The pod as it is once bound.
fn bound(registry: &Registry, stored: &Stored, name: &str, node: &str, binding: &Value) -> ApiResult<Value> {
    let pod = &stored.value;
    for (pointer, what, is) in [
        ("/metadata/uid", "UID", object::uid(pod).to_owned()),
        (
            "/metadata/resourceVersion",
            "ResourceVersion",
            stored.revision.to_string(),
        ),
    ] {
        let wanted = str_at(binding, pointer);
        if !wanted.is_empty() && wanted != is {
            let detail = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
            return Err(ApiStatus::conflict(
                Subject {
                    group: "",
                    resource: "pods/binding",
                    name,
                },
                &detail,
            ));
        }
    }
    let taken = str_at(pod, "/spec/nodeName");
    if object::is_terminating(pod) {
        return Err(conflict(
            name,
            &format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    if !taken.is_empty() {
        return Err(conflict(
            name,
            &format!("pod {name} is already assigned to node {taken:?}"),
        ));
    }
    if !list_at(pod, "/spec/schedulingGates").is_empty() {
        return Err(conflict(
            name,
            &format!("pod {name} has non-empty .spec.schedulingGates"),
        ));
    }
    let mut pod = pod.clone();
    metadata_mut(&mut pod).remove("resourceVersion");
    map_entry(&mut pod, "spec").insert("nodeName".into(), node.into());
    for key in ["annotations", "labels"] {
        let mut more = object::string_map(binding, &format!("/metadata/{key}"));
        if key == "labels" {
            more.extend(topology(registry, node));
        }
        if !more.is_empty() {
            let map = map_entry(&mut pod["metadata"], key);
            map.extend(more.into_iter().map(|(key, value)| (key, Value::from(value))));
        }
    }
    scheduled(&mut pod);
    Ok(pod)
}

fn topology(registry: &Registry, node: &str) -> Vec<(String, String)> {
    let Some(node) = Lookup::get(registry, "", "nodes", "", node) else {
        return Vec::new();
    };
    object::labels(&node)
        .into_iter()
        .filter(|(key, _)| TOPOLOGY_LABELS.contains(&key.as_str()))
        .collect()
}

/// Sets the condition PodScheduled.
fn scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock::now(),
    });
    let conditions = map_entry(pod, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Value::Array(conditions) = conditions else { return };
    match conditions.iter_mut().find(|c| str_at(c, "/type") == "PodScheduled") {
        Some(existing) => *existing = condition,
        None => conditions.push(condition),
    }
}

fn conflict(name: &str, why: &str) -> Box<ApiStatus> {
    ApiStatus::conflict(
        Subject {
            group: "",
            resource: "pods/binding",
            name,
        },
        why,
    )
}
