//! The inspection shell: what `kubectl exec` runs in a WebAssembly pod, there being no programs in its image.
//!
//! A small command interpreter of our own, over what the worker knows of the container ([`facts`]) and the files of its
//! mounts ([`files`]). It runs on a thread of its own beside the guest and never touches its memory. Every command is a
//! function of facts, files, arguments and stdin.
//!
//! **Invariant:** it reaches no file that the guest could not, and writes none that the guest could not.
//! **Invariant:** what it holds in memory is bounded, whatever files and input are like.
//!
//! Read on: [`commands`] the list · [`script`] lines, pipes, redirections · [`editor`] the prompt.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use console::{Console, Io, TerminalInput};
use facts::Facts;
use files::Files;

mod archive;
mod commands;
pub(crate) mod console;
mod dirs;
mod editor;
pub(crate) mod facts;
pub(crate) mod files;
mod look;
mod parse;
mod script;
mod table;
#[cfg(test)]
mod tests;
mod text;

/// Longest line or script: what fits into a command line of `kubectl exec`.
const SCRIPT_BYTES_MAX: usize = 64 << 10;
/// How a command ended that does not exist.
const NOT_FOUND: i32 = 127;
/// How one ended that Ctrl-C, or a reader that went away, ended.
const INTERRUPTED: i32 = 130;

/// Where one command runs; a copy of it goes into each part of a pipeline.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) facts: Arc<dyn Facts>,
    pub(crate) files: Arc<Files>,
    pub(crate) console: Arc<dyn Console>,
    /// Absolute, without `.` and `..`.
    directory: String,
    /// `$?`
    last: i32,
    /// `exit` was called with this.
    exit: Option<i32>,
    /// Bytes that may be written before the next look at what the storage limit leaves; shared by all files of a line.
    budget: Arc<AtomicU64>,
}

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// Nobody reads or writes any more, or Ctrl-C.
    Broken,
    /// Told on stderr behind the command's name; exit code 1.
    Told(String),
    /// The same, with the exit code of wrong usage.
    Usage(String),
}

impl From<std::io::Error> for Failure {
    /// The session's streams and pipes break with `BrokenPipe`; everything else is an error of a file.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Broken,
            _ => Self::Told(files::reason(&error)),
        }
    }
}

type Outcome = Result<i32, Failure>;

/// Runs one command line of `kubectl exec` to its end; returns the exit code.
pub(crate) fn run(
    command: &[String],
    facts: Arc<dyn Facts>,
    files: Arc<Files>,
    console: Arc<dyn Console>,
    tty: bool,
) -> i32 {
    let input = TerminalInput::new(console.clone(), tty);
    let mut context = Context {
        facts,
        files,
        console: console.clone(),
        directory: "/".to_owned(),
        last: 0,
        exit: None,
        budget: Arc::default(),
    };
    let Some((program, args)) = command.split_first() else {
        return 0;
    };
    let mut io = Io::of(&console, &input);
    let name = commands::base_name(program);
    if commands::is_shell(name) {
        return match args {
            [flag, script, ..] if flag == "-c" => script::run(&mut context, script, &input),
            [] => script::interact(&mut context, &input, tty),
            [flag] if ["-i", "-l", "-il", "-li"].contains(&flag.as_str()) => {
                script::interact(&mut context, &input, tty)
            }
            _ => {
                let _ = writeln!(io.stderr, "{name}: only `{name}` and `{name} -c SCRIPT` are known here");
                2
            }
        };
    }
    match commands::find(program) {
        Some(found) => commands::perform(&mut context, found, args, &mut io),
        None => {
            let _ = writeln!(
                io.stderr,
                "exec failed: unable to start container process: exec: {program:?}: executable file not found in $PATH"
            );
            NOT_FOUND
        }
    }
}
