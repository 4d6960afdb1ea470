//! Running the real kubectl.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl Output {
    /// The standard output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// The standard error of a command that must have failed.
    #[track_caller]
    pub fn err(self) -> String {
        assert_ne!(self.code, 0, "succeeded, stdout: {}", self.stdout);
        self.stderr
    }
}

/// The kubectl that `cargo xtask setup` installed, else the one on the PATH.
fn program() -> std::path::PathBuf {
    let installed = crate::root().join("target/tools/kubectl");
    if installed.is_file() {
        installed
    } else {
        "kubectl".into()
    }
}

/// A kubectl command with this kubeconfig, not yet started. Its caches stay in `home`.
pub fn command(kubeconfig: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", home)
        .env("EDITOR", "true")
        .stdin(Stdio::null());
    command
}

/// Runs a command, feeding it `stdin`.
pub fn run(mut command: Command, stdin: Option<&str>) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}; run: cargo xtask setup"));
    if let Some(text) = stdin {
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}
