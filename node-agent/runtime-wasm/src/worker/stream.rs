//! One `exec` or `attach`, as the worker carries it out: [`session`](crate::session) is what is said on the wire.
//!
//! The session's own work (moving bytes) is charged to the container and runs where its guest does. It ends with the
//! command, with the container, or with the agent's end of the connection.
//!
//! Read on: [`console`] the shell's end · [`output`] a debug component's.

use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::container::{Container, run_program};
use super::cpu::metered;
use super::guest::Surroundings;
use super::inside::Inside;
use super::logs::Stream;
use super::shell::{self, files::Files};
use super::stdin::Stdin;
use super::taps::Piece;
use crate::protocol::{Artifact, WireError};
use crate::session::{Frame, Open, What};
use console::SessionConsole;
use output::{SessionOutput, Sink};
use skiff_runtime::{ContainerPhase, StdinMode, TerminalSize};

mod console;
pub(super) mod output;

/// Sessions of one worker at once; each may have threads.
pub(super) const SESSIONS_MAX: usize = 64;
/// Frames that wait to be written; output waits for them.
const FRAMES_QUEUE: usize = 8;
/// A command's own stack is small; packing and removing walk directories.
const SHELL_STACK_BYTES: usize = 1 << 20;
/// How a session ends whose container ended first, as if it had been killed with it.
const KILLED: i32 = 137;
/// How one ends that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

type End = Result<i32, WireError>;

/// The worker's end of a session.
#[derive(Clone)]
struct Ends {
    frames: mpsc::Sender<Frame>,
    stdin: Stdin,
    tty: bool,
    /// Cancelled when the client is gone.
    gone: CancellationToken,
    keys: Arc<console::Keys>,
    /// A guest's terminal: Ctrl-C was typed.
    left: CancellationToken,
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Arc<Worker>, mut stream: UnixStream, open: Open) {
    match admit(&worker, &open) {
        Ok((container, turn)) => {
            let meter = container.cpu.clone();
            let session = session(worker.clone(), container, stream, open, turn);
            worker
                .executor
                .commands()
                .spawn(async move { metered(&meter, session).await });
        }
        Err(why) => {
            let _ = Frame::End(Err(why)).write(&mut stream).await;
        }
    }
}

fn admit(worker: &Worker, open: &Open) -> Result<(Arc<Container>, OwnedSemaphorePermit), WireError> {
    let container = worker.container(&open.pod_uid, &open.container)?;
    if container.phase() != ContainerPhase::Running {
        return Err(WireError::NotFound(format!("running container {:?}", open.container)));
    }
    let turn = worker.sessions.clone().try_acquire_owned();
    let turn = turn.map_err(|_| WireError::Busy(format!("more than {SESSIONS_MAX} sessions in this namespace")))?;
    Ok((container, turn))
}

async fn session(
    worker: Arc<Worker>,
    container: Arc<Container>,
    stream: UnixStream,
    open: Open,
    turn: OwnedSemaphorePermit,
) {
    let (reader, writer) = stream.into_split();
    let (frames, queue) = mpsc::channel(FRAMES_QUEUE);
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let ends = Ends {
        frames: frames.clone(),
        stdin: Stdin::default(),
        tty: open.tty,
        gone,
        keys: Arc::default(),
        left: CancellationToken::new(),
    };
    if !open.stdin {
        ends.stdin.close();
    }
    let guests_terminal = open.tty && !matches!(open.what, What::Exec { .. });
    // The shell's thread may outlive this by a moment, and counts until then.
    let turn = Arc::new(turn);
    let work = async {
        let end = match open.what {
            What::Attach => attach(&container, &ends, open.stdin).await,
            What::Exec { command } => {
                let work = exec(&worker, &container, command, &ends, turn.clone());
                unless_ended(&container, &ends, work).await
            }
            What::Debug { args, artifact } => {
                let work = debug(&worker, &container, args, artifact, &ends);
                unless_ended(&container, &ends, work).await
            }
        };
        let _ = frames.send(Frame::End(end)).await;
        // The rest is the writer's.
        std::future::pending::<()>().await;
    };
    let replenish = async {
        loop {
            let taken = ends.stdin.taken().await;
            let _ = frames.send(Frame::Taken(taken as u32)).await;
        }
    };
    tokio::select! {
        () = write(writer, queue) => {}
        () = read(reader, &ends, guests_terminal) => {}
        () = work => {}
        () = replenish => {}
    }
    ends.stdin.close();
}

/// Ends behind the last frame, or when nobody reads.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if frame.write(&mut writer).await.is_err() || matches!(frame, Frame::End(_)) {
            return;
        }
    }
}

/// Ends when the agent is gone or breaks the rules.
async fn read(mut reader: OwnedReadHalf, ends: &Ends, guests_terminal: bool) {
    while let Ok(Some(frame)) = Frame::read(&mut reader).await {
        match frame {
            Frame::Stdin(bytes) if guests_terminal => type_for_guest(ends, &bytes),
            Frame::Stdin(bytes) => {
                let bytes = ends.keys.typed(&ends.stdin, ends.tty, &bytes);
                if ends.stdin.push(bytes) < bytes.len() {
                    return;
                }
            }
            Frame::StdinEnd => ends.stdin.close(),
            Frame::Resize(TerminalSize { width, .. }) => ends.keys.resized(width),
            _ => return,
        }
    }
}

