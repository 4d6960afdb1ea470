//! A client of frames against the session, over a pipe in memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::codec::{BytesCodec, Framed};

use super::frame::{self, Encoder, Frame, Reset};
use super::session::STREAMS_MAX;
use super::{SpdyError, Stream, session};

/// What does not come within this time never will.
const LIMIT: Duration = Duration::from_secs(20);

struct Client {
    pipe: DuplexStream,
    encoder: Encoder,
    decoder: frame::Decoder,
}

impl Client {
    /// A client, the streams that its session accepts, and how the session ends.
    fn connect(
        pipe_bytes: usize,
    ) -> (
        Self,
        mpsc::Receiver<Stream>,
        tokio::task::JoinHandle<Result<(), SpdyError>>,
    ) {
        let (pipe, theirs) = tokio::io::duplex(pipe_bytes);
        let (outgoing, incoming) = Framed::new(theirs, BytesCodec::new()).split();
        let incoming = incoming.scan((), |(), read| std::future::ready(read.ok().map(BytesMut::freeze)));
        let (streams, life) = session::open(incoming, outgoing);
        let client = Self {
            pipe,
            encoder: Encoder::default(),
            decoder: frame::Decoder::default(),
        };
        (client, streams, tokio::spawn(life))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.pipe.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn open(&mut self, id: u32) {
        let bytes = self.encoder.open(id, &[("streamType", "data")], false);
        self.send(bytes).await;
    }

    /// The next frame of ours that is not a window update.
    async fn next(&mut self) -> Frame {
        loop {
            match self.any().await {
                Frame::WindowUpdate { .. } => {}
                other => return other,
            }
        }
    }

    async fn any(&mut self) -> Frame {
        let reading = async {
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return frame;
                }
                let mut bytes = [0; 4096];
                let read = self.pipe.read(&mut bytes).await.unwrap();
                assert!(read > 0, "the session ended");
                self.decoder.push(&bytes[..read]);
            }
        };
        tokio::time::timeout(LIMIT, reading).await.unwrap()
    }
}

fn data(id: u32, bytes: &'static [u8], fin: bool) -> Frame {
    let bytes = Bytes::from_static(bytes);
    Frame::Data { id, bytes, fin }
}

#[tokio::test]
async fn a_stream_carries_both_ways_and_ends_by_halves() {
    let (mut client, mut streams, _life) = Client::connect(1 << 16);
    client.open(1).await;
    let mut stream = streams.recv().await.unwrap();
    assert_eq!(stream.headers, [("streamtype".to_owned(), "data".to_owned())]);
    // The reply.
    assert_eq!(client.next().await, Frame::Other);
    client.send(frame::data(1, b"ping", true)).await;
    assert_eq!(stream.receiver.next().await.unwrap().unwrap(), "ping");
    assert!(stream.receiver.next().await.is_none());
    stream.sender.send("pong".into()).await.unwrap();
    stream.sender.finish().await;
    assert_eq!(client.next().await, data(1, b"pong", false));
    assert_eq!(client.next().await, data(1, b"", true));
    client.send(frame::ping(9)).await;
    assert_eq!(client.next().await, Frame::Ping { id: 9 });
}

