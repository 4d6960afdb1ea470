//! What the agent must know of its pods after a restart, even without the API server: one file a pod, replaced
//! atomically by a thread of its own, so that no pod waits for the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use skiff_lifecycle::PodMemory;
use tracing::{error, warn};

use crate::error::{AgentError, chain};
use crate::files;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) pod: Pod,
    pub(crate) memory: PodMemory,
    /// RuntimeClass handler that the pod runs on.
    pub(crate) handler: Option<String>,
}

/// Handle to the writing thread. The newest state of each pod is written; states in between may be skipped.
#[derive(Clone)]
pub(crate) struct Checkpoints {
    directory: PathBuf,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// By uid; None = remove.
    due: BTreeMap<String, Option<Vec<u8>>>,
    writing: bool,
    closed: bool,
}

impl Checkpoints {
    /// Starts the writer. Also gives the checkpoints found.
    pub(crate) fn open(data_dir: &Path) -> Result<(Self, Vec<Checkpoint>), AgentError> {
        let directory = data_dir.join("checkpoints");
        files::create_directory(&directory)?;
        let found = load(&directory)?;
        let queue = Arc::new(Queue::default());
        let this = Self {
            directory: directory.clone(),
            queue: queue.clone(),
        };
        std::thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || write_all(&directory, &queue))
            .map_err(|source| AgentError::File {
                attempted: "start the writer of",
                path: this.directory.clone(),
                source,
            })?;
        Ok((this, found))
    }

    pub(crate) fn save(&self, pod_uid: &str, content: Vec<u8>) {
        self.enqueue(pod_uid, Some(content));
    }

    pub(crate) fn remove(&self, pod_uid: &str) {
        self.enqueue(pod_uid, None);
    }

    fn enqueue(&self, pod_uid: &str, content: Option<Vec<u8>>) {
        self.queue.lock().due.insert(pod_uid.to_owned(), content);
        self.queue.changed.notify_all();
    }

    /// Waits until everything is on disk and ends the writer.
    pub(crate) fn close(&self) {
        let mut state = self.queue.lock();
        state.closed = true;
        self.queue.changed.notify_all();
        while !state.due.is_empty() || state.writing {
            state = self
                .queue
                .changed
                .wait(state)
                .expect("no code panics while holding this lock");
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("no code panics while holding this lock")
    }
}

fn write_all(directory: &Path, queue: &Queue) {
    loop {
        let mut state = queue.lock();
        state.writing = false;
        queue.changed.notify_all();
        while state.due.is_empty() {
            if state.closed {
                return;
            }
            state = queue
                .changed
                .wait(state)
                .expect("no code panics while holding this lock");
        }
        state.writing = true;
        let Some((pod_uid, content)) = state.due.pop_first() else {
            continue;
        };
        drop(state);
        let path = directory.join(format!("{pod_uid}.json"));
        let written = match content {
            Some(content) => files::write_atomic(&path, &content, 0o600),
            None => files::remove(&path),
        };
        if let Err(error) = written {
            error!(pod_uid, error = chain(&error), "could not write a checkpoint");
        }
    }
}

fn load(directory: &Path) -> Result<Vec<Checkpoint>, AgentError> {
    let failed = |source| AgentError::File {
        attempted: "read",
        path: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(text) = files::read_optional(&path)? else {
            continue;
        };
        match serde_json::from_str(&text) {
            Ok(checkpoint) => found.push(checkpoint),
            Err(error) => warn!(?path, %error, "ignored a checkpoint that cannot be read"),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_state_of_a_pod_is_found_again_and_a_removed_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (checkpoints, found) = Checkpoints::open(directory.path()).unwrap();
        assert!(found.is_empty());
        let content = |ip: &str| {
            let memory = PodMemory {
                pod_ip: Some(ip.to_owned()),
                ..PodMemory::default()
            };
            serde_json::to_vec(&Checkpoint {
                pod: Pod::default(),
                memory,
                handler: None,
            })
            .unwrap()
        };
        checkpoints.save("a", content("1"));
        checkpoints.save("b", content("9"));
        checkpoints.save("a", content("2"));
        checkpoints.remove("b");
        checkpoints.close();
        std::fs::write(directory.path().join("checkpoints/c.json"), "{ torn").unwrap();
        let (_, found) = Checkpoints::open(directory.path()).unwrap();
        let ips: Vec<_> = found
            .iter()
            .map(|checkpoint| checkpoint.memory.pod_ip.clone().unwrap())
            .collect();
        assert_eq!(ips, ["2"]);
    }
}
