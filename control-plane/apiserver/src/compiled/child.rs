//! The compiler as a child process. It limits itself (memory, CPU time, file size, system calls); here is its deadline.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use skiff_api::compiled::{COMPILER_AT_FAULT, Platform};
use tokio::io::AsyncReadExt;

use super::service::Trouble;
use crate::server::CompilerProgram;

/// Wall time of one module. The child ends itself after 300 s of CPU time; it may have to share the machine.
const DEADLINE: Duration = Duration::from_secs(600);
/// And of saying what it compiles for.
const DESCRIBE_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of what it says that are kept.
const OUTPUT_BYTES_MAX: u64 = 8 << 10;

#[derive(Deserialize)]
struct Described {
    engine: String,
    target: String,
    features: Vec<String>,
}

/// What the program compiles with, and for its own machine. Errors: it has no compiler, or is no such program.
pub(super) async fn platform(program: &CompilerProgram) -> Result<Platform, Trouble> {
    let output = run(program, &["--platform".as_ref()], DESCRIBE_DEADLINE).await?;
    let described: Described = serde_json::from_str(&output)
        .map_err(|error| Trouble::Failed(format!("the compiler says something else than its platform: {error}")))?;
    Platform::new(&described.engine, &described.target, &described.features)
        .map_err(|error| Trouble::Failed(error.to_string()))
}

/// Compiles `module` into the new file `out`; returns what kind of code it is. Errors: [`Trouble::Refused`] for the
/// module's own faults.
pub(super) async fn compile(
    program: &CompilerProgram,
    platform: &Platform,
    module: &Path,
    out: &Path,
) -> Result<String, Trouble> {
    let features = platform.features().join(",");
    let arguments = [
        module.as_os_str(),
        out.as_os_str(),
        platform.target().as_ref(),
        features.as_ref(),
    ];
    Ok(run(program, &arguments, DEADLINE).await?.trim().to_owned())
}

/// Runs the child to its end; returns what it printed.
async fn run(program: &CompilerProgram, arguments: &[&std::ffi::OsStr], deadline: Duration) -> Result<String, Trouble> {
    let failed = |error: std::io::Error| Trouble::Failed(format!("run the compiler {}: {error}", program.0.display()));
    let mut child = tokio::process::Command::new(&program.0)
        .arg("wasm-compile")
        .args(arguments)
        .env_clear()
        // Kept open and never written to: its end tells the child that we are gone.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let waiting = async {
        let (said, complaint) = tokio::join!(text(stdout), text(stderr));
        Ok((child.wait().await?, said, complaint))
    };
    let (status, said, complaint) = tokio::time::timeout(deadline, waiting)
        .await
        .map_err(|_| Trouble::Refused(format!("compiling the module took over {deadline:?}")))?
        .map_err(failed)?;
    drop(stdin);
    if status.success() {
        return Ok(said);
    }
    let complaint = complaint.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if status.code() == Some(COMPILER_AT_FAULT) {
        return Err(Trouble::Failed(format!("the compiler cannot work: {complaint}")));
    }
    Err(Trouble::Refused(match status.signal() {
        Some(signal) => format!("the compiler was ended by its limits (signal {signal}): {complaint}"),
        None => format!("the module cannot be compiled: {complaint}"),
    }))
}

async fn text(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
