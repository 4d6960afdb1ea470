//! Blobs in: in one piece, in pieces, resumed after a break, or mounted from another repository.

use std::path::Path;

use hyper::Response;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE};
use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::{Code, OciError, answer};
use super::path::{Digest, repository_name};
use super::storage::{BLOB_BYTES_MAX, Storage};
use super::{Call, Head, next_bytes};
use crate::body::{Body, RequestBody};

/// Bytes hashed at once.
const HASH_CHUNK_BYTES: usize = 256 * 1024;

/// `POST …/blobs/uploads/`: mounts, takes a whole blob (`?digest=`), or opens an upload.
pub(super) async fn start(storage: &Storage, name: &str, call: Call) -> Result<Response<Body>, OciError> {
    if let Some(digest) = call.head.query("mount") {
        let digest = Digest::parse(&digest)?;
        let from = call.head.query("from").map(|from| repository_name(&from)).transpose()?;
        let _guard = storage.collecting.read().await;
        // Without `from` the blob may only come from the repository itself.
        if storage.blob_size(from.as_deref().unwrap_or(name), &digest)?.is_some() {
            storage.link_blob(name, &digest).await?;
            return Ok(created(name, &digest));
        }
    }
    let digest = call
        .head
        .query("digest")
        .map(|digest| Digest::parse(&digest))
        .transpose()?;
    let id = storage.begin_upload(name)?;
    let Some(digest) = digest else {
        return Ok(progress(202, name, &id, 0));
    };
    let lock = storage.upload_lock(name, &id)?;
    let _one_writer = lock.lock().await;
    let taken = match write_body(storage, &id, 0, call.body).await {
        Ok(_) => complete(storage, name, &id, &digest).await,
        Err(error) => Err(error),
    };
    if taken.is_err() {
        storage.end_upload(&id)?;
    }
    taken
}

pub(super) async fn status(storage: &Storage, name: &str, id: &str) -> Result<Response<Body>, OciError> {
    storage.upload_lock(name, id)?;
    Ok(progress(204, name, id, reached(storage, id).await?))
}

/// `PATCH`: the next piece. With a Content-Range it must begin where the upload has arrived.
pub(super) async fn append(storage: &Storage, name: &str, id: &str, call: Call) -> Result<Response<Body>, OciError> {
    let lock = storage.upload_lock(name, id)?;
    let _one_writer = lock.try_lock().map_err(|_| busy())?;
    let offset = reached(storage, id).await?;
    check_range(&call.head, name, id, offset)?;
    let end = write_body(storage, id, offset, call.body).await?;
    Ok(progress(202, name, id, end))
}

/// `PUT ?digest=`: the last piece, which may be empty, and the check of the whole.
pub(super) async fn finish(storage: &Storage, name: &str, id: &str, call: Call) -> Result<Response<Body>, OciError> {
    let lock = storage.upload_lock(name, id)?;
    let _one_writer = lock.try_lock().map_err(|_| busy())?;
    let digest = call
        .head
        .query("digest")
        .ok_or_else(|| OciError::new(400, Code::DigestInvalid, "the digest parameter is missing"))?;
    let digest = Digest::parse(&digest)?;
    let offset = reached(storage, id).await?;
    check_range(&call.head, name, id, offset)?;
    write_body(storage, id, offset, call.body).await?;
    complete(storage, name, id, &digest).await
}

pub(super) async fn cancel(storage: &Storage, name: &str, id: &str) -> Result<Response<Body>, OciError> {
    let lock = storage.upload_lock(name, id)?;
    let _one_writer = lock.try_lock().map_err(|_| busy())?;
    storage.end_upload(id)?;
    Ok(answer(204, &[], Body::empty()))
}

fn busy() -> OciError {
    OciError::new(409, Code::BlobUploadInvalid, "another request is writing this upload")
}

async fn reached(storage: &Storage, id: &str) -> Result<u64, OciError> {
    Ok(tokio::fs::metadata(storage.upload_data(id)).await?.len())
}

