//! The shell's own stdin, stdout and stderr, and what a command gets of them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::editor::{Editor, Typed};

/// The client's end of a session.
pub(crate) trait Console: Send + Sync {
    /// Waits for the next bytes of stdin; none = the end.
    fn read(&self) -> Bytes;
    /// Writes to stdout, or to stderr; waits for the client. Errors: it is gone, or Ctrl-C ended the command.
    fn write(&self, stderr: bool, bytes: &[u8]) -> std::io::Result<()>;
    /// True once the client is gone, or pressed Ctrl-C during the command that runs. Asked in every loop.
    fn is_cancelled(&self) -> bool;
    /// A command begins (true), or the prompt is shown (false): whose Ctrl-C it is. Returns whether there was one since.
    fn busy(&self, _busy: bool) -> bool {
        false
    }
    /// Waits, at most so long. Returns early when cancelled.
    fn wait(&self, time: std::time::Duration);
    /// Columns of the client's terminal.
    fn width(&self) -> usize {
        80
    }
}

/// The session's stdin, shared by the prompt and the commands in turn.
#[derive(Clone)]
pub(super) struct TerminalInput {
    console: Arc<dyn Console>,
    left: Arc<Mutex<Bytes>>,
    /// On a terminal, commands read lines that are edited and shown.
    tty: bool,
}

impl TerminalInput {
    pub(super) fn new(console: Arc<dyn Console>, tty: bool) -> Self {
        Self {
            console,
            left: Arc::default(),
            tty,
        }
    }

    /// The next byte; None = the end.
    pub(super) fn byte(&self) -> Option<u8> {
        let mut byte = [0];
        (self.take(&mut byte) == 1).then_some(byte[0])
    }

    fn take(&self, out: &mut [u8]) -> usize {
        let mut left = self.left.lock().expect("no panic happens while stdin is held");
        if left.is_empty() {
            *left = self.console.read();
        }
        let count = out.len().min(left.len());
        out[..count].copy_from_slice(&left.split_to(count));
        count
    }
}

/// What a command gets of it.
struct CommandInput {
    input: TerminalInput,
    editor: Editor,
    /// Of a line on a terminal.
    line: VecDeque<u8>,
    ended: bool,
}

impl CommandInput {
    /// The next line of a terminal. Errors: Ctrl-C.
    fn edit(&mut self) -> std::io::Result<()> {
        let mut out = String::new();
        self.editor.begin("", &mut out);
        while let Some(byte) = self.input.byte() {
            let typed = self.editor.feed(byte, self.input.console.width(), &mut out);
            if typed == Some(Typed::Interrupt) {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.input.console.write(false, out.as_bytes())?;
            out.clear();
            match typed {
                None | Some(Typed::Interrupt) => {}
                Some(Typed::End) => break,
                Some(Typed::Line(line)) => {
                    self.line.extend(line.bytes().chain(*b"\n"));
                    return Ok(());
                }
            }
        }
        self.ended = true;
        Ok(())
    }
}

impl Read for CommandInput {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if !self.input.tty {
            return Ok(self.input.take(out));
        }
        if self.line.is_empty() && !self.ended {
            self.edit()?;
        }
        self.line.read(out)
    }
}

/// Stdout or stderr of the session.
pub(super) struct TerminalOutput {
    console: Arc<dyn Console>,
    stderr: bool,
}

impl Write for TerminalOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.console.write(self.stderr, bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The streams of one command. Its drop closes them.
pub(super) struct Io {
    pub(super) stdin: Box<dyn Read + Send>,
    pub(super) stdout: Box<dyn Write + Send>,
    pub(super) stderr: Box<dyn Write + Send>,
}

impl Io {
    /// The session's own streams.
    pub(super) fn of(console: &Arc<dyn Console>, input: &TerminalInput) -> Self {
        let output = |stderr| TerminalOutput {
            console: console.clone(),
            stderr,
        };
        Self {
            stdin: Box::new(CommandInput {
                input: input.clone(),
                editor: Editor::default(),
                line: VecDeque::new(),
                ended: false,
            }),
            stdout: Box::new(std::io::BufWriter::with_capacity(8 << 10, output(false))),
            stderr: Box::new(output(true)),
        }
    }
}
