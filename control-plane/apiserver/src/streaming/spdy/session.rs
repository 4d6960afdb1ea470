//! The server's side of one connection: accepts the client's streams and carries their data, with bounds on all of it.
//!
//! Go's SPDY, which kubectl uses, neither opens windows nor heeds them: it relies on the connection's own back-pressure. So
//! windows are kept from the start, but only a client that shows that it uses them (by a setting or an update) is held to
//! them. In the other direction each stream has a short queue. While one is full nothing more is read from the connection,
//! as in Kubernetes; a stream on which that lasts for a minute is reset, so that the others go on.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{Sink, SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::SpdyError;
use super::frame::{self, DATA_BYTES_MAX, Decoder, Encoder, Frame, Reset};
use super::headers::Headers;
use super::window::Window;
use crate::limits::WRITE_STALL_TIMEOUT;

/// Streams open at once: half of them connections, when a port is forwarded.
pub const STREAMS_MAX: usize = 512;
/// Pieces of a stream that wait for its reader. A piece is what was read at once, at most 64 KiB.
const PIECES_MAX: usize = 8;
/// Accepted streams that wait for their handler, which only hands them on.
const ACCEPTED_MAX: usize = 16;
/// Data frames that wait to be written; each has at most 16 KiB.
const DATA_FRAMES_MAX: usize = 8;
/// Short frames that wait to be written: a reply for each stream, and pings.
const CONTROL_FRAMES_MAX: usize = 2 * STREAMS_MAX;
/// The client is told that its data was taken when so much of it was: half a window.
const UPDATE_BYTES: usize = 32 * 1024;

/// A stream that the client opened.
pub struct Stream {
    pub headers: Headers,
    pub receiver: Receiver,
    pub sender: Sender,
}

/// The stream or its connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset")]
pub struct Closed;

enum Control {
    Reply(u32),
    Reset(u32, Reset),
    Pong(u32),
    WindowUpdate(u32, u32),
}

struct Shared {
    streams: Mutex<HashMap<u32, Entry>>,
    window: Window,
    initial_window: Mutex<i64>,
    /// The client keeps windows.
    windows_kept: AtomicBool,
    data: mpsc::Sender<Bytes>,
    control: mpsc::Sender<Control>,
}

struct Entry {
    /// None: the client has finished.
    pieces: Option<mpsc::Sender<Bytes>>,
    state: Arc<State>,
    /// We have finished.
    finished: bool,
}

struct State {
    id: u32,
    window: Window,
    reset: CancellationToken,
}

/// Opens the session. The future is the session's life: it ends with the connection, or when the client breaks a rule.
pub fn open<I, O>(incoming: I, outgoing: O) -> (mpsc::Receiver<Stream>, impl Future<Output = Result<(), SpdyError>>)
where
    I: futures::Stream<Item = Bytes> + Unpin,
    O: Sink<Bytes> + Unpin,
{
    let (data, data_frames) = mpsc::channel(DATA_FRAMES_MAX);
    let (control, control_frames) = mpsc::channel(CONTROL_FRAMES_MAX);
    let (accepted, streams) = mpsc::channel(ACCEPTED_MAX);
    let shared = Arc::new(Shared {
        streams: Mutex::default(),
        window: Window::default(),
        initial_window: Mutex::new(super::window::INITIAL),
        windows_kept: AtomicBool::new(false),
        data,
        control,
    });
    let life = async move {
        let ended = tokio::select! {
            ended = read(incoming, &shared, accepted) => ended,
            () = write(outgoing, data_frames, control_frames) => Ok(()),
        };
        for (_, entry) in shared.lock().drain() {
            entry.state.reset.cancel();
        }
        ended
    };
    (streams, life)
}

