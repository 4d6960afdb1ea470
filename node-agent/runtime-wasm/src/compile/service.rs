//! Asking the compile service, and taking only what the cluster's key has signed.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use skiff_api::compiled::{CODE_BYTES_MAX, Compiled, Key};
use skiff_runtime::Says;

use crate::engine;
use crate::images::source::BlobStream;
use crate::limits;

/// The control plane's compile service, as a node sees it.
#[async_trait]
pub trait CompileService: Send + Sync + 'static {
    /// Asks for the code that `key` names, waiting up to `wait` for it. With `module` the module's bytes are sent along,
    /// for a service that cannot get it itself.
    async fn ask(&self, key: &Key, module: Option<&Path>, wait: Duration) -> Result<Answer, ServiceError>;
    /// Whether the cluster's key made this signature of `text`.
    fn has_signed(&self, text: &str, signature: &[u8]) -> bool;
}

/// What the compile service says.
pub enum Answer {
    Ready {
        compiled: Compiled,
        signature: Vec<u8>,
        code: BlobStream,
    },
    /// Not yet; worded for `kubectl describe`.
    Working(String),
    /// The service does not have the module.
    SendModule,
    /// It has too much to do; worded for `kubectl describe`.
    Busy { why: String, retry_after: Duration },
}

/// Why the compile service gives no code.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Out of reach, not offered, or of another engine: whoever has a compiler may help himself.
    #[error("the compile service cannot help: {0}")]
    Absent(String),
    /// The module is at fault; the next try would end alike.
    #[error("{0}")]
    Refused(String),
    /// What came is not what the cluster's control plane vouches for.
    #[error("the compiled code is refused: {0}")]
    Untrusted(String),
    #[error("keep the compiled code: {0}")]
    Io(#[from] std::io::Error),
}

/// Writes the code that `key` names into the new file `out`, within `patience`; says through `says` what is
/// waited for. `kind` is what the module is here: code of another kind is not of this module.
pub(super) async fn fetch(
    service: &dyn CompileService,
    key: &Key,
    kind: &str,
    module: &Path,
    out: &Path,
    patience: Duration,
    says: Says<'_>,
) -> Result<(), ServiceError> {
    let started = Instant::now();
    let (mut send, mut wait) = (false, limits::SERVICE_FIRST_WAIT);
    while started.elapsed() < patience {
        match service.ask(key, send.then_some(module), wait).await? {
            Answer::Ready {
                compiled,
                signature,
                code,
            } => {
                if !service.has_signed(&compiled.signed_text(key), &signature) {
                    let why = "its signature was not made by this cluster's certificate authority";
                    return Err(ServiceError::Untrusted(why.to_owned()));
                }
                if compiled.kind != kind {
                    let why = format!("it is a {}, the module is a {kind}", compiled.kind);
                    return Err(ServiceError::Untrusted(why));
                }
                return receive(&compiled, code, out).await;
            }
            Answer::SendModule if send => {
                return Err(ServiceError::Absent(
                    "it asks again for the module it was sent".to_owned(),
                ));
            }
            Answer::SendModule => send = true,
            Answer::Working(what) => {
                says(&format!("waiting for the compile service: {what}"));
                send = false;
            }
            Answer::Busy { why, retry_after } => {
                says(&format!("waiting for the compile service: {why}"));
                tokio::time::sleep(retry_after.min(limits::SERVICE_WAIT)).await;
            }
        }
        wait = limits::SERVICE_WAIT;
    }
    let why = format!("it has not finished in {patience:?}");
    Err(ServiceError::Absent(why))
}

/// Writes the code, and checks that it is what was signed.
async fn receive(compiled: &Compiled, mut code: BlobStream, out: &Path) -> Result<(), ServiceError> {
    let other = |what: &str| ServiceError::Untrusted(format!("{what} is not what was signed"));
    if compiled.size > CODE_BYTES_MAX {
        return Err(ServiceError::Refused(format!("the code has {} bytes", compiled.size)));
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)?;
    let (mut hasher, mut size) = (Sha256::new(), 0_u64);
    loop {
        let silent = || ServiceError::Absent("nothing of the code came for too long".to_owned());
        let chunk = tokio::time::timeout(limits::SERVICE_SILENCE, code.next())
            .await
            .map_err(|_| silent())?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|error| ServiceError::Absent(format!("the code broke off: {error}")))?;
        size += chunk.len() as u64;
        if size > compiled.size {
            return Err(other("its length"));
        }
        hasher.update(&chunk);
        file.write_all(&chunk)?;
    }
    if size < compiled.size {
        return Err(ServiceError::Absent("the code broke off".to_owned()));
    }
    if engine::hex(&hasher.finalize()) != compiled.sha256 {
        return Err(other("its hash"));
    }
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests;
