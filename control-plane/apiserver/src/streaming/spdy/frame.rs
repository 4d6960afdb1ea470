//! Bytes ⇄ frames. Control frames are taken whole and are short; data is handed on in the pieces in which it comes, so that a
//! frame's claimed length costs nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;
use super::headers::{Deflater, Headers, Inflater};

/// Longest control frame. kubectl's have about 100 bytes; the protocol allows 16 MiB.
pub const CONTROL_BYTES_MAX: usize = 16 * 1024;
/// Longest data frame that is written; a peer's buffer for one frame is often as large.
pub const DATA_BYTES_MAX: usize = 16 * 1024;

/// Longest piece in which read data is handed on.
const PIECE_BYTES_MAX: usize = 64 * 1024;

const HEAD_BYTES: usize = 8;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const ID_MASK: u32 = 0x7fff_ffff;
/// Settings entry: the window that streams begin with.
const INITIAL_WINDOW: u32 = 7;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    RefusedStream = 3,
    Cancel = 5,
}

/// What a client sends that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The client opens a stream. `fin`: it will send nothing on it.
    Open {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    /// A piece of a stream. `fin`: the last one.
    Data {
        id: u32,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    /// The client opens no more streams.
    GoAway,
    /// Streams begin with this window in our direction.
    InitialWindow(u32),
    /// Stream 0 is the connection.
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    /// Nothing to act on: replies, more headers, other settings, unknown types.
    Other,
}

/// Cuts a byte stream into frames.
#[derive(Default)]
pub struct Decoder {
    held: BytesMut,
    data: Option<Data>,
    inflater: Inflater,
}

/// A data frame of which `left` bytes are still to come.
#[derive(Clone, Copy)]
struct Data {
    id: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }
    /// Bytes kept until more come: less than one control frame.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }
    /// The next frame, none when more bytes are needed. To be called until then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SpdyError> {
        if let Some(data) = self.data {
            return Ok(self.piece(data));
        }
        let Some(head) = self.held.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let mut head = &head[..];
        let (first, second) = (head.get_u32(), head.get_u32());
        let flags = (second >> 24) as u8;
        let length = (second & 0x00ff_ffff) as usize;
        if first & !ID_MASK == 0 {
            self.held.advance(HEAD_BYTES);
            return Ok(self.piece(Data {
                id: first,
                left: length,
                fin: flags & FLAG_FIN != 0,
            }));
        }
        let (version, kind) = (((first >> 16) & 0x7fff) as u16, (first & 0xffff) as u16);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > CONTROL_BYTES_MAX {
            return Err(SpdyError::FrameTooLong(length));
        }
        if self.held.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.held.advance(HEAD_BYTES);
        let payload = self.held.split_to(length);
        self.control(kind, flags, &payload).map(Some)
    }

    /// What has come of a data frame; none when nothing has.
    fn piece(&mut self, data: Data) -> Option<Frame> {
        let length = data.left.min(self.held.len()).min(PIECE_BYTES_MAX);
        let bytes = self.held.split_to(length).freeze();
        let left = data.left - bytes.len();
        self.data = (left > 0).then_some(Data { left, ..data });
        let fin = left == 0 && data.fin;
        if bytes.is_empty() && left > 0 {
            return None;
        }
        Some(Frame::Data {
            id: data.id,
            bytes,
            fin,
        })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: &[u8]) -> Result<Frame, SpdyError> {
        let malformed = |_| SpdyError::Malformed(kind);
        let fin = flags & FLAG_FIN != 0;
        let frame = match kind {
            SYN_STREAM => {
                let id = payload.try_get_u32().map_err(malformed)? & ID_MASK;
                // The associated stream, priority and credential slot.
                payload.try_get_u32().map_err(malformed)?;
                payload.try_get_u16().map_err(malformed)?;
                let headers = self.inflater.read(payload)?;
                Frame::Open { id, headers, fin }
            }
            SYN_REPLY | HEADERS => {
                payload.try_get_u32().map_err(malformed)?;
                // Not of interest, but the compression's state goes on.
                self.inflater.read(payload)?;
                Frame::Other
            }
            RST_STREAM => {
                let id = payload.try_get_u32().map_err(malformed)? & ID_MASK;
                Frame::Reset { id }
            }
            SETTINGS => {
                payload.try_get_u32().map_err(malformed)?;
                let mut window = None;
                while let (Ok(id), Ok(value)) = (payload.try_get_u32(), payload.try_get_u32()) {
                    if id & 0x00ff_ffff == INITIAL_WINDOW {
                        window = Some(value);
                    }
                }
                window.map_or(Frame::Other, Frame::InitialWindow)
            }
            PING => Frame::Ping {
                id: payload.try_get_u32().map_err(malformed)?,
            },
            GOAWAY => Frame::GoAway,
            WINDOW_UPDATE => {
                let id = payload.try_get_u32().map_err(malformed)? & ID_MASK;
                let delta = payload.try_get_u32().map_err(malformed)? & ID_MASK;
                Frame::WindowUpdate { id, delta }
            }
            _ => Frame::Other,
        };
        Ok(frame)
    }
}

/// Writes the server's frames.
#[derive(Default)]
pub struct Encoder(Deflater);

