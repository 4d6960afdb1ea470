//! Large lists: produced in pieces while they are sent, so that a list of 50 MB never stands in memory twice.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, HeaderValue, VARY};

use crate::body::Body;
use crate::limits;
use crate::negotiate::{self, Form};

/// An item from this size on is passed on as it is rather than copied into a piece.
const SHARED_FROM_BYTES: usize = 32 * 1024;

/// Everything into one buffer.
pub(super) fn write_all(out: &mut BytesMut, head: &str, items: &[Bytes]) {
    out.put_slice(head.as_bytes());
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_u8(b'{');
        out.put_slice(item);
    }
    out.put_slice(b"]}");
}

/// The pieces of a list, in order.
struct Pieces {
    head: Option<String>,
    items: std::vec::IntoIter<Bytes>,
    /// A large item that waits for the piece before it to leave.
    large: Option<Bytes>,
    first: bool,
    done: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(large) = self.large.take() {
            return Some(large);
        }
        if self.done {
            return None;
        }
        let mut out = BytesMut::with_capacity(limits::CHUNK_BYTES);
        if let Some(head) = self.head.take() {
            out.put_slice(head.as_bytes());
        }
        while out.len() < limits::CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                out.put_slice(b"]}");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.put_u8(b',');
            }
            out.put_u8(b'{');
            if item.len() >= SHARED_FROM_BYTES {
                self.large = Some(item);
                break;
            }
            out.put_slice(&item);
        }
        Some(out.freeze())
    }
}

/// The list as a streamed answer, compressed if the client takes that.
pub(super) fn response(form: &Form, head: String, items: Vec<Bytes>, total: usize) -> Response<Body> {
    let pieces = Pieces {
        head: Some(head),
        items: items.into_iter(),
        large: None,
        first: true,
        done: false,
    };
    if form.gzip && total >= limits::GZIP_MIN_BYTES {
        let body = Body::stream(stream::iter(Gzip::new(pieces).map(Ok)));
        let mut response = negotiate::response_with_type(200, negotiate::JSON, body);
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
            .headers_mut()
            .append(VARY, HeaderValue::from_static("Accept-Encoding"));
        return response;
    }
    negotiate::response_with_type(200, negotiate::JSON, Body::stream(stream::iter(pieces.map(Ok))))
}

/// Compresses pieces one by one.
struct Gzip {
    pieces: Pieces,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    fn new(pieces: Pieces) -> Self {
        Self {
            pieces,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::new(1))),
        }
    }
}

impl Iterator for Gzip {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let encoder = self.encoder.as_mut()?;
            match self.pieces.next() {
                Some(piece) => {
                    encoder.write_all(&piece).expect("a Vec takes every write");
                    if encoder.get_ref().len() >= limits::CHUNK_BYTES / 4 {
                        return Some(std::mem::take(encoder.get_mut()).into());
                    }
                }
                None => {
                    let rest = self.encoder.take()?.finish().expect("a Vec takes every write");
                    return Some(rest.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pieces(sizes: &[usize]) -> (Pieces, Vec<u8>) {
        let items: Vec<Bytes> = sizes
            .iter()
            .map(|size| Bytes::from(format!("\"a\":\"{}\"}}", "x".repeat(*size))))
            .collect();
        let head = "{\"items\":[".to_owned();
        let mut whole = BytesMut::new();
        write_all(&mut whole, &head, &items);
        (
            Pieces {
                head: Some(head),
                items: items.into_iter(),
                large: None,
                first: true,
                done: false,
            },
            whole.to_vec(),
        )
    }

    #[test]
    fn pieces_add_up_to_the_whole() {
        for sizes in [
            vec![],
            vec![1],
            vec![10; 20_000],
            vec![50_000, 3, 70_000],
            vec![40_000; 5],
        ] {
            let (pieces, whole) = pieces(&sizes);
            let sent: Vec<u8> = pieces.flatten().collect();
            assert!(sent == whole, "{} items", sizes.len());
            assert!(serde_json::from_slice::<serde_json::Value>(&sent).is_ok());
        }
    }

    #[test]
    fn a_compressed_list_is_the_same_list() {
        let (pieces, whole) = pieces(&[100; 30_000]);
        let sent: Vec<u8> = Gzip::new(pieces).flatten().collect();
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut read).unwrap();
        assert!(read == whole);
    }
}
