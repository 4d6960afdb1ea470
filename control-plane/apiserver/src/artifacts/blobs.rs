//! Blobs out: whole or one range of them, streamed from disk.

use std::io::SeekFrom;

use futures::StreamExt;
use hyper::header::RANGE;
use hyper::{Method, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::Head;
use super::error::{Code, OciError, answer};
use super::path::Digest;
use super::storage::{Storage, remove};
use crate::body::Body;

/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 128 * 1024;

fn unknown() -> OciError {
    OciError::new(404, Code::BlobUnknown, "blob unknown to registry")
}

pub(super) async fn get(
    storage: &Storage,
    name: &str,
    digest: &Digest,
    head: &Head,
) -> Result<Response<Body>, OciError> {
    let size = storage.blob_size(name, digest)?.ok_or_else(unknown)?;
    let wanted = head.header(RANGE);
    let range = match wanted.map(|text| parse_range(text, size)) {
        None | Some(Range::Ignored) => None,
        Some(Range::Part(start, end)) => Some((start, end)),
        Some(Range::Unsatisfiable) => {
            return Err(OciError::new(416, Code::SizeInvalid, "the range lies outside the blob")
                .with_header("content-range", format!("bytes */{size}")));
        }
    };
    let (start, length) = range.map_or((0, size), |(start, end)| (start, end - start + 1));
    let body = if head.method() == Method::HEAD {
        Body::empty()
    } else {
        let mut file = File::open(storage.blob_path(digest)).await.map_err(|_| unknown())?;
        file.seek(SeekFrom::Start(start)).await?;
        let stream = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
        Body::stream(stream.map(|chunk| chunk.map_err(Into::into)))
    };
    let digest = digest.to_string();
    let headers = [
        ("content-type", "application/octet-stream"),
        ("docker-content-digest", digest.as_str()),
        ("etag", &format!("\"{digest}\"")),
        ("accept-ranges", "bytes"),
        ("content-length", &length.to_string()),
        // A digest never changes its content.
        ("cache-control", "private, max-age=31536000, immutable"),
    ];
    let mut response = answer(if range.is_some() { 206 } else { 200 }, &headers, body);
    if let Some((start, end)) = range {
        response.headers_mut().insert(
            "content-range",
            super::error::header(&format!("bytes {start}-{end}/{size}")),
        );
    }
    Ok(response)
}

pub(super) async fn delete(storage: &Storage, name: &str, digest: &Digest) -> Result<Response<Body>, OciError> {
    let _guard = storage.collecting.read().await;
    if remove(&storage.link_path(name, digest))? {
        Ok(answer(202, &[("content-length", "0")], Body::empty()))
    } else {
        Err(unknown())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// First and last byte, both included.
    Part(u64, u64),
    Unsatisfiable,
    /// Not understood, or several: the whole is sent, as RFC 9110 allows.
    Ignored,
}

fn parse_range(text: &str, size: u64) -> Range {
    let Some((start, end)) = text
        .trim()
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Range::Ignored;
    };
    let last = size.saturating_sub(1);
    match (start.trim().parse::<u64>(), end.trim().parse::<u64>()) {
        (Ok(start), Ok(end)) if start <= end && start < size => Range::Part(start, end.min(last)),
        (Ok(start), Ok(end)) if start > end => Range::Ignored,
        (Ok(start), Err(_)) if end.trim().is_empty() && start < size => Range::Part(start, last),
        (Err(_), Ok(0)) if start.trim().is_empty() => Range::Unsatisfiable,
        (Err(_), Ok(suffix)) if start.trim().is_empty() && size > 0 => Range::Part(size.saturating_sub(suffix), last),
        (Ok(_), Ok(_)) => Range::Unsatisfiable,
        (Ok(_), Err(_)) if end.trim().is_empty() => Range::Unsatisfiable,
        _ => Range::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, parse_range};

    #[test]
    fn ranges() {
        for (text, size, expected) in [
            ("bytes=0-3", 10, Range::Part(0, 3)),
            ("bytes=4-", 10, Range::Part(4, 9)),
            ("bytes=-3", 10, Range::Part(7, 9)),
            ("bytes=-30", 10, Range::Part(0, 9)),
            ("bytes=8-99", 10, Range::Part(8, 9)),
            ("bytes=10-", 10, Range::Unsatisfiable),
            ("bytes=10-12", 10, Range::Unsatisfiable),
            ("bytes=-0", 10, Range::Unsatisfiable),
            ("bytes=0-", 0, Range::Unsatisfiable),
            ("bytes=5-3", 10, Range::Ignored),
            ("bytes=0-1,4-5", 10, Range::Ignored),
            ("lines=0-1", 10, Range::Ignored),
            ("bytes=a-b", 10, Range::Ignored),
        ] {
            assert_eq!(parse_range(text, size), expected, "{text} of {size}");
        }
    }
}
