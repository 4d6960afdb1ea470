//! A module that a node sends because this server's registry does not have it: taken in bounded, checked against its
//! digest, and gone when its compilation is over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use skiff_api::compiled::{Key, MODULE_BYTES_MAX};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::service::Trouble;
use crate::body::RequestBody;
use crate::pki::hex;

/// A sender that is silent for this long is given up.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Beyond that it must have sent so many bytes a second on average, so that a slow one does not keep its place among the few
/// for ever: the largest module has an hour and some minutes. A node gives up below this rate by itself.
const RATE_MIN: u64 = 64 << 10;

/// A module in a file of its own.
pub(super) struct Upload(PathBuf);

impl Upload {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the body to the new file `path`. Errors: too large, broken off, other bytes than the key's digest says, IO.
    pub(super) async fn receive(path: PathBuf, key: &Key, mut body: RequestBody) -> Result<Self, Trouble> {
        let bad = |why: String| Trouble::BadModule(why);
        let mut file = tokio::fs::File::create_new(&path).await?;
        // From here on the file goes if anything fails.
        let upload = Self(path);
        let (mut hasher, mut size) = (Sha256::new(), 0_u64);
        let started = Instant::now();
        loop {
            let until = (Instant::now() + IDLE_MAX).min(due(started, size));
            let frame = tokio::time::timeout_at(until, body.frame()).await;
            let frame = frame.map_err(|_| bad("the module came too slowly".to_owned()))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| bad(format!("the module broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            size += data.len() as u64;
            if size > MODULE_BYTES_MAX {
                return Err(bad(format!("a module may have at most {MODULE_BYTES_MAX} bytes")));
            }
            hasher.update(&data);
            file.write_all(&data).await?;
        }
        file.flush().await?;
        let found = format!("sha256:{}", hex(&hasher.finalize()));
        if found != key.module() {
            return Err(bad(format!("the module's digest is {found}, not {}", key.module())));
        }
        Ok(upload)
    }
}

/// When a sender of whose module `size` bytes came since `started` is given up, if no more come.
fn due(started: Instant, size: u64) -> Instant {
    started + IDLE_MAX + Duration::from_secs(size / RATE_MIN)
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_must_keep_up() {
        let started = Instant::now();
        assert_eq!(due(started, 0), started + IDLE_MAX);
        assert_eq!(
            due(started, 10 * RATE_MIN),
            started + IDLE_MAX + Duration::from_secs(10)
        );
        let whole = due(started, MODULE_BYTES_MAX) - started;
        assert!(whole < Duration::from_secs(70 * 60), "{whole:?}");
    }
}
