//! Node ledgers: who uses how much of a node, kept so that binding can never promise more than a node has.
//!
//! Two sorts of keys, outside the objects' own prefix but named by it (`/skiff/ledgers/registry` for `/registry`):
//! - `…/<node>` is the head. Every transaction that adds to the node's use writes it, and a binding compares it: two
//!   bindings that read the same numbers cannot both commit.
//! - `…/<node>/<pod uid>` is one pod's entry, with its requests. It comes with the binding and goes, in the same
//!   transaction, with the pod's end. Taking an entry away only frees room, so it needs no compare and never races.
//!
//! **Invariant:** an entry exists exactly while its pod is bound and has not ended.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};
use skiff_api::object::{self, str_at};
use skiff_api::quantity::Quantity;
use skiff_api::status::ApiResult;
use skiff_store::{Compare, ListRequest, Operation, Txn, TxnOutcome};

use crate::kinds::pod::has_ended;
use crate::kinds::pod::requests::{self, Amounts};
use crate::registry::{Lookup, Registry, store_status};
use crate::strategy::LedgerChange;

/// The count of pods is a resource of the node too.
const PODS: &str = "pods";

/// What a binding asks of a ledger.
#[derive(Debug)]
pub enum Reservation {
    /// Compares and operations that commit it together with the pod.
    Fits(Txn),
    /// The node is full; why.
    Full(String),
}

/// What joins the transaction of a pod's write, after which the pod is as in `new`.
pub fn effect(registry: &Registry, change: &LedgerChange, new: Option<&Value>) -> Txn {
    let operations = match (change, new) {
        (LedgerChange::Release { node, uid }, _) => vec![Operation::Delete {
            key: entry_key(registry, node, uid),
        }],
        (LedgerChange::Enter { node }, Some(pod)) => enter(registry, node, pod),
        (LedgerChange::Enter { .. }, None) => Vec::new(),
    };
    Txn {
        compares: Vec::new(),
        operations,
    }
}

/// Reads the node's ledger and checks that the pod fits what the node can allocate. A node that does not exist (yet) has
/// no limit that one could check, as in Kubernetes.
pub async fn reserve(registry: &Registry, node: &str, pod: &Value) -> ApiResult<Reservation> {
    let store = registry.store();
    // The head before the entries: whatever is added after this read makes the compare fail.
    let (head, _) = store.get(&head_key(registry, node)).await.map_err(store_status)?;
    if let Some(allocatable) = allocatable(registry, node) {
        let (used, pods) = used(registry, node, object::uid(pod)).await?;
        if let Some(why) = shortage(&requests::of_pod(pod), &used, pods, &allocatable) {
            return Ok(Reservation::Full(why));
        }
    }
    let compare = Compare {
        key: head_key(registry, node),
        mod_revision: head.map_or(0, |head| head.mod_revision),
    };
    Ok(Reservation::Fits(Txn {
        compares: vec![compare],
        operations: enter(registry, node, pod),
    }))
}

/// The first resource that the pod asks for more of than is left.
fn shortage(wanted: &Amounts, used: &Amounts, pods: i64, allocatable: &Amounts) -> Option<String> {
    if let Some(most) = allocatable.get(PODS)
        && Quantity::from_i64(pods + 1) > *most
    {
        return Some(format!("insufficient pods ({pods} bound, {most} allowed)"));
    }
    for (name, amount) in wanted.iter().filter(|(_, amount)| !amount.is_zero()) {
        let have = allocatable.get(name).copied().unwrap_or(Quantity::ZERO);
        let taken = used.get(name).copied().unwrap_or(Quantity::ZERO);
        if taken + *amount > have {
            return Some(format!(
                "insufficient {name} (requested {amount}, used {taken}, allocatable {have})"
            ));
        }
    }
    None
}

/// What the node can allocate; nothing when it is unknown or has not said.
fn allocatable(registry: &Registry, node: &str) -> Option<Amounts> {
    let node = Lookup::get(registry, "", "nodes", "", node)?;
    let amounts = requests::amounts(node.pointer("/status/allocatable"));
    (!amounts.is_empty()).then_some(amounts)
}