async fn read(
    mut incoming: impl futures::Stream<Item = Bytes> + Unpin,
    shared: &Arc<Shared>,
    accepted: mpsc::Sender<Stream>,
) -> Result<(), SpdyError> {
    let mut decoder = Decoder::default();
    let (mut last, mut taken) = (0, 0);
    while let Some(bytes) = incoming.next().await {
        decoder.push(&bytes);
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Open { id, headers, fin } => {
                    if id % 2 == 0 || id <= last {
                        return Err(SpdyError::StreamId(id));
                    }
                    last = id;
                    if let Some(stream) = shared.accept(id, headers, fin)
                        && accepted.send(stream).await.is_err()
                    {
                        return Ok(());
                    }
                }
                Frame::Data { id, bytes, fin } => {
                    taken = shared.credit(0, taken + bytes.len());
                    shared.deliver(id, bytes, fin).await;
                }
                Frame::Reset { id } => shared.forget(id),
                // The answer to one of ours has an even id, and we send none.
                Frame::Ping { id } if id % 2 == 1 => shared.tell(Control::Pong(id)),
                Frame::InitialWindow(size) => shared.begin_windows_at(size)?,
                Frame::WindowUpdate { id, delta } => shared.widen(id, delta)?,
                Frame::Ping { .. } | Frame::GoAway | Frame::Other => {}
            }
        }
    }
    Ok(())
}

