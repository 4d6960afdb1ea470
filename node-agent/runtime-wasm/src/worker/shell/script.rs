//! Lines carried out: sequences, pipelines, redirections, and the prompt.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use super::commands;
use super::console::{Io, TerminalInput};
use super::editor::{Editor, Typed};
use super::files::{Writing, reason};
use super::parse::{Command, Errors, Output, Pipeline, When, parse};
use super::{Context, Failure, INTERRUPTED, NOT_FOUND, SCRIPT_BYTES_MAX};

/// Commands of one pipeline: each has a thread.
const STAGES_MAX: usize = 4;
const STAGE_STACK_BYTES: usize = 512 << 10;
const CTRL_C: u8 = 3;
/// What `$?` is until its command runs: no argument can contain it.
const LAST: char = '\0';
/// What a bad line ends with.
const SYNTAX_ERROR: i32 = 2;
/// How a command ends that exists and cannot be started.
const NOT_STARTED: i32 = 126;

/// `sh -c SCRIPT`.
pub(super) fn run(context: &mut Context, script: &str, input: &TerminalInput) -> i32 {
    line(context, script, input);
    context.exit.unwrap_or(context.last)
}

/// `sh`: a prompt on a terminal, else lines of stdin.
pub(super) fn interact(context: &mut Context, input: &TerminalInput, tty: bool) -> i32 {
    let mut editor = Editor::default();
    if tty {
        let identity = context.facts.identity();
        let hello = format!(
            "Inspection shell of {}/{}, container {}: {}, a {}.\n`help` lists the commands.\n",
            identity.namespace,
            identity.pod,
            identity.container,
            identity.image,
            context.facts.module().kind
        );
        let _ = context.console.write(false, hello.as_bytes());
    }
    loop {
        let interrupted = context.console.busy(false);
        let typed = match tty {
            true => prompt(context, &mut editor, input, interrupted),
            false => plain_line(input),
        };
        let text = match typed {
            Typed::Line(text) => text,
            Typed::Interrupt => {
                context.last = INTERRUPTED;
                continue;
            }
            Typed::End => break,
        };
        context.console.busy(true);
        line(context, &text, input);
        if let Some(code) = context.exit {
            return code;
        }
    }
    context.last
}

fn prompt(context: &Context, editor: &mut Editor, input: &TerminalInput, interrupted: bool) -> Typed {
    let mut out = String::from(if interrupted { "^C\r\n" } else { "" });
    let mut skip = interrupted;
    editor.begin(&format!("{} $ ", context.directory), &mut out);
    loop {
        // A client that is gone ends stdin as well.
        if context.console.write(false, out.as_bytes()).is_err() {
            return Typed::End;
        }
        out.clear();
        let Some(byte) = input.byte() else { return Typed::End };
        // The key that ended the command before.
        if std::mem::take(&mut skip) && byte == CTRL_C {
            continue;
        }
        if let Some(typed) = editor.feed(byte, context.console.width(), &mut out) {
            let _ = context.console.write(false, out.as_bytes());
            return typed;
        }
    }
}

fn plain_line(input: &TerminalInput) -> Typed {
    let mut line = Vec::new();
    loop {
        match input.byte() {
            None if line.is_empty() => return Typed::End,
            None | Some(b'\n') => return Typed::Line(String::from_utf8_lossy(&line).into_owned()),
            // A longer one is told as such when it is run.
            Some(byte) if line.len() <= SCRIPT_BYTES_MAX => line.push(byte),
            Some(_) => {}
        }
    }
}

fn tell(context: &Context, why: &str) {
    let _ = context.console.write(true, format!("sh: {why}\n").as_bytes());
}

/// Carries out a line or a script.
fn line(context: &mut Context, text: &str, input: &TerminalInput) {
    // The guest may have written since the line before.
    context.budget.store(0, Ordering::Relaxed);
    if text.len() > SCRIPT_BYTES_MAX {
        tell(context, &format!("a line is longer than {SCRIPT_BYTES_MAX} bytes"));
        context.last = SYNTAX_ERROR;
        return;
    }
    let env = context.facts.env();
    let lookup = |name: &str| match name {
        "?" => LAST.to_string(),
        name => env
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default(),
    };
    let text = text.replace(LAST, "");
    let pipelines = match parse(&text, &lookup) {
        Ok(pipelines) => pipelines,
        Err(why) => {
            tell(context, &why);
            context.last = SYNTAX_ERROR;
            return;
        }
    };
    for Pipeline { when, commands } in pipelines {
        let due = match when {
            When::Always => true,
            When::Succeeded => context.last == 0,
            When::Failed => context.last != 0,
        };
        if !due {
            continue;
        }
        if context.console.is_cancelled() {
            context.last = INTERRUPTED;
            return;
        }
        context.last = match &commands[..] {
            [command] => {
                let mut io = Io::of(&context.console, input);
                stage(context, command, &mut io)
            }
            commands if commands.len() > STAGES_MAX => {
                tell(context, &format!("more than {STAGES_MAX} commands in a pipeline"));
                SYNTAX_ERROR
            }
            commands => pipeline(context, commands, input),
        };
        if context.exit.is_some() {
            return;
        }
    }
}

