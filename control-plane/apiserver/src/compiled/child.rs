//! The compiler as a child process. It limits itself (memory, CPU time, file size, system calls); here is its deadline.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use skiff_api::compiled::{COMPILER_AT_FAULT, OTHER_PLATFORM, Platform};
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

/// How the child ended.
enum End {
    Said(String),
    /// With an exit code, or by a signal; and what it complained of.
    Failed(std::process::ExitStatus, String),
    TookTooLong,
}

/// What the program compiles with, and for its own machine. Errors: it has no compiler, or is no such program.
pub(super) async fn platform(program: &CompilerProgram) -> Result<Platform, Trouble> {
    let said = match run(program, &["--platform".as_ref()], DESCRIBE_DEADLINE).await? {
        End::Said(said) => said,
        End::Failed(status, complaint) if status.code() == Some(COMPILER_AT_FAULT) => {
            return Err(at_fault(&complaint));
        }
        // A program that was built without one says so.
        End::Failed(status, complaint) => {
            let why = format!("the compiler does not say what it compiles for ({status}): {complaint}");
            return Err(Trouble::Differs(why));
        }
        End::TookTooLong => {
            let why = format!("the compiler has not said in {DESCRIBE_DEADLINE:?} what it compiles for");
            return Err(Trouble::Failed(why));
        }
    };
    let described: Described = serde_json::from_str(&said)
        .map_err(|error| Trouble::Failed(format!("the compiler says something else than its platform: {error}")))?;
    Platform::new(&described.engine, &described.target, &described.features)
        .map_err(|error| Trouble::Failed(error.to_string()))
}

/// Code that the compiler has written.
pub(super) struct Made {
    /// The engine that it is of: another than asked for when the program was replaced.
    pub(super) engine: String,
    pub(super) kind: String,
}

/// Compiles `module` into the new file `out`. Errors: [`Trouble::Refused`] for the module's own faults,
/// [`Trouble::Differs`] for a platform that the compiler does not know.
pub(super) async fn compile(
    program: &CompilerProgram,
    platform: &Platform,
    module: &Path,
    out: &Path,
) -> Result<Made, Trouble> {
    let features = platform.features().join(",");
    let arguments = [
        module.as_os_str(),
        out.as_os_str(),
        platform.target().as_ref(),
        features.as_ref(),
    ];
    let (status, complaint) = match run(program, &arguments, DEADLINE).await? {
        End::Said(said) => return made(&said),
        End::Failed(status, complaint) => (status, complaint),
        End::TookTooLong => return Err(Trouble::Refused(format!("compiling the module took over {DEADLINE:?}"))),
    };
    Err(match (status.code(), status.signal()) {
        (Some(COMPILER_AT_FAULT), _) => at_fault(&complaint),
        (Some(OTHER_PLATFORM), _) => Trouble::Differs(format!(
            "this control plane does not compile for this machine: {complaint}"
        )),
        (_, Some(signal)) => Trouble::Refused(format!(
            "the compiler was ended by its limits (signal {signal}): {complaint}"
        )),
        _ => Trouble::Refused(format!("the module cannot be compiled: {complaint}")),
    })
}

fn made(said: &str) -> Result<Made, Trouble> {
    match said.split_whitespace().collect::<Vec<_>>().as_slice() {
        [engine, kind] => Ok(Made {
            engine: (*engine).to_owned(),
            kind: (*kind).to_owned(),
        }),
        _ => Err(Trouble::Failed(format!(
            "the compiler says something else than its engine and a kind of code: {said:?}"
        ))),
    }
}

fn at_fault(complaint: &str) -> Trouble {
    Trouble::Failed(format!("the compiler cannot work: {complaint}"))
}

/// Runs the child to its end.
async fn run(program: &CompilerProgram, arguments: &[&std::ffi::OsStr], deadline: Duration) -> Result<End, Trouble> {
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
    let Ok(ended) = tokio::time::timeout(deadline, waiting).await else {
        return Ok(End::TookTooLong);
    };
    let (status, said, complaint) = ended.map_err(failed)?;
    drop(stdin);
    if status.success() {
        return Ok(End::Said(said));
    }
    let complaint = complaint.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    Ok(End::Failed(status, complaint))
}

async fn text(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
