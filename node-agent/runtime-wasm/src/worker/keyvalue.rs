//! The buckets of one namespace: keys and values that outlive containers, workers and agents.
//!
//! All of them are in one file, which the agent opens and hands to the worker: a worker has no path to any other, and no name
//! that a guest makes up becomes a path. Writes go through one thread, which commits those that have gathered together; a
//! write is answered when it is on disk. Reads see the last commit.

use std::fs::File;
use std::sync::{Arc, Mutex};

use skiff_api::pod_settings::ContainerSettings;
use tokio::sync::{mpsc, oneshot};

use crate::limits;
use disk::Disk;

mod disk;
#[cfg(test)]
mod tests;

/// Why an operation is refused; the texts are for the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0:?} is not the name of a bucket")]
    NoSuchStore(String),
    #[error("this pod has no buckets: it has a worker of its own")]
    Denied,
    /// The key does not hold any more what the swap was for.
    #[error("the value has changed")]
    Changed,
    #[error("{0}")]
    Other(String),
}

/// A value, and when it was written: no two writes of a namespace have the same number. 0 = there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) value: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Set(String, Vec<u8>),
    Delete(String),
    /// Adds to decimal text; the sum must lie within the bounds.
    Add {
        key: String,
        delta: i128,
        bounds: (i128, i128),
    },
    /// Sets a key that has this revision.
    Swap(String, Vec<u8>, u64),
}

impl Change {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Set(key, _) | Self::Delete(key) | Self::Add { key, .. } | Self::Swap(key, ..) => key,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let key = self.key();
        if key.is_empty() || key.len() > limits::KEY_BYTES_MAX {
            return Err(Refusal::Other(format!(
                "a key must be 1 to {} bytes long",
                limits::KEY_BYTES_MAX
            )));
        }
        match self {
            Self::Set(_, value) | Self::Swap(_, value, _) if value.len() > limits::VALUE_BYTES_MAX => {
                Err(Refusal::Other(format!(
                    "a value must be at most {} bytes long",
                    limits::VALUE_BYTES_MAX
                )))
            }
            _ => Ok(()),
        }
    }
}

/// What all buckets of a namespace may hold together for a write to be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) bytes: u64,
    pub(super) keys: u64,
}

impl Quota {
    /// What the pod asks for, within what a node allows any namespace.
    pub(super) fn of(settings: &ContainerSettings) -> Self {
        let bytes = settings.keyvalue_bytes.unwrap_or(limits::BUCKETS_BYTES);
        Self {
            bytes: bytes.min(limits::BUCKETS_BYTES_MAX),
            keys: settings.keyvalue_keys.unwrap_or(limits::BUCKETS_KEYS),
        }
    }
}

/// Where a page of keys begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    After(String),
    Skip(u64),
}

/// One write and who waits for it. The number is that of the last `Add`.
struct Job {
    bucket: String,
    changes: Vec<Change>,
    quota: Quota,
    answer: oneshot::Sender<Result<i128, Refusal>>,
}

#[derive(Clone)]
struct Open {
    disk: Arc<Disk>,
    jobs: mpsc::Sender<Job>,
}

enum State {
    /// Nobody has asked for a bucket yet, or opening failed, which may pass. None: there is no file.
    Closed(Option<File>),
    Open(Open),
}

/// The buckets, opened when a guest first asks for one.
pub(super) struct Buckets(Mutex<State>);

/// The name that a guest's identifier stands for; none at all is a bucket of its own.
pub(super) fn bucket(identifier: String) -> Result<String, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match identifier.as_str() {
        "" => Ok("default".to_owned()),
        name if name.len() <= limits::BUCKET_NAME_BYTES_MAX && name.chars().all(plain) => Ok(identifier),
        _ => Err(Refusal::NoSuchStore(identifier)),
    }
}

impl Buckets {
    pub(super) fn new(file: Option<File>) -> Self {
        Self(Mutex::new(State::Closed(file)))
    }

    /// Opens the file if nobody has; reads all of it after a crash, so not on a thread of guests.
    fn open(&self) -> Result<Open, Refusal> {
        let mut state = self.0.lock().expect("no panic happens while the buckets are held");
        let file = match &*state {
            State::Open(open) => return Ok(open.clone()),
            State::Closed(None) => return Err(Refusal::Denied),
            State::Closed(Some(file)) => file.try_clone(),
        };
        let file = file.map_err(|error| Refusal::Other(error.to_string()))?;
        let open = start_writer(Arc::new(Disk::open(file)?))?;
        *state = State::Open(open.clone());
        Ok(open)
    }

    /// Runs on a thread where waiting for the disk disturbs nobody.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(Open) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(this.open()?)).await;
        done.unwrap_or_else(|error| Err(Refusal::Other(error.to_string())))
    }

    /// The entries of these keys, as of one moment.
    pub(super) async fn get(self: &Arc<Self>, bucket: &str, keys: Vec<String>) -> Result<Vec<Entry>, Refusal> {
        let bucket = bucket.to_owned();
        self.blocking(move |open| open.disk.get(&bucket, &keys)).await
    }

    /// Keys in order, and whether there are more.
    pub(super) async fn list(self: &Arc<Self>, bucket: &str, from: From) -> Result<(Vec<String>, bool), Refusal> {
        let bucket = bucket.to_owned();
        self.blocking(move |open| open.disk.list(&bucket, &from)).await
    }

    /// Makes all of these changes, or none. Returns once they are on disk, with the sum of the last `Add`.
    pub(super) async fn write(
        self: &Arc<Self>,
        bucket: &str,
        changes: Vec<Change>,
        quota: Quota,
    ) -> Result<i128, Refusal> {
        changes.iter().try_for_each(Change::check)?;
        let Open { jobs, .. } = self.blocking(Ok).await?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            bucket: bucket.to_owned(),
            changes,
            quota,
            answer,
        };
        let gone = || Refusal::Other("the buckets were closed".to_owned());
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn start_writer(disk: Arc<Disk>) -> Result<Open, Refusal> {
    let (jobs, queue) = mpsc::channel(limits::WRITES_QUEUE);
    let writer = disk.clone();
    std::thread::Builder::new()
        .name("buckets".into())
        .spawn(move || write_all(&writer, queue))
        .map_err(|error| Refusal::Other(error.to_string()))?;
    Ok(Open { disk, jobs })
}

/// Commits what has gathered, again and again.
fn write_all(disk: &Disk, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < limits::WRITES_TOGETHER
            && let Ok(next) = queue.try_recv()
        {
            jobs.push(next);
        }
        for (job, answer) in disk.commit(jobs) {
            // Who asked may be gone; the write counts all the same.
            let _ = job.answer.send(answer);
        }
    }
}
