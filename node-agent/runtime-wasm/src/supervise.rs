//! Workers as the agent sees them: started, adopted, called, and missed when they die.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use skiff_runtime::{RuntimeError, SandboxSpec, SandboxState, Usage, WakeSender};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::limits;
use crate::protocol::{self, Call, Hello, Message, PROTOCOL, Request, SOCKET, WireError, WorkerArgs};
use crate::usage::Picture;

/// Calls that wait to be written to one worker.
const CALLS_QUEUE: usize = 256;
/// A worker tells what it uses within this time, or not at all: all others' figures wait for it.
const USAGE_DEADLINE: Duration = Duration::from_secs(2);

/// The worker's arguments, read. Errors: an unknown or incomplete flag.
pub(crate) fn parse(args: &[String]) -> anyhow::Result<WorkerArgs> {
    let (mut dir, mut namespace) = (None, None);
    let (mut slots, mut threads, mut denied) = (limits::POOL_SLOTS, 1, Vec::new());
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--namespace" => namespace = Some(value.clone()),
            "--slots" => slots = value.parse().context("--slots")?,
            "--threads" => threads = value.parse().context("--threads")?,
            "--deny" => denied.push(value.parse().context("--deny")?),
            _ => bail!("unknown flag {flag}"),
        }
    }
    Ok(WorkerArgs {
        dir: dir.context("--dir is missing")?,
        namespace: namespace.context("--namespace is missing")?,
        slots,
        threads,
        denied,
    })
}

fn arguments(args: &WorkerArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["wasm-worker".into(), "--dir".into(), args.dir.clone().into()];
    words.extend(["--namespace".into(), args.namespace.clone().into()]);
    words.extend(["--slots".into(), args.slots.to_string().into()]);
    words.extend(["--threads".into(), args.threads.to_string().into()]);
    words.extend(
        args.denied
            .iter()
            .flat_map(|ip| ["--deny".into(), ip.to_string().into()]),
    );
    words
}

type Pending = HashMap<u64, oneshot::Sender<Result<(), WireError>>>;

/// A living worker. Its picture of pods is right whenever a call has been answered.
pub(crate) struct Link {
    /// The worker's process, if the kernel tells.
    pid: Option<rustix::process::Pid>,
    calls: mpsc::Sender<Request>,
    pods: Mutex<BTreeMap<String, SandboxState>>,
    usage: Mutex<Picture>,
    pending: Mutex<Pending>,
    next: AtomicU64,
    dead: AtomicBool,
}

/// What a greeting said.
pub(crate) struct Greeting {
    pub(crate) namespace: String,
    pub(crate) sandboxes: Vec<SandboxSpec>,
}

