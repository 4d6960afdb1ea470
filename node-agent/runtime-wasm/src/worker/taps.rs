//! What a container writes, live, for the clients that are attached to it.
//!
//! The guest never waits for a client. One that reads more slowly than the guest writes loses what does not fit into its
//! [`TAP_BYTES`], and is told how much at the place where it is missing; the log has all of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::logs::Stream;

/// What one attached client may be behind: seconds of a chatty guest, small beside a guest's memory.
const TAP_BYTES: usize = 1 << 20;
/// What a queued piece costs beside its bytes: a guest may write byte by byte.
const PIECE_COST: usize = 64;

/// The attached clients of one container.
#[derive(Default)]
pub(crate) struct Taps {
    /// So that a container nobody is attached to pays one load per write.
    count: AtomicUsize,
    taps: Mutex<Vec<Arc<Queue>>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Stream, Bytes),
    /// So many bytes are missing here.
    Missing(u64),
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    cost: usize,
    closed: bool,
}

impl Queue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while a tap is held")
    }

    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.state();
        let cost = bytes.len() + PIECE_COST;
        if state.cost + cost <= TAP_BYTES {
            state.cost += cost;
            state
                .pieces
                .push_back(Piece::Data(stream, Bytes::copy_from_slice(bytes)));
        } else if let Some(Piece::Missing(missing)) = state.pieces.back_mut() {
            *missing += bytes.len() as u64;
        } else {
            state.pieces.push_back(Piece::Missing(bytes.len() as u64));
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl Taps {
    fn taps(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Queue>>> {
        self.taps.lock().expect("no panic happens while the taps are held")
    }

    pub(super) fn write(&self, stream: Stream, bytes: &[u8]) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.taps().iter().for_each(|tap| tap.push(stream, bytes));
        }
    }

    /// The container has ended: clients see the end behind what they have not read yet.
    pub(super) fn close(&self) {
        for tap in self.taps().drain(..) {
            tap.state().closed = true;
            tap.changed.notify_one();
        }
    }

    /// Everything from now on.
    pub(crate) fn open(self: &Arc<Self>) -> Tap {
        let queue = Arc::<Queue>::default();
        let mut taps = self.taps();
        taps.push(queue.clone());
        self.count.store(taps.len(), Ordering::Relaxed);
        Tap {
            queue,
            taps: self.clone(),
        }
    }
}

/// One client's end; it is taken off by its drop.
pub(crate) struct Tap {
    queue: Arc<Queue>,
    taps: Arc<Taps>,
}

impl Tap {
    /// The next piece; None once the container has ended and all was read.
    pub(crate) async fn next(&self) -> Option<Piece> {
        loop {
            {
                let mut state = self.queue.state();
                if let Some(piece) = state.pieces.pop_front() {
                    if let Piece::Data(_, bytes) = &piece {
                        state.cost -= bytes.len() + PIECE_COST;
                    }
                    return Some(piece);
                }
                if state.closed {
                    return None;
                }
            }
            self.queue.changed.notified().await;
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut taps = self.taps.taps();
        taps.retain(|tap| !Arc::ptr_eq(tap, &self.queue));
        self.taps.count.store(taps.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_gets_what_is_written_while_it_is_there() {
        let taps = Arc::<Taps>::default();
        taps.write(Stream::Stdout, b"before");
        let tap = taps.open();
        taps.write(Stream::Stdout, b"out");
        taps.write(Stream::Stderr, b"err");
        taps.close();
        assert_eq!(tap.next().await, Some(Piece::Data(Stream::Stdout, "out".into())));
        assert_eq!(tap.next().await, Some(Piece::Data(Stream::Stderr, "err".into())));
        assert_eq!(tap.next().await, None);
        drop(tap);
        assert_eq!(taps.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_slow_client_is_told_what_is_missing_and_where() {
        let taps = Arc::<Taps>::default();
        let tap = taps.open();
        let piece = [b'x'; 1000];
        let sent = 5000;
        for _ in 0..sent {
            taps.write(Stream::Stdout, &piece);
        }
        let (mut got, mut missing) = (0_u64, 0);
        taps.close();
        while let Some(piece) = tap.next().await {
            match piece {
                Piece::Data(_, bytes) => {
                    assert_eq!(missing, 0, "the gap is behind what was queued");
                    got += bytes.len() as u64;
                }
                Piece::Missing(count) => missing += count,
            }
        }
        assert!(got <= TAP_BYTES as u64 && missing > 0);
        assert_eq!(got + missing, sent * 1000);
    }
}