#[tokio::test]
async fn a_reset_reaches_both_halves() {
    let (mut client, mut streams, _life) = Client::connect(1 << 16);
    client.open(1).await;
    let mut stream = streams.recv().await.unwrap();
    client.send(frame::reset(1, Reset::Cancel)).await;
    assert!(stream.receiver.next().await.unwrap().is_err());
    assert!(stream.sender.send("x".into()).await.is_err());
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset() {
    let (mut client, mut streams, _life) = Client::connect(1 << 16);
    client.open(1).await;
    drop(streams.recv().await.unwrap());
    assert_eq!(client.next().await, Frame::Other);
    assert_eq!(client.next().await, Frame::Reset { id: 1 });
}

#[tokio::test]
async fn too_many_streams_are_refused_one_by_one() {
    let (mut client, mut streams, _life) = Client::connect(1 << 20);
    let mut held = Vec::new();
    for index in 0..STREAMS_MAX {
        client.open(2 * index as u32 + 1).await;
        held.push(streams.recv().await.unwrap());
        assert_eq!(client.next().await, Frame::Other);
    }
    let one_more = 2 * STREAMS_MAX as u32 + 1;
    client.open(one_more).await;
    assert_eq!(client.next().await, Frame::Reset { id: one_more });
    // The others live on.
    client.send(frame::data(1, b"x", false)).await;
    assert_eq!(held[0].receiver.next().await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_client_that_keeps_windows_is_held_to_them() {
    let (mut client, mut streams, _life) = Client::connect(1 << 20);
    client.send(frame::window_update(0, 1 << 20)).await;
    client.open(1).await;
    let mut stream = streams.recv().await.unwrap();
    assert_eq!(client.next().await, Frame::Other);
    let sending = tokio::spawn(async move {
        stream.sender.send(Bytes::from(vec![7; 100_000])).await.unwrap();
        stream.sender.finish().await;
    });
    let mut seen = 0;
    while seen < 65_536 {
        let Frame::Data { bytes, .. } = client.next().await else {
            panic!("no data")
        };
        seen += bytes.len();
    }
    assert_eq!(seen, 65_536, "not a byte beyond the window");
    assert!(!sending.is_finished());
    client.send(frame::window_update(1, 1 << 20)).await;
    let mut fin = false;
    while !fin {
        let Frame::Data { bytes, fin: last, .. } = client.next().await else {
            panic!("no data")
        };
        (seen, fin) = (seen + bytes.len(), last);
    }
    assert_eq!(seen, 100_000);
    sending.await.unwrap();
}

#[tokio::test]
async fn what_is_taken_opens_the_clients_windows() {
    let (mut client, mut streams, _life) = Client::connect(1 << 20);
    client.open(1).await;
    let mut stream = streams.recv().await.unwrap();
    client.send(frame::data(1, &[0; 40_000], false)).await;
    let mut taken = 0;
    while taken < 40_000 {
        taken += stream.receiver.next().await.unwrap().unwrap().len();
    }
    let mut told = [0, 0];
    while told[0] == 0 || told[1] == 0 {
        if let Frame::WindowUpdate { id, delta } = client.any().await {
            told[id as usize] += delta;
        }
    }
    assert!(
        told.iter().all(|delta| *delta >= 32_768 && *delta <= 40_000),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_up_its_client_and_nothing_is_hoarded() {
    let (mut client, mut streams, _life) = Client::connect(1 << 10);
    client.open(1).await;
    let mut stream = streams.recv().await.unwrap();
    assert_eq!(client.next().await, Frame::Other);
    let (mut read_half, mut write_half) = tokio::io::split(client.pipe);
    tokio::spawn(async move { while read_half.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} });
    let total = 64 << 20;
    let writing = tokio::spawn(async move {
        let frame = frame::data(1, &[0; 16_384], false);
        for _ in 0..total / 16_384 {
            write_half.write_all(&frame).await.unwrap();
        }
        write_half
    });
    let mut taken = 0;
    while taken < total {
        // Were all of it taken in, this would be done before a hundredth of it is read.
        assert!(taken > total / 2 || !writing.is_finished());
        taken += stream.receiver.next().await.unwrap().unwrap().len();
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_broken_rule_ends_the_session() {
    for (bytes, error) in [
        (Encoder::default().open(2, &[], false), SpdyError::StreamId(2)),
        (frame::window_update(0, 0x7fff_ffff), SpdyError::Window),
        (Bytes::from_static(&[0x80, 9, 0, 1, 0, 0, 0, 0]), SpdyError::Version(9)),
    ] {
        let (mut client, _streams, life) = Client::connect(1 << 16);
        client.send(bytes).await;
        let ended = tokio::time::timeout(LIMIT, life).await.unwrap().unwrap();
        assert_eq!(ended, Err(error));
    }
}

proptest! {
    /// A client that sends anything: well-formed frames in any order, and rubbish. The session never panics, and ends with
    /// the connection.
    #[test]
    fn any_client_is_survived(
        moves in proptest::collection::vec((0u8..8, 0u32..12, proptest::collection::vec(any::<u8>(), 0..64)), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut streams, life) = Client::connect(1 << 20);
            let handler = tokio::spawn(async move {
                while let Some(mut stream) = streams.recv().await {
                    tokio::spawn(async move {
                        while let Some(Ok(bytes)) = stream.receiver.next().await {
                            if stream.sender.send(bytes).await.is_err() {
                                return;
                            }
                        }
                        stream.sender.finish().await;
                    });
                }
            });
            for (kind, id, bytes) in moves {
                let frame = match kind {
                    0 | 1 => client.encoder.open(id, &[("a", "b")], kind == 1),
                    2 => frame::data(id, &bytes, false),
                    3 => frame::data(id, &bytes, true),
                    4 => frame::reset(id, Reset::Cancel),
                    5 => frame::window_update(id, u32::from(*bytes.first().unwrap_or(&0)) << 23),
                    6 => frame::ping(id),
                    _ => bytes.into(),
                };
                if client.pipe.write_all(&frame).await.is_err() {
                    break;
                }
            }
            drop(client);
            // An error is a rule that was broken; a panic would be the task's.
            let _ = tokio::time::timeout(LIMIT, life).await.expect("the session ends").expect("it does not panic");
            handler.await.unwrap();
        });
    }
}