/// What a terminal's line discipline does for a guest that knows none: newlines, echo, Ctrl-D, Ctrl-C (which leaves).
fn type_for_guest(ends: &Ends, bytes: &[u8]) {
    let end = bytes.iter().position(|byte| matches!(*byte, 3 | 4));
    let text: Vec<u8> = bytes[..end.unwrap_or(bytes.len())]
        .iter()
        .map(|byte| if *byte == b'\r' { b'\n' } else { *byte })
        .collect();
    ends.stdin.push(&text);
    // An echo that finds no room is left out, as text that comes faster than it can be read.
    let _ = ends.frames.try_send(Frame::Stdout(output::with_returns(&text).into()));
    match end.map(|end| bytes[end]) {
        Some(3) => ends.left.cancel(),
        Some(_) => ends.stdin.close(),
        None => {}
    }
}

/// The end of `work`, or of what it is a guest of.
async fn unless_ended(container: &Container, ends: &Ends, work: impl Future<Output = End>) -> End {
    tokio::select! {
        biased;
        end = work => end,
        () = container.ended.cancelled() => Ok(KILLED),
        () = ends.left.cancelled() => Ok(INTERRUPTED),
    }
}

/// Runs a command of the inspection shell on a thread of its own.
async fn exec(
    worker: &Arc<Worker>,
    container: &Arc<Container>,
    command: Vec<String>,
    ends: &Ends,
    turn: Arc<OwnedSemaphorePermit>,
) -> End {
    let failed = |error: std::io::Error| WireError::Busy(format!("start the inspection shell: {error}"));
    let (ended, end) = oneshot::channel();
    let facts = Arc::new(Inside::new(worker.clone(), container.clone()));
    let console = Arc::new(SessionConsole::new(ends.clone(), container.cpu.clone()));
    let (container, tty) = (container.clone(), ends.tty);
    std::thread::Builder::new()
        .name("shell".into())
        .stack_size(SHELL_STACK_BYTES)
        .spawn(move || {
            let result = match Files::open(&container.spec().mounts) {
                Ok(files) => Ok(shell::run(&command, facts, Arc::new(files), console, tty)),
                Err(error) => Err(WireError::Start(format!("open the mounts: {error}"))),
            };
            drop(turn);
            let _ = ended.send(result);
        })
        .map_err(failed)?;
    end.await
        .unwrap_or_else(|_| Err(WireError::Start("the inspection shell failed".into())))
}

/// Runs another module as if it were the container's, its streams the session's.
async fn debug(
    worker: &Arc<Worker>,
    container: &Arc<Container>,
    args: Vec<String>,
    artifact: Artifact,
    ends: &Ends,
) -> End {
    let program = worker.program(artifact).await?;
    let of = &container.surroundings;
    let surroundings = Surroundings {
        spec: skiff_runtime::ContainerSpec {
            args,
            ..of.spec.clone()
        },
        log: of.log.clone(),
        memory: of.memory.clone(),
        net: of.net.clone(),
        bounds: of.bounds.clone(),
        counts: of.counts.clone(),
        hits: of.hits.clone(),
        traffic: of.traffic.clone(),
        services: of.services.clone(),
        mounts: of.mounts.clone(),
        instances: of.instances.clone(),
        session: Some(SessionOutput::new(ends.frames.clone(), ends.tty)),
    };
    let exit = run_program(&program, &surroundings, ends.stdin.clone()).await;
    if !exit.message.is_empty() {
        let mut sink = Sink::new(ends.frames.clone(), true, ends.tty);
        sink.send(format!("debug: {}\n", exit.message).as_bytes()).await;
    }
    Ok(exit.code)
}

/// Joins the container's own streams to the session's until the container ends.
async fn attach(container: &Arc<Container>, ends: &Ends, wants_stdin: bool) -> End {
    let tap = container.surroundings.log.taps.open();
    let output = async {
        let mut out = Sink::new(ends.frames.clone(), false, ends.tty);
        let mut err = Sink::new(ends.frames.clone(), true, ends.tty);
        loop {
            tokio::select! {
                biased;
                piece = tap.next() => match piece {
                    Some(Piece::Data(Stream::Stdout, bytes)) => out.send(&bytes).await,
                    Some(Piece::Data(Stream::Stderr, bytes)) => err.send(&bytes).await,
                    Some(Piece::Missing(count)) => {
                        let text = format!("skiff: {count} bytes are missing here, this client reads too slowly; the log has them\n");
                        err.send(text.as_bytes()).await;
                    }
                    None => return,
                },
                // It ended before the tap was opened.
                () = container.ended.cancelled() => return,
            }
        }
    };
    let mode = container.spec().stdin;
    let input = async {
        if !wants_stdin || mode == StdinMode::Silent {
            return std::future::pending().await;
        }
        loop {
            let bytes = ends.stdin.read().await;
            if bytes.is_empty() {
                break;
            }
            container.stdin.push_all(&bytes).await;
        }
        if mode == StdinMode::Once {
            container.stdin.close();
        }
        std::future::pending::<()>().await;
    };
    // Also when the client is gone without a word.
    let _once = CloseOnDrop((wants_stdin && mode == StdinMode::Once).then(|| container.stdin.clone()));
    tokio::select! {
        () = output => {}
        () = input => {}
        () = ends.left.cancelled() => {}
    }
    Ok(0)
}

struct CloseOnDrop(Option<Stdin>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(stdin) = &self.0 {
            stdin.close();
        }
    }
}