impl Encoder {
    /// The stream is accepted.
    pub fn reply(&mut self, id: u32) -> Bytes {
        let block = self.0.write(&[]);
        let mut out = control(SYN_REPLY, 0, 4 + block.len());
        out.put_u32(id);
        out.put_slice(&block);
        out.freeze()
    }
    /// Opens a stream, as clients do.
    #[cfg(test)]
    pub(super) fn open(&mut self, id: u32, headers: &[(&str, &str)], fin: bool) -> Bytes {
        let block = self.0.write(headers);
        let mut out = control(SYN_STREAM, u8::from(fin), 10 + block.len());
        out.put_u32(id);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        out.freeze()
    }
}

fn control(kind: u16, flags: u8, length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + length);
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
    out
}

/// Data of at most `DATA_BYTES_MAX`.
pub fn data(id: u32, bytes: &[u8], fin: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + bytes.len());
    out.put_u32(id & ID_MASK);
    out.put_u8(if fin { FLAG_FIN } else { 0 });
    out.put_uint(bytes.len() as u64, 3);
    out.put_slice(bytes);
    out.freeze()
}

pub fn reset(id: u32, reason: Reset) -> Bytes {
    two_words(RST_STREAM, id, reason as u32)
}

pub fn window_update(id: u32, delta: u32) -> Bytes {
    two_words(WINDOW_UPDATE, id, delta)
}

#[cfg(test)]
pub(super) fn go_away(last: u32) -> Bytes {
    two_words(GOAWAY, last, 0)
}

pub fn ping(id: u32) -> Bytes {
    let mut out = control(PING, 0, 4);
    out.put_u32(id);
    out.freeze()
}

fn two_words(kind: u16, first: u32, second: u32) -> Bytes {
    let mut out = control(kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(decoder: &mut Decoder) -> Result<Vec<Frame>, SpdyError> {
        std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<Frame>, SpdyError> {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        drain(&mut decoder)
    }

    #[test]
    fn each_kind_is_read() {
        let mut wire = Vec::new();
        wire.extend(Encoder::default().open(1, &[("streamtype", "data")], true));
        wire.extend(data(1, b"", true));
        wire.extend(reset(1, Reset::Cancel));
        wire.extend(ping(7));
        wire.extend(window_update(0, 99));
        wire.extend(go_away(1));
        let mut settings = control(SETTINGS, 0, 12);
        settings.put_slice(&[0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0]);
        wire.extend(settings);
        wire.extend(control(77, 0, 0));
        let headers = vec![("streamtype".to_owned(), "data".to_owned())];
        let expected = [
            Frame::Open {
                id: 1,
                headers,
                fin: true,
            },
            Frame::Data {
                id: 1,
                bytes: Bytes::new(),
                fin: true,
            },
            Frame::Reset { id: 1 },
            Frame::Ping { id: 7 },
            Frame::WindowUpdate { id: 0, delta: 99 },
            Frame::GoAway,
            Frame::InitialWindow(65_536),
            Frame::Other,
        ];
        assert_eq!(decoded(&wire).unwrap(), expected);
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let long = control(PING, 0, CONTROL_BYTES_MAX + 1);
        assert_eq!(decoded(&long), Err(SpdyError::FrameTooLong(CONTROL_BYTES_MAX + 1)));
        assert_eq!(decoded(&[0x80, 2, 0, 1, 0, 0, 0, 0]), Err(SpdyError::Version(2)));
        assert_eq!(decoded(&control(PING, 0, 0)), Err(SpdyError::Malformed(PING)));
    }

    #[test]
    fn a_data_frame_of_sixteen_mebibytes_holds_nothing() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 1, 1, 255, 255, 255]);
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(b"abc");
        let bytes = Bytes::from_static(b"abc");
        assert_eq!(
            decoder.next_frame(),
            Ok(Some(Frame::Data {
                id: 1,
                bytes,
                fin: false
            }))
        );
        assert_eq!(decoder.held_bytes(), 0);
    }

    proptest! {
        #[test]
        fn data_survives_any_cutting(
            frames in proptest::collection::vec((1u32..9, proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20),
            cut in 1usize..50,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(id, bytes, fin)| data(*id, bytes, *fin)).collect();
            let mut decoder = Decoder::default();
            let mut seen: Vec<(u32, Vec<u8>, bool)> = Vec::new();
            let mut whole = true;
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    let Frame::Data { id, bytes, fin } = frame else { panic!("{frame:?}") };
                    match seen.last_mut().filter(|_| !whole) {
                        Some(last) => {
                            last.1.extend(&bytes);
                            last.2 = fin;
                        }
                        None => seen.push((id, bytes.to_vec(), fin)),
                    }
                    whole = decoder.data.is_none();
                }
            }
            prop_assert_eq!(seen, frames);
        }

        /// Random bytes, often behind a head that is right, so that the deeper parts are reached too.
        #[test]
        fn random_bytes_never_panic_and_are_never_hoarded(
            pieces in proptest::collection::vec(
                (any::<bool>(), 1u16..10, any::<u8>(), 0usize..64, proptest::collection::vec(any::<u8>(), 0..80)), 0..40),
        ) {
            let mut decoder = Decoder::default();
            for (with_head, kind, flags, length, bytes) in pieces {
                if with_head {
                    decoder.push(&control(kind, flags, length));
                }
                decoder.push(&bytes);
                if drain(&mut decoder).is_err() {
                    break;
                }
                prop_assert!(decoder.held_bytes() < HEAD_BYTES + CONTROL_BYTES_MAX);
            }
        }
    }
}
