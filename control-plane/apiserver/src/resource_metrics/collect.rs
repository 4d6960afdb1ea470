//! Asking agents what their pods use: all nodes at once, each at most once a second, nobody for longer than the deadline.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use skiff_api::usage::{self, NodeUsage};
use tokio::sync::OnceCell;

use crate::body::request_body;
use crate::server::ApiServer;

/// Everybody who asks within this time gets the same answer.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// A node that has not answered by then is left out.
const DEADLINE: Duration = Duration::from_secs(5);
/// Nodes asked at once.
const NODES_AT_ONCE: usize = 64;
/// Largest answer: 10,000 pods are 2 MB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Nodes whose answer is kept; beyond it the old ones go.
const ENTRIES_MAX: usize = 1024;

type Entry = Arc<OnceCell<Option<Arc<NodeUsage>>>>;

/// Answers of a moment ago, and those on their way.
#[derive(Default)]
pub struct Usages {
    entries: Mutex<HashMap<String, (Instant, Entry)>>,
}

impl Usages {
    fn entry(&self, node: &str) -> Entry {
        let now = Instant::now();
        // The map is consistent after every single call, so a panic elsewhere does not spoil it.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, (until, _)| *until > now);
        }
        match entries.get(node) {
            Some((until, entry)) if *until > now => entry.clone(),
            _ => {
                let entry = Entry::default();
                entries.insert(node.to_owned(), (now + FRESH_FOR, entry.clone()));
                entry
            }
        }
    }
}

/// What these nodes tell; those that do not answer are left out.
pub async fn usage_of(server: &ApiServer, nodes: BTreeSet<String>) -> BTreeMap<String, Arc<NodeUsage>> {
    let connected = nodes.into_iter().filter(|node| server.tunnels.is_connected(node));
    let asked = stream::iter(connected).map(|node| async move {
        let entry = server.usages.entry(&node);
        let usage = entry.get_or_init(|| ask(server, &node)).await.clone();
        usage.map(|usage| (node, usage))
    });
    asked
        .buffer_unordered(NODES_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn ask(server: &ApiServer, node: &str) -> Option<Arc<NodeUsage>> {
    let answer = tokio::time::timeout(DEADLINE, fetch(server, node)).await;
    match answer {
        Ok(Ok(usage)) => Some(Arc::new(usage)),
        Ok(Err(why)) => {
            tracing::debug!(node, why, "a node did not tell what its pods use");
            None
        }
        Err(_) => {
            tracing::debug!(node, "a node did not tell in time what its pods use");
            None
        }
    }
}

async fn fetch(server: &ApiServer, node: &str) -> Result<NodeUsage, String> {
    let request = Request::get(format!("http://node{}", usage::PATH))
        .body(request_body(Empty::<Bytes>::new()))
        .map_err(|error| error.to_string())?;
    let response = server
        .tunnels
        .request(node, request)
        .await
        .map_err(|status| status.message)?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
}