/// What the pods of a node use together, and how many they are, leaving one pod out.
async fn used(registry: &Registry, node: &str, except: &str) -> ApiResult<(Amounts, i64)> {
    let request = ListRequest {
        prefix: format!("{}/", head_key(registry, node)),
        ..ListRequest::default()
    };
    let entries = registry.store().list(request).await.map_err(store_status)?.items;
    let own = entry_key(registry, node, except);
    let mut total = Amounts::new();
    let mut pods = 0;
    for entry in entries.iter().filter(|entry| entry.key != own) {
        let entry: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
        requests::add(&mut total, &requests::amounts(entry.get("requests")));
        pods += 1;
    }
    Ok((total, pods))
}

/// Where all heads and entries lie.
fn root(registry: &Registry) -> String {
    registry.bookkeeping_key("ledgers") + "/"
}

fn head_key(registry: &Registry, node: &str) -> String {
    root(registry) + node
}

fn entry_key(registry: &Registry, node: &str, uid: &str) -> String {
    format!("{}/{uid}", head_key(registry, node))
}

/// The operations that enter a pod.
fn enter(registry: &Registry, node: &str, pod: &Value) -> Vec<Operation> {
    vec![
        Operation::Put {
            key: head_key(registry, node),
            value: bytes(&json!({"node": node})),
        },
        Operation::Put {
            key: entry_key(registry, node, object::uid(pod)),
            value: bytes(&entry(pod)),
        },
    ]
}

fn entry(pod: &Value) -> Value {
    let requests: BTreeMap<String, String> = requests::of_pod(pod)
        .into_iter()
        .map(|(name, amount)| (name, amount.to_string()))
        .collect();
    json!({"namespace": object::namespace(pod), "name": object::name(pod), "requests": requests})
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// Makes the ledgers say what the pods say: at the start of a server, for stores that another wrote or that lost theirs.
pub async fn rebuild(registry: &Registry) -> ApiResult<()> {
    let pods = registry.served("", "pods")?;
    let store = registry.store();
    let root = root(registry);
    let entries = store
        .list(ListRequest {
            prefix: root.clone(),
            ..ListRequest::default()
        })
        .await
        .map_err(store_status)?;
    // Both lists at one revision: a pod and its entry are written together.
    let objects = store
        .list(ListRequest {
            prefix: pods.key_prefix.clone(),
            revision: entries.revision,
            ..ListRequest::default()
        })
        .await
        .map_err(store_status)?;
    let existing: BTreeSet<&str> = entries.items.iter().map(|entry| entry.key.as_str()).collect();
    let mut rightful = BTreeSet::new();
    for stored in &objects.items {
        let pod = pods.decode(&stored.value, stored.mod_revision)?;
        let node = str_at(&pod, "/spec/nodeName").to_owned();
        if node.is_empty() || has_ended(&pod) {
            continue;
        }
        let key = entry_key(registry, &node, object::uid(&pod));
        if !existing.contains(key.as_str()) {
            // Only while the pod is as it was read; whoever changes it keeps the ledger itself.
            let compare = Compare {
                key: stored.key.clone(),
                mod_revision: stored.mod_revision,
            };
            commit(
                registry,
                Txn {
                    compares: vec![compare],
                    operations: enter(registry, &node, &pod),
                },
            )
            .await?;
        }
        rightful.insert(key);
    }
    for entry in &entries.items {
        let is_head = !entry.key[root.len()..].contains('/');
        if !is_head && !rightful.contains(&entry.key) {
            let compare = Compare {
                key: entry.key.clone(),
                mod_revision: entry.mod_revision,
            };
            let delete = Operation::Delete { key: entry.key.clone() };
            commit(
                registry,
                Txn {
                    compares: vec![compare],
                    operations: vec![delete],
                },
            )
            .await?;
        }
    }
    Ok(())
}

async fn commit(registry: &Registry, txn: Txn) -> ApiResult<()> {
    match registry.store().txn(txn).await.map_err(store_status)? {
        TxnOutcome::Committed { .. } | TxnOutcome::Failed { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests;
