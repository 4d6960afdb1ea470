//! The worker's main thread: its start, its socket, its end.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustix::process::{Resource, Rlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use super::{Worker, stream};
use crate::limits;
use crate::protocol::{self, About, Hello, Message, PROTOCOL, Request, SOCKET, WorkerArgs};

/// Answers that wait to be written to one agent.
const ANSWERS_QUEUE: usize = 1024;
/// Calls of one agent at once.
const CALLS_AT_ONCE: usize = 256;

/// Runs a worker until it has been without pods for a while.
pub(crate) fn run(args: WorkerArgs) -> anyhow::Result<()> {
    // A session of its own: neither a closed terminal nor Ctrl-C for the agent reaches it. Fails if it leads one already.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_open_files();
    // One worker per directory, however many agents race to start it.
    let path = args.dir.join("lock");
    let mut lock = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .context("open the lock file")?;
    take(&lock).context("another worker runs in this directory")?;
    lock.set_len(0)
        .and_then(|()| write!(lock, "{}", std::process::id()))
        .context("write the lock file")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(&args))
}

/// Locks the file; waits for a worker that was killed and is not quite gone: its connections end before its locks do.
fn take(lock: &std::fs::File) -> rustix::io::Result<()> {
    let begun = std::time::Instant::now();
    loop {
        match rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < limits::WORKER_LOCK_DEADLINE => {
                std::thread::sleep(limits::WORKER_LOCK_PAUSE);
            }
            other => return other,
        }
    }
}

/// The file of the namespace's buckets, which the agent gave us as stdin: we have no path to it.
fn buckets() -> Option<File> {
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

/// Every file, socket and log of every guest is a descriptor of this process.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Binds by way of the open directory: a socket's path may only be 107 bytes long.
fn bind(directory: &Path) -> anyhow::Result<UnixListener> {
    let handle = std::fs::File::open(directory).context("open the worker's directory")?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd());
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).context("bind the control socket")
}

async fn serve(args: &WorkerArgs) -> anyhow::Result<()> {
    let worker = Arc::new(
        Worker::new(args.slots, args.threads, args.denied.clone(), buckets()).context("start the guests' threads")?,
    );
    let listener = bind(&args.dir)?;
    // One byte tells the agent that we listen.
    let _ = std::io::stdout()
        .write_all(b"\n")
        .and_then(|()| std::io::stdout().flush());
    let us = rustix::process::getuid().as_raw();
    let mut idle_since = tokio::time::Instant::now();
    let mut idle_check = tokio::time::interval(limits::IDLE_CHECK_INTERVAL);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept an agent")?;
                if stream.peer_cred().is_ok_and(|peer| peer.uid() == us) {
                    tokio::spawn(converse(worker.clone(), stream, args.namespace.clone()));
                }
            }
            _ = idle_check.tick() => {
                if !worker.is_empty() {
                    idle_since = tokio::time::Instant::now();
                } else if idle_since.elapsed() >= limits::WORKER_IDLE {
                    let _ = std::fs::remove_file(args.dir.join(SOCKET));
                    return Ok(());
                }
            }
        }
    }
}

/// One agent's connection. Its end changes nothing for the guests.
async fn converse(worker: Arc<Worker>, mut stream: UnixStream, namespace: String) {
    let hello = timeout(limits::WORKER_START_DEADLINE, protocol::read::<Hello>(&mut stream)).await;
    match hello {
        Ok(Ok(Some(Hello::Control))) => {}
        Ok(Ok(Some(Hello::Session(open)))) => return stream::serve(worker, stream, *open).await,
        _ => return,
    }
    let changes = worker.changes.0.subscribe();
    let (mut reader, writer) = stream.into_split();
    let (answers, answers_rx) = mpsc::channel(ANSWERS_QUEUE);
    let writing = tokio::spawn(write(worker.clone(), writer, namespace, changes, answers_rx));
    let calls = Arc::new(tokio::sync::Semaphore::new(CALLS_AT_ONCE));
    while let Ok(Some(request)) = protocol::read::<Request>(&mut reader).await {
        let Ok(turn) = calls.clone().acquire_owned().await else {
            break;
        };
        let (worker, answers) = (worker.clone(), answers.clone());
        tokio::spawn(async move {
            let Request { id, call } = request;
            let about = call.about();
            let error = worker.perform(call).await.err();
            let _ = answers.send((about, Message::Answer { id, error })).await;
            drop(turn);
        });
    }
    writing.abort();
}

/// The only writer of a connection: a pod's state is read at the moment it is written, so it never goes back in time.
async fn write(
    worker: Arc<Worker>,
    mut writer: tokio::net::unix::OwnedWriteHalf,
    namespace: String,
    mut changes: broadcast::Receiver<String>,
    mut answers: mpsc::Receiver<(About, Message)>,
) -> std::io::Result<()> {
    let everything = || Message::All {
        protocol: PROTOCOL,
        pid: std::process::id(),
        namespace: namespace.clone(),
        pods: worker.all(),
    };
    protocol::write(&mut writer, &everything()).await?;
    loop {
        let (about, answer) = tokio::select! {
            changed = changes.recv() => match changed {
                Ok(pod_uid) => (About::Pod(pod_uid), None),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    protocol::write(&mut writer, &everything()).await?;
                    continue;
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            answer = answers.recv() => match answer {
                Some((about, answer)) => (about, Some(answer)),
                None => return Ok(()),
            },
        };
        let news = match about {
            About::Pod(pod_uid) => {
                let pod = worker.state(&pod_uid);
                Message::Changed { pod_uid, pod }
            }
            About::Usage { after } => Message::Usage(worker.usage(after)),
        };
        protocol::write(&mut writer, &news).await?;
        if let Some(answer) = answer {
            protocol::write(&mut writer, &answer).await?;
        }
    }
}
