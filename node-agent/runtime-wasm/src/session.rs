//! What agent and worker say to each other about one `exec` or `attach`: a connection of its own on the worker's socket.
//!
//! It begins with [`Hello::Session`](crate::protocol::Hello) and goes on in small binary frames: one byte of kind, four of
//! length (little-endian), data. Output is held back by the socket itself. Stdin may be at most [`STDIN_WINDOW`] ahead of
//! what the worker says was taken, so that the worker always reads, and sees at once when the agent is gone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skiff_runtime::TerminalSize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::{Artifact, WireError};

/// Largest data of one frame.
pub(crate) const DATA_MAX: usize = 64 << 10;
/// Largest piece of a stream that is sent as one frame: a few of them are held per stream.
pub(crate) const PIECE: usize = 16 << 10;
/// Bytes of stdin that may be on their way or wait in the worker: a screenful of paste, and enough to keep a copy busy.
pub(crate) const STDIN_WINDOW: usize = 64 << 10;

/// How a session begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) pod_uid: String,
    pub(crate) container: String,
    pub(crate) what: What,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// A command of the inspection shell.
    Exec { command: Vec<String> },
    /// Another module in the container's surroundings, as the agent found it on this node.
    Debug { args: Vec<String>, artifact: Artifact },
    /// The container's own streams.
    Attach,
}

/// One frame. `Stdin`, `StdinEnd` and `Resize` go to the worker, the others come from it; `End` is the last.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Stdin(Bytes),
    StdinEnd,
    Resize(TerminalSize),
    Stdout(Bytes),
    Stderr(Bytes),
    /// So many bytes of stdin were taken; as many more may follow.
    Taken(u32),
    /// The exit code, or why there is none.
    End(Result<i32, WireError>),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Stdin(_) => 0,
            Self::StdinEnd => 1,
            Self::Resize(_) => 2,
            Self::Stdout(_) => 3,
            Self::Stderr(_) => 4,
            Self::Taken(_) => 5,
            Self::End(_) => 6,
        }
    }

    fn data(&self) -> std::io::Result<Bytes> {
        Ok(match self {
            Self::Stdin(data) | Self::Stdout(data) | Self::Stderr(data) => data.clone(),
            Self::StdinEnd => Bytes::new(),
            Self::Resize(size) => {
                let mut data = size.width.to_le_bytes().to_vec();
                data.extend(size.height.to_le_bytes());
                data.into()
            }
            Self::Taken(count) => count.to_le_bytes().to_vec().into(),
            Self::End(end) => serde_json::to_vec(end)?.into(),
        })
    }

    /// Errors: a kind that does not exist, or data that is not of its shape.
    fn parse(kind: u8, data: Vec<u8>) -> std::io::Result<Self> {
        let malformed = || std::io::Error::other(format!("a malformed frame of kind {kind}"));
        Ok(match kind {
            0 => Self::Stdin(data.into()),
            1 => Self::StdinEnd,
            2 => {
                let [w0, w1, h0, h1] = data[..].try_into().map_err(|_| malformed())?;
                Self::Resize(TerminalSize {
                    width: u16::from_le_bytes([w0, w1]),
                    height: u16::from_le_bytes([h0, h1]),
                })
            }
            3 => Self::Stdout(data.into()),
            4 => Self::Stderr(data.into()),
            5 => Self::Taken(u32::from_le_bytes(data[..].try_into().map_err(|_| malformed())?)),
            6 => Self::End(serde_json::from_slice(&data)?),
            _ => return Err(malformed()),
        })
    }

    /// Reads one frame; None at the end of the stream. Not to be dropped half-way. Errors: malformed, over the bound, IO.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Self>> {
        let mut head = [0; 5];
        match stream.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > DATA_MAX {
            return Err(std::io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data).await?;
        Self::parse(kind, data).map(Some)
    }

    /// Writes one frame. Errors: data over the bound, IO.
    pub(crate) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let data = self.data()?;
        if data.len() > DATA_MAX {
            return Err(std::io::Error::other("a frame over the bound"));
        }
        let mut frame = Vec::with_capacity(5 + data.len());
        frame.push(self.kind());
        frame.extend((data.len() as u32).to_le_bytes());
        frame.extend_from_slice(&data);
        stream.write_all(&frame).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_sent() {
        let size = TerminalSize { width: 80, height: 24 };
        let frames = [
            Frame::Stdin(Bytes::from_static(b"in")),
            Frame::StdinEnd,
            Frame::Resize(size),
            Frame::Stdout(Bytes::from_static(b"out")),
            Frame::Stderr(Bytes::new()),
            Frame::Taken(70_000),
            Frame::End(Ok(-3)),
            Frame::End(Err(WireError::NotFound("x".into()))),
        ];
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        for frame in &frames {
            frame.write(&mut theirs).await.expect("written");
        }
        drop(theirs);
        for frame in &frames {
            let read = Frame::read(&mut ours).await.expect("read").expect("a frame");
            assert_eq!(format!("{read:?}"), format!("{frame:?}"));
        }
        assert!(Frame::read(&mut ours).await.expect("the end").is_none());
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error_and_not_believed() {
        for bytes in [
            &[0, 255, 255, 255, 255][..],
            &[9, 0, 0, 0, 0],
            &[2, 3, 0, 0, 0, 1, 2, 3],
            &[5, 0, 0, 0, 0],
            &[6, 1, 0, 0, 0, b'{'],
            &[0, 4, 0, 0, 0, 1],
        ] {
            assert!(Frame::read(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
        let too_much = Frame::Stdout(vec![0; DATA_MAX + 1].into());
        assert!(too_much.write(&mut tokio::io::sink()).await.is_err());
    }
}
