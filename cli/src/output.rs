//! What the user sees: error chains on one line, a progress line that redraws itself on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// `could not open the store: file is locked`: an error and all its causes on one line, each said once.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if text.contains(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text.replace('\n', " ")
}

/// A line that says what is being waited for. On a terminal it is redrawn in place; elsewhere each new text is a line.
pub struct Progress {
    started: Instant,
    last: String,
    terminal: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { started: Instant::now(), last: String::new(), terminal: std::io::stderr().is_terminal() }
    }

    /// Shows `text`, unless it is what is shown already.
    pub fn say(&mut self, text: &str) {
        if text == self.last {
            return;
        }
        text.clone_into(&mut self.last);
        if self.terminal {
            eprint!("\r\x1b[2K{text} …");
        } else {
            eprintln!("{text} …");
        }
        let _ = std::io::stderr().flush();
    }

    /// Clears the line and says how long it all took, in seconds.
    pub fn done(self) -> f64 {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
        self.started.elapsed().as_secs_f64()
    }
}