/// A Content-Range (`start-end`) must start at `offset` and be as long as the body says.
fn check_range(head: &Head, name: &str, id: &str, offset: u64) -> Result<(), OciError> {
    let Some(range) = head.header(CONTENT_RANGE) else {
        return Ok(());
    };
    let range = range.trim();
    let range = range
        .strip_prefix("bytes ")
        .or(range.strip_prefix("bytes="))
        .unwrap_or(range);
    let range = range.split('/').next().unwrap_or(range);
    let wrong = |status, message: &str| {
        let (location, reached) = place(name, id, offset);
        OciError::new(status, Code::BlobUploadInvalid, message)
            .with_header("location", location)
            .with_header("range", reached)
    };
    let bounds = range
        .split_once('-')
        .and_then(|(start, end)| Some((start.parse::<u64>().ok()?, end.parse::<u64>().ok()?)));
    let Some((start, end)) = bounds else {
        return Err(wrong(400, "the Content-Range is not start-end"));
    };
    if start != offset || end < start {
        return Err(wrong(416, "the piece does not begin where the upload has arrived"));
    }
    let length = head.header(CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
    match length {
        Some(length) if length != end - start + 1 => Err(wrong(400, "Content-Range and Content-Length differ")),
        _ => Ok(()),
    }
}

/// Appends a body at `offset`; where the upload has arrived then. What arrived before a break stays, to be resumed.
async fn write_body(storage: &Storage, id: &str, offset: u64, mut body: RequestBody) -> Result<u64, OciError> {
    storage.check_space()?;
    let mut file = OpenOptions::new().append(true).open(storage.upload_data(id)).await?;
    let mut end = offset;
    loop {
        let data = match next_bytes(&mut body).await {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err(error) => {
                file.flush().await?;
                return Err(error);
            }
        };
        end += data.len() as u64;
        if end > BLOB_BYTES_MAX {
            let message = format!("a blob may have at most {BLOB_BYTES_MAX} bytes");
            return Err(OciError::new(413, Code::SizeInvalid, message));
        }
        file.write_all(&data).await?;
    }
    file.flush().await?;
    Ok(end)
}

/// Checks the digest, then makes the upload a blob of the repository.
async fn complete(storage: &Storage, name: &str, id: &str, digest: &Digest) -> Result<Response<Body>, OciError> {
    let data = storage.upload_data(id);
    let actual = hash(&data).await?;
    if actual != digest.hex() {
        storage.end_upload(id)?;
        let message = format!("provided digest {digest} did not match uploaded content sha256:{actual}");
        return Err(OciError::new(400, Code::DigestInvalid, message));
    }
    let _guard = storage.collecting.read().await;
    storage.adopt_blob(data, digest).await?;
    storage.link_blob(name, digest).await?;
    storage.end_upload(id)?;
    Ok(created(name, digest))
}

async fn hash(path: &Path) -> Result<String, OciError> {
    let mut file = File::open(path).await?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_CHUNK_BYTES];
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok(crate::pki::hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Location and Range of an upload.
fn place(name: &str, id: &str, end: u64) -> (String, String) {
    (
        format!("/v2/{name}/blobs/uploads/{id}"),
        format!("0-{}", end.saturating_sub(1)),
    )
}

fn progress(status: u16, name: &str, id: &str, end: u64) -> Response<Body> {
    let (location, range) = place(name, id, end);
    let mut headers = vec![
        ("location", location.as_str()),
        ("range", range.as_str()),
        ("docker-upload-uuid", id),
    ];
    if status != 204 {
        headers.push(("content-length", "0"));
    }
    answer(status, &headers, Body::empty())
}

fn created(name: &str, digest: &Digest) -> Response<Body> {
    let digest = digest.to_string();
    let location = format!("/v2/{name}/blobs/{digest}");
    let headers = [
        ("location", location.as_str()),
        ("docker-content-digest", &digest),
        ("content-length", "0"),
    ];
    answer(201, &headers, Body::empty())
}