/// Runs all commands at once, each reading what the one before it writes; the last one's exit code counts.
fn pipeline(context: &Context, commands: &[Command], input: &TerminalInput) -> i32 {
    std::thread::scope(|scope| {
        let mut next: Option<Box<dyn Read + Send>> = None;
        let mut running = Vec::new();
        for (n, command) in commands.iter().enumerate() {
            let mut io = Io::of(&context.console, input);
            if let Some(next) = next.take() {
                io.stdin = next;
            }
            if n + 1 < commands.len() {
                let (reader, writer) = match std::io::pipe() {
                    Ok(ends) => ends,
                    Err(error) => {
                        tell(context, &format!("cannot make a pipe: {}", reason(&error)));
                        return NOT_STARTED;
                    }
                };
                next = Some(Box::new(reader));
                io.stdout = Box::new(writer);
            }
            let mut own = context.clone();
            let thread = std::thread::Builder::new()
                .name("shell".into())
                .stack_size(STAGE_STACK_BYTES);
            match thread.spawn_scoped(scope, move || stage(&mut own, command, &mut io)) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    tell(context, &format!("cannot start a command: {}", reason(&error)));
                    return NOT_STARTED;
                }
            }
        }
        let codes = running.into_iter().map(|thread| thread.join().unwrap_or(INTERRUPTED));
        codes.last().unwrap_or(0)
    })
}

/// One command with its redirections.
fn stage(context: &mut Context, command: &Command, io: &mut Io) -> i32 {
    if let Err(why) = redirect(context, command, io) {
        let _ = writeln!(io.stderr, "sh: {why}");
        return 1;
    }
    let last = context.last.to_string();
    let words: Vec<String> = command.words.iter().map(|word| word.replace(LAST, &last)).collect();
    let Some((program, args)) = words.split_first() else {
        return 0;
    };
    match commands::find(program) {
        Some(found) => commands::perform(context, found, args, io),
        None => {
            let _ = writeln!(io.stderr, "sh: {program}: not found");
            NOT_FOUND
        }
    }
}

fn redirect(context: &Context, command: &Command, io: &mut Io) -> Result<(), String> {
    if let Some(path) = &command.input {
        io.stdin = match path.as_str() {
            "/dev/null" => Box::new(std::io::empty()),
            path => Box::new(
                context
                    .files
                    .read(&context.path(path))
                    .map_err(|why| format!("{path}: {why}"))?,
            ),
        };
    }
    if let Some(output) = &command.output {
        io.stdout = create(context, output)?;
    }
    match &command.errors {
        None => {}
        Some(Errors::To(output)) => io.stderr = create(context, output)?,
        // One pipe or file under two names: only the session's own streams are two.
        Some(Errors::ToOutput) => {
            let shared = std::sync::Arc::new(std::sync::Mutex::new(std::mem::replace(
                &mut io.stdout,
                Box::new(std::io::sink()),
            )));
            io.stdout = Box::new(Shared(shared.clone()));
            io.stderr = Box::new(Shared(shared));
        }
    }
    Ok(())
}

struct Shared(std::sync::Arc<std::sync::Mutex<Box<dyn Write + Send>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("no panic happens while an output is held")
            .write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().expect("no panic happens while an output is held").flush()
    }
}

fn create(context: &Context, output: &Output) -> Result<Box<dyn Write + Send>, String> {
    if output.path == "/dev/null" {
        return Ok(Box::new(std::io::sink()));
    }
    let how = if output.append {
        Writing::Append
    } else {
        Writing::Truncate
    };
    context
        .create(&context.path(&output.path), how)
        .map_err(|why| format!("{}: {why}", output.path))
}

/// Bytes written between two looks at what the storage limit leaves.
const ROOM_STEP: u64 = 4 << 20;
/// What a file of one byte takes: the limit counts blocks.
const FILE_BYTES_MIN: u64 = 4096;

impl Context {
    /// A file to write to, within the container's storage limit.
    pub(super) fn create(&self, full: &str, how: Writing) -> Result<Box<dyn Write + Send>, String> {
        let file = self.files.write(full, how)?;
        Ok(Box::new(Bounded {
            file,
            context: self.clone(),
            left: 0,
        }))
    }

    /// Takes the blocks that so many bytes fill, or what there is of the last one; returns their bytes. None = no room.
    /// Looks at the mounts, each of whose files costs a call, only when the budget is spent.
    fn take_room(&self, bytes: u64) -> Option<u64> {
        let blocks = bytes.next_multiple_of(FILE_BYTES_MIN);
        let take = |least: u64| {
            let rest = |left: u64| (left >= least).then(|| left.saturating_sub(blocks));
            let before = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
            before.ok().map(|left| left.min(blocks))
        };
        take(blocks).or_else(|| {
            let room = self
                .facts
                .room()
                .map_or(u64::MAX, |room| room.min(ROOM_STEP.max(blocks)));
            self.budget.store(room, Ordering::Relaxed);
            take(bytes)
        })
    }
}

struct Bounded<W> {
    file: W,
    context: Context,
    /// Taken from the budget and not written yet.
    left: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.context.console.is_cancelled() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        let missing = (bytes.len() as u64).saturating_sub(self.left);
        if missing > 0 {
            let taken = self.context.take_room(missing);
            self.left +=
                taken.ok_or_else(|| std::io::Error::other("the container's ephemeral storage limit leaves no room"))?;
        }
        let written = self.file.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Told(why)
    }
}
