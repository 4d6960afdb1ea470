//! `exec` and `attach`, as the agent carries them out: a connection to the pod's worker, and bytes moved both ways.

use skiff_runtime::{BoxRead, BoxWrite, RuntimeError, StreamIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};

use super::inner::Inner;
use crate::protocol::Hello;
use crate::session::{Frame, Open, PIECE, STDIN_WINDOW, What};
use crate::supervise;

/// Frames that wait to be written to the worker; stdin is bounded by its window.
const FRAMES_QUEUE: usize = 4;
/// The command that runs another module.
const DEBUG: &str = "debug";
/// How `debug` ends when there is nothing to run, as programs that run others do.
const NOT_RUN: i32 = 125;

impl Inner {
    pub(super) async fn exec(
        &self,
        uid: &str,
        container: &str,
        command: &[String],
        mut io: StreamIo,
    ) -> Result<i32, RuntimeError> {
        let what = match command {
            [word, rest @ ..] if word == DEBUG => match self.debug(rest).await {
                Ok(what) => what,
                Err(why) => {
                    let out = io.stderr.as_mut().or(io.stdout.as_mut());
                    if let Some(out) = out {
                        let _ = out.write_all(format!("{DEBUG}: {why}\n").as_bytes()).await;
                        let _ = out.shutdown().await;
                    }
                    return Ok(NOT_RUN);
                }
            },
            command => What::Exec {
                command: command.to_vec(),
            },
        };
        self.session(uid, container, what, io).await
    }

    /// Finds the module of `debug IMAGE [ARG]...`. Errors: for the user.
    async fn debug(&self, words: &[String]) -> Result<What, String> {
        let Some((image, args)) = words.split_first() else {
            return Err("usage: debug IMAGE [ARG]...".into());
        };
        let store = &self.puller.store;
        let entry = store
            .get(image)
            .ok_or_else(|| format!("image {image:?} is not on this node; images come with the pods that name them"))?;
        if let Some(why) = entry.inspection.refusal() {
            return Err(why);
        }
        if !entry.inspection.kind.is_some_and(|kind| kind.is_command()) {
            return Err(format!("image {image:?} is a server; only commands can be run"));
        }
        let module = store.blob(&entry.module);
        let artifact = self
            .compiler
            .ensure(&entry.module, &module, &entry.inspection, &|_| {})
            .await;
        Ok(What::Debug {
            args: std::iter::once(image).chain(args).cloned().collect(),
            artifact: artifact.map_err(|error| error.to_string())?,
        })
    }

    pub(super) async fn session(
        &self,
        uid: &str,
        container: &str,
        what: What,
        io: StreamIo,
    ) -> Result<i32, RuntimeError> {
        let missing = || RuntimeError::NotFound {
            what: format!("running container {container:?} of pod {uid}"),
        };
        let spec = self.spec(uid).map_err(|_| missing())?;
        if self.is_lost(uid, container) || self.link(&spec.namespace).is_none() {
            return Err(missing());
        }
        let open = Open {
            pod_uid: uid.to_owned(),
            container: container.to_owned(),
            what,
            stdin: io.stdin.is_some(),
            tty: io.tty,
        };
        let dir = self.data_dir.join("workers").join(&spec.namespace);
        let stream = supervise::dial(&dir, &Hello::Session(Box::new(open))).await;
        let stream = stream.map_err(|error| RuntimeError::Unavailable {
            why: format!("{error:#}"),
        })?;
        carry(stream, io).await
    }
}

/// Moves bytes until the worker says how it ended. Dropping the future ends the session in the worker.
async fn carry(stream: UnixStream, io: StreamIo) -> Result<i32, RuntimeError> {
    let (reader, writer) = stream.into_split();
    let (frames, queue) = mpsc::channel(FRAMES_QUEUE);
    let window = Semaphore::new(STDIN_WINDOW);
    let StreamIo {
        stdin,
        mut stdout,
        mut stderr,
        mut resize,
        ..
    } = io;
    let resized = async {
        while let Some(size) = resize.recv().await {
            if frames.send(Frame::Resize(size)).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = receive(reader, &mut stdout, &mut stderr, &window) => result,
        () = send(writer, queue) => Err(gone()),
        () = type_in(stdin, &frames, &window) => Err(gone()),
        () = resized => Err(gone()),
    };
    for mut out in [stdout, stderr].into_iter().flatten() {
        let _ = out.shutdown().await;
    }
    result
}

fn gone() -> RuntimeError {
    RuntimeError::Unavailable {
        why: "the worker of the namespace ended".into(),
    }
}

/// What the worker sends, to its end.
async fn receive(
    mut reader: OwnedReadHalf,
    stdout: &mut Option<BoxWrite>,
    stderr: &mut Option<BoxWrite>,
    window: &Semaphore,
) -> Result<i32, RuntimeError> {
    let client = |error: std::io::Error| RuntimeError::Unavailable {
        why: format!("write to the client: {error}"),
    };
    while let Ok(Some(frame)) = Frame::read(&mut reader).await {
        let (out, data) = match frame {
            Frame::Stdout(data) => (&mut *stdout, data),
            Frame::Stderr(data) => (&mut *stderr, data),
            Frame::Taken(count) => {
                window.add_permits(count as usize);
                continue;
            }
            Frame::End(end) => return Ok(end?),
            Frame::Stdin(_) | Frame::StdinEnd | Frame::Resize(_) => return Err(gone()),
        };
        // A stream that nobody asked for is dropped.
        if let Some(out) = out {
            out.write_all(&data).await.map_err(client)?;
            out.flush().await.map_err(client)?;
        }
    }
    Err(gone())
}

/// Ends when the worker does not listen any more; what it said before is still to be read then.
async fn send(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if frame.write(&mut writer).await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// Never ends: the end of stdin is not that of the session.
async fn type_in(stdin: Option<BoxRead>, frames: &mpsc::Sender<Frame>, window: &Semaphore) {
    if let Some(mut stdin) = stdin {
        let mut piece = vec![0; PIECE];
        loop {
            // At least one byte fits; as many as fit are read at once.
            let Ok(one) = window.acquire().await else { break };
            let room = (1 + window.available_permits()).min(PIECE);
            drop(one);
            let frame = match stdin.read(&mut piece[..room]).await {
                Ok(0) | Err(_) => Frame::StdinEnd,
                Ok(count) => {
                    window.forget_permits(count);
                    Frame::Stdin(piece[..count].to_vec().into())
                }
            };
            let ended = matches!(frame, Frame::StdinEnd);
            if frames.send(frame).await.is_err() || ended {
                break;
            }
        }
    }
    std::future::pending::<()>().await;
}