impl Link {
    /// Connects to the worker of this directory. `died` is called once, with the pods it last had, when it is gone.
    /// Errors: nobody listens, or it speaks another protocol (then it is ended).
    pub(crate) async fn connect(
        dir: &Path,
        wake: WakeSender,
        died: impl FnOnce(BTreeMap<String, SandboxState>) + Send + 'static,
    ) -> anyhow::Result<(Arc<Self>, Greeting)> {
        let stream = dial(dir, &Hello::Control).await?;
        let pid = stream
            .peer_cred()
            .ok()
            .and_then(|peer| peer.pid())
            .and_then(rustix::process::Pid::from_raw);
        let (mut reader, writer) = stream.into_split();
        let greeting = timeout(limits::WORKER_START_DEADLINE, protocol::read::<Message>(&mut reader)).await;
        let Ok(Ok(Some(Message::All {
            protocol: PROTOCOL,
            namespace,
            pods,
            ..
        }))) = greeting
        else {
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            bail!("the worker greeted in another protocol and was ended");
        };
        let (calls, calls_rx) = mpsc::channel(CALLS_QUEUE);
        let sandboxes = pods.iter().map(|(spec, _)| spec.clone()).collect();
        let link = Arc::new(Self {
            pid,
            calls,
            pods: Mutex::new(pods.into_iter().map(|(spec, state)| (spec.pod_uid, state)).collect()),
            usage: Mutex::default(),
            pending: Mutex::default(),
            next: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        });
        tokio::spawn(send(writer, calls_rx));
        tokio::spawn(link.clone().receive(reader, wake, died));
        Ok((link, Greeting { namespace, sandboxes }))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Ends the worker with all its pods.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid.filter(|_| !self.is_dead()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    pub(crate) fn state(&self, uid: &str) -> Option<SandboxState> {
        self.pods().get(uid).cloned()
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SandboxState>> {
        self.pods.lock().expect("no panic happens while the pods are held")
    }

    /// What its containers and itself use now.
    pub(crate) async fn usage(&self, name: &str) -> Result<Usage, CallError> {
        let after = self.picture().report();
        self.call_within(Call::Usage { after }, USAGE_DEADLINE).await?;
        let (pods, picture) = (self.pods(), self.picture());
        Ok(Usage {
            containers: pods.values().flat_map(|pod| picture.containers(pod)).collect(),
            hosts: vec![picture.host(name)],
            incomplete: false,
        })
    }

    fn picture(&self) -> std::sync::MutexGuard<'_, Picture> {
        self.usage.lock().expect("no panic happens while usage is held")
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().expect("no panic happens while the calls are held")
    }

    /// Carries out a call. Errors: the worker's, or `Unavailable` when it is gone or silent.
    pub(crate) async fn call(&self, call: Call) -> Result<(), CallError> {
        self.call_within(call, limits::CALL_DEADLINE).await
    }

    async fn call_within(&self, call: Call, deadline: Duration) -> Result<(), CallError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.pending().insert(id, answer);
        // Checked after the insertion: the receiver drops every pending call once it has set the flag.
        // A worker that reads nothing keeps the queue full: its room is waited for within the deadline as well.
        let asked = async {
            if self.is_dead() || self.calls.send(Request { id, call }).await.is_err() {
                return Err(CallError::Gone);
            }
            answered.await.map_err(|_| CallError::Gone)?.map_err(CallError::Worker)
        };
        let result = timeout(deadline, asked).await.unwrap_or(Err(CallError::Silent));
        // There still if nobody answered.
        self.pending().remove(&id);
        result
    }

    async fn receive(
        self: Arc<Self>,
        mut reader: OwnedReadHalf,
        wake: WakeSender,
        died: impl FnOnce(BTreeMap<String, SandboxState>),
    ) {
        while let Ok(Some(message)) = protocol::read::<Message>(&mut reader).await {
            match message {
                Message::All { pods, .. } => {
                    let uids: Vec<_> = pods.iter().map(|(spec, _)| spec.pod_uid.clone()).collect();
                    *self.pods() = pods.into_iter().map(|(spec, state)| (spec.pod_uid, state)).collect();
                    uids.into_iter().for_each(|uid| drop(wake.try_send(uid)));
                }
                Message::Changed { pod_uid, pod } => {
                    if self.update(&pod_uid, pod) {
                        // A full channel means that a look is due anyway.
                        let _ = wake.try_send(pod_uid);
                    }
                }
                Message::Usage(report) => {
                    let pods = self.pods();
                    self.picture().add(report, |uid| pods.contains_key(uid));
                }
                Message::Answer { id, error } => {
                    if let Some(answer) = self.pending().remove(&id) {
                        let _ = answer.send(error.map_or(Ok(()), Err));
                    }
                }
            }
        }
        self.dead.store(true, Ordering::Release);
        // Its pods stay listed as they were until they are told as lost: at no moment do they seem absent.
        let pods = self.pods().clone();
        died(pods);
        self.pending().clear();
    }

    /// True if more than figures changed.
    fn update(&self, uid: &str, pod: Option<SandboxState>) -> bool {
        let told = |pod: &SandboxState| -> Vec<_> {
            pod.containers
                .iter()
                .map(|c| (c.name.clone(), c.attempt, c.phase, c.ready))
                .collect()
        };
        let after = pod.as_ref().map(told);
        let mut pods = self.pods();
        let before = match pod {
            Some(pod) => pods.insert(uid.to_owned(), pod),
            None => pods.remove(uid),
        };
        before.as_ref().map(told) != after
    }
}

/// Connects to the worker of this directory, and says what for. Errors: nobody listens.
pub(crate) async fn dial(dir: &Path, hello: &Hello) -> anyhow::Result<UnixStream> {
    let handle = std::fs::File::open(dir).context("open the worker's directory")?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd());
    let mut stream = UnixStream::connect(path).await.context("connect to the worker")?;
    protocol::write(&mut stream, hello)
        .await
        .context("write to the worker")?;
    Ok(stream)
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    Worker(WireError),
    /// The worker ended before it answered.
    Gone,
    /// It did not answer in time.
    Silent,
}

impl From<CallError> for RuntimeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Worker(error) => error.into(),
            CallError::Gone => Self::Unavailable {
                why: "the worker of the namespace ended".into(),
            },
            CallError::Silent => Self::Unavailable {
                why: "the worker of the namespace does not answer".into(),
            },
        }
    }
}

async fn send(mut writer: OwnedWriteHalf, mut calls: mpsc::Receiver<Request>) {
    while let Some(request) = calls.recv().await {
        if protocol::write(&mut writer, &request).await.is_err() {
            return;
        }
    }
}

/// Starts a worker with the file of its namespace's buckets, and waits until it listens. It is not tied to us: it goes on when we end.
pub(crate) async fn start(exe: &Path, args: &WorkerArgs, buckets: std::fs::File) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.dir)
        .context("make the worker's directory")?;
    let log = std::fs::File::create(args.dir.join("worker.log")).context("make the worker's log")?;
    let mut child = tokio::process::Command::new(exe)
        .args(arguments(args))
        .env_clear()
        .stdin(Stdio::from(buckets))
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()
        .with_context(|| format!("start {}", exe.display()))?;
    let mut ready = child.stdout.take().context("the worker's stdout is a pipe")?;
    // Reaps it whenever it ends.
    tokio::spawn(async move { child.wait().await });
    let mut byte = [0];
    match timeout(limits::WORKER_START_DEADLINE, ready.read(&mut byte)).await {
        Ok(Ok(1)) => Ok(()),
        Ok(_) => {
            let why = std::fs::read_to_string(args.dir.join("worker.log")).unwrap_or_default();
            bail!("the worker ended at once: {}", why.trim())
        }
        Err(_) => bail!("the worker did not get ready in {:?}", limits::WORKER_START_DEADLINE),
    }
}

/// Removes what a dead worker left. A living one holds its lock, which is what keeps its directory.
pub(crate) fn clear(dir: &Path) {
    let Ok(lock) = std::fs::File::open(dir.join("lock")) else {
        return;
    };
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = std::fs::remove_dir_all(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_arguments_come_back_as_given() {
        let args = WorkerArgs {
            dir: "/var/lib/skiff/workers/a".into(),
            namespace: "a".into(),
            slots: 7,
            threads: 3,
            denied: vec!["10.0.0.1".parse().expect("address")],
        };
        let words: Vec<String> = arguments(&args)
            .into_iter()
            .skip(1)
            .map(|word| word.into_string().expect("text"))
            .collect();
        assert_eq!(parse(&words).expect("parsed"), args);
        assert!(parse(&words[..1]).is_err() && parse(&["--x".into(), "1".into()]).is_err());
    }
}
