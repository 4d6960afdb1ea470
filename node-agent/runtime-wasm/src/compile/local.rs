//! Compiling on this node: in a limited child process, a few at a time, and never in a process that serves.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use skiff_api::compiled::{COMPILER_AT_FAULT, OTHER_PLATFORM, Platform};
use skiff_runtime::RuntimeError;
use tokio::io::AsyncReadExt;

use super::unrunnable;
use crate::limits;

/// Bytes of the child's complaint that are kept.
const COMPLAINT_BYTES_MAX: u64 = 8 << 10;

/// Runs the child `exe wasm-compile`, which compiles `module` into the new file `out`.
pub(super) async fn compile(exe: &Path, module: &Path, out: &Path, platform: &Platform) -> Result<(), RuntimeError> {
    let failed = |error: std::io::Error| RuntimeError::Unavailable {
        why: format!("run the compiler: {error}"),
    };
    let mut child = tokio::process::Command::new(exe)
        .arg("wasm-compile")
        .args([module, out])
        .args([platform.target(), &platform.features().join(",")])
        .env_clear()
        // Kept open and never written to: its end tells the child that we are gone.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let mut complaint = Vec::new();
    let waiting = async {
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint).await;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(limits::COMPILE_DEADLINE, waiting)
        .await
        .map_err(|_| unrunnable(format!("compiling the module took over {:?}", limits::COMPILE_DEADLINE)))?
        .map_err(failed)?;
    drop(stdin);
    if status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let complaint = complaint.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if matches!(status.code(), Some(COMPILER_AT_FAULT | OTHER_PLATFORM)) {
        return Err(RuntimeError::Compile {
            why: format!("the compiler cannot work: {complaint}"),
        });
    }
    Err(unrunnable(match status.signal() {
        Some(signal) => format!("the compiler was ended by its limits (signal {signal}): {complaint}"),
        None => format!("the module cannot be compiled: {complaint}"),
    }))
}