/// Writes until the connection breaks. Short frames go first, so that a reply comes before its stream's data.
async fn write(
    mut outgoing: impl Sink<Bytes> + Unpin,
    mut data: mpsc::Receiver<Bytes>,
    mut control: mpsc::Receiver<Control>,
) {
    let mut encoder = Encoder::default();
    let mut encode = |control| match control {
        Control::Reply(id) => encoder.reply(id),
        Control::Reset(id, reason) => frame::reset(id, reason),
        Control::Pong(id) => frame::ping(id),
        Control::WindowUpdate(id, delta) => frame::window_update(id, delta),
    };
    loop {
        let mut next = tokio::select! {
            biased;
            Some(control) = control.recv() => Some(encode(control)),
            Some(data) = data.recv() => Some(data),
            else => return,
        };
        // Everything that is there goes out together.
        while let Some(bytes) = next {
            if outgoing.feed(bytes).await.is_err() {
                return;
            }
            next = match control.try_recv() {
                Ok(control) => Some(encode(control)),
                Err(_) => data.try_recv().ok(),
            };
        }
        if outgoing.flush().await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        // The map is consistent after every single call, so a panic elsewhere does not spoil it.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A full queue means that the client asks faster than it reads: what it asked for is not answered.
    fn tell(&self, control: Control) {
        let _ = self.control.try_send(control);
    }

    fn accept(self: &Arc<Self>, id: u32, headers: Headers, fin: bool) -> Option<Stream> {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let initial = *self.initial_window.lock().unwrap_or_else(PoisonError::into_inner);
        let state = Arc::new(State {
            id,
            window: Window::new(initial),
            reset: CancellationToken::new(),
        });
        let entry = Entry {
            pieces: (!fin).then_some(sender),
            state: state.clone(),
            finished: false,
        };
        {
            let mut streams = self.lock();
            if streams.len() >= STREAMS_MAX {
                self.tell(Control::Reset(id, Reset::RefusedStream));
                return None;
            }
            streams.insert(id, entry);
        }
        self.tell(Control::Reply(id));
        let receiver = Receiver {
            shared: self.clone(),
            state: state.clone(),
            pieces,
            taken: 0,
        };
        let sender = Sender {
            shared: self.clone(),
            state,
            finished: false,
        };
        Some(Stream {
            headers,
            receiver,
            sender,
        })
    }

    /// Hands data to its stream's reader. What comes for a stream that is gone was on its way when it went.
    async fn deliver(&self, id: u32, bytes: Bytes, fin: bool) {
        let found = self
            .lock()
            .get(&id)
            .map(|entry| (entry.pieces.clone(), entry.state.clone()));
        let Some((Some(pieces), state)) = found else { return };
        if !bytes.is_empty() {
            tokio::select! {
                // An error means that the reader wants no more; the rest is dropped here.
                sent = pieces.send_timeout(bytes, WRITE_STALL_TIMEOUT) => {
                    if matches!(sent, Err(mpsc::error::SendTimeoutError::Timeout(_))) {
                        self.tell(Control::Reset(id, Reset::Cancel));
                        self.forget(id);
                    }
                }
                () = state.reset.cancelled() => {}
            }
        }
        if fin {
            self.finish(id, |entry| entry.pieces = None);
        }
    }

    /// Notes that one side has finished; a stream with both is over.
    fn finish(&self, id: u32, note: impl FnOnce(&mut Entry)) {
        let mut streams = self.lock();
        let Some(entry) = streams.get_mut(&id) else { return };
        note(entry);
        if entry.finished && entry.pieces.is_none() {
            streams.remove(&id);
        }
    }

    /// The stream was reset, by either side.
    fn forget(&self, id: u32) {
        if let Some(entry) = self.lock().remove(&id) {
            entry.state.reset.cancel();
        }
    }

    /// Opens the client's window again when enough was taken; returns what is still to be told.
    fn credit(&self, id: u32, taken: usize) -> usize {
        let told = taken >= UPDATE_BYTES
            && u32::try_from(taken).is_ok_and(|delta| self.control.try_send(Control::WindowUpdate(id, delta)).is_ok());
        if told { 0 } else { taken }
    }

    /// The setting moves the windows of streams, not that of the connection.
    fn begin_windows_at(&self, size: u32) -> Result<(), SpdyError> {
        self.windows_kept.store(true, Ordering::Relaxed);
        let mut initial = self.initial_window.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = i64::from(size) - *initial;
        *initial = size.into();
        for entry in self.lock().values() {
            entry.state.window.change(moved)?;
        }
        Ok(())
    }

    fn widen(&self, id: u32, delta: u32) -> Result<(), SpdyError> {
        self.windows_kept.store(true, Ordering::Relaxed);
        if id == 0 {
            return self.window.change(delta.into());
        }
        let state = self.lock().get(&id).map(|entry| entry.state.clone());
        state.map_or(Ok(()), |state| state.window.change(delta.into()))
    }
}

/// What the client sends on a stream. Dropping it drops the rest.
pub struct Receiver {
    shared: Arc<Shared>,
    state: Arc<State>,
    pieces: mpsc::Receiver<Bytes>,
    taken: usize,
}

impl Receiver {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The stream was reset: there is no proper end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Closed>> {
        match self.pieces.recv().await {
            Some(bytes) => {
                self.taken = self.shared.credit(self.state.id, self.taken + bytes.len());
                Some(Ok(bytes))
            }
            None => self.state.reset.is_cancelled().then_some(Err(Closed)),
        }
    }
    /// Cancelled when the stream is reset.
    pub fn reset_token(&self) -> CancellationToken {
        self.state.reset.clone()
    }
}

/// Our side of a stream. Dropped without `finish` it resets the stream.
pub struct Sender {
    shared: Arc<Shared>,
    state: Arc<State>,
    finished: bool,
}

impl Sender {
    /// Sends all of it; waits while the client does not take it.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let wanted = bytes.len().min(DATA_BYTES_MAX);
            let sending = async {
                let room = self.room(wanted).await;
                let frame = frame::data(self.state.id, &bytes.split_to(room), false);
                self.shared.data.send(frame).await.map_err(|_| Closed)
            };
            tokio::select! {
                // Nothing goes onto a stream that was reset, even when there is room.
                biased;
                () = self.state.reset.cancelled() => return Err(Closed),
                sent = sending => sent?,
            }
        }
        Ok(())
    }

    /// How much of `wanted` bytes may go now: at least one.
    async fn room(&self, wanted: usize) -> usize {
        let kept = &self.shared.windows_kept;
        let of_stream = self.state.window.take(wanted, kept).await;
        let of_both = self.shared.window.take(of_stream, kept).await;
        self.state.window.give_back(of_stream - of_both);
        of_both
    }

    /// Nothing more comes from us.
    pub async fn finish(mut self) {
        self.finished = true;
        let end = frame::data(self.state.id, b"", true);
        tokio::select! {
            // An error means that the connection is gone.
            _ = self.shared.data.send(end) => {}
            () = self.state.reset.cancelled() => {}
        }
        self.shared.finish(self.state.id, |entry| entry.finished = true);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished && !self.state.reset.is_cancelled() {
            self.shared.tell(Control::Reset(self.state.id, Reset::Cancel));
            self.shared.forget(self.state.id);
        }
    }
}
