//! The channels of `kubectl exec` and `attach` between control plane and node: frames in the two bodies of one HTTP/2
//! request. The channels are those of the `v5.channel.k8s.io` WebSocket protocol, so that frames pass through unchanged.
//!
//! A frame on the wire: one byte channel, three bytes length (big endian), payload. The request's body carries stdin,
//! sizes of the terminal and the end of stdin; the answer's body stdout, stderr and, last, one Status on the error channel.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

/// Names a session between control plane and node, so that `DELETE /sessions/<name>` ends it there.
pub const SESSION_HEADER: &str = "skiff-session";

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// One Status object as JSON: how the command ended.
pub const ERROR: u8 = 3;
/// `{"Width": 80, "Height": 24}`
pub const RESIZE: u8 = 4;
/// The payload is one byte: the channel on which nothing more comes.
pub const CLOSE: u8 = 255;

/// Longest payload. The pieces that terminals, pipes and TLS move are 16 to 64 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
const HEADER_BYTES: usize = 4;

/// One message on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub channel: u8,
    pub payload: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error("a frame of {0} bytes is longer than {PAYLOAD_BYTES_MAX}")]
    TooLong(usize),
    #[error("unknown channel {0}")]
    UnknownChannel(u8),
}

impl Frame {
    pub fn new(channel: u8, payload: impl Into<Bytes>) -> Self {
        let payload = payload.into();
        Self { channel, payload }
    }
    /// Nothing more comes on this channel.
    pub fn close(channel: u8) -> Self {
        Self::new(CLOSE, vec![channel])
    }
    /// The frame on the wire. A payload that is too long becomes several frames.
    pub fn encode(&self) -> Bytes {
        let pieces = self.payload.len().div_ceil(PAYLOAD_BYTES_MAX).max(1);
        let mut out = BytesMut::with_capacity(self.payload.len() + pieces * HEADER_BYTES);
        let mut rest = self.payload.clone();
        for _ in 0..pieces {
            let piece = rest.split_to(rest.len().min(PAYLOAD_BYTES_MAX));
            out.put_u8(self.channel);
            out.put_uint(piece.len() as u64, HEADER_BYTES - 1);
            out.put_slice(&piece);
        }
        out.freeze()
    }
}

/// Cuts a byte stream into frames. Holds at most one frame beyond what it was given last.
#[derive(Debug, Default)]
pub struct Decoder {
    held: BytesMut,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }
    /// The next whole frame, none when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ChannelError> {
        let Some(header) = self.held.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [channel, high, middle, low] = *header;
        if channel > RESIZE && channel != CLOSE {
            return Err(ChannelError::UnknownChannel(channel));
        }
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(ChannelError::TooLong(length));
        }
        if self.held.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.held.advance(HEADER_BYTES);
        Ok(Some(Frame::new(channel, self.held.split_to(length).freeze())))
    }
}

/// Width and height out of a resize message; none for anything else.
pub fn terminal_size(payload: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(payload).ok()?;
    let side = |key: &str| u16::try_from(size.get(key)?.as_u64()?).ok();
    Some((side("Width")?, side("Height")?))
}

/// The Status with which an error channel says how a command ended.
pub fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(decoder: &mut Decoder) -> Result<Vec<Frame>, ChannelError> {
        std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
    }

    #[test]
    fn a_long_payload_is_cut() {
        let frame = Frame::new(STDOUT, vec![7; PAYLOAD_BYTES_MAX + 1]);
        let mut decoder = Decoder::default();
        decoder.push(&frame.encode());
        let lengths: Vec<usize> = drain(&mut decoder).unwrap().iter().map(|f| f.payload.len()).collect();
        assert_eq!(lengths, [PAYLOAD_BYTES_MAX, 1]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            decoder.next_frame().unwrap_err()
        };
        assert_eq!(refused(&[STDIN, 1, 0, 1]), ChannelError::TooLong(65_537));
        assert_eq!(refused(&[9, 0, 0, 0]), ChannelError::UnknownChannel(9));
    }

    #[test]
    fn sizes_and_ends() {
        assert_eq!(terminal_size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(terminal_size(br#"{"Width":80}"#), None);
        assert_eq!(terminal_size(br#"{"Width":-1,"Height":70000}"#), None);
        assert_eq!(exit_status(3)["details"]["causes"][0]["message"], "3");
        assert_eq!(exit_status(0)["status"], "Success");
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec((0u8..=4, proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            cut in 1usize..50,
        ) {
            let frames: Vec<Frame> = frames.into_iter().map(|(channel, payload)| Frame::new(channel, payload)).collect();
            let wire: Vec<u8> = frames.iter().flat_map(|frame| frame.encode()).collect();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                seen.extend(drain(&mut decoder).unwrap());
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn random_bytes_never_panic_and_are_never_hoarded(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..40),
        ) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                decoder.push(&piece);
                if drain(&mut decoder).is_err() {
                    break;
                }
                prop_assert!(decoder.held.len() < HEADER_BYTES + PAYLOAD_BYTES_MAX);
            }
        }
    }
}
