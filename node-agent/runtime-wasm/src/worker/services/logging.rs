//! `wasi:logging/logging`: messages with level and context, to the container's log under all its bounds.
//!
//! A message becomes one record per line of it, `LEVEL [CONTEXT] TEXT`, on stderr; `[CONTEXT]` only when there is one.

use super::super::log_stream::LogStream;
use super::super::logs::Stream;
use super::{Guest, HasServices, Linker, Services};
use crate::limits;

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit/wasi-logging", world: "imports" });
}

use bindings::wasi::logging::logging::{Host, Level};

fn word(level: Level) -> &'static str {
    match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
        Level::Critical => "CRITICAL",
    }
}

/// The records of one message. The context is repeated on every line, so it is kept short and free of newlines.
fn records(level: Level, context: &str, message: &str) -> String {
    let context: String = context
        .chars()
        .filter(|c| !c.is_control())
        .take(limits::LOG_CONTEXT_CHARS_MAX)
        .collect();
    let head = match context.is_empty() {
        true => format!("{} ", word(level)),
        false => format!("{} [{context}] ", word(level)),
    };
    let message = &message[..message.floor_char_boundary(limits::LOG_MESSAGE_BYTES_MAX)];
    let lines = message.lines().filter(|line| !line.is_empty());
    let mut text: String = lines.flat_map(|line| [&head, line, "\n"]).collect();
    if text.is_empty() {
        text = format!("{}\n", head.trim_end());
    }
    text
}

impl Host for &Services {
    fn log(&mut self, level: Level, context: String, message: String) {
        let stream = LogStream::new(self.log.clone(), Stream::Stderr);
        stream.accept(records(level, &context, &message).as_bytes());
    }
}

pub(super) fn add_to_linker(linker: &mut Linker) -> wasmtime::Result<()> {
    bindings::Imports::add_to_linker::<Guest, HasServices>(linker, Guest::services)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_level_and_context() {
        assert_eq!(records(Level::Info, "", "up"), "INFO up\n");
        assert_eq!(
            records(Level::Warn, "db", "one\n\ntwo\n"),
            "WARN [db] one\nWARN [db] two\n"
        );
        assert_eq!(records(Level::Critical, "a\nb", ""), "CRITICAL [ab]\n");
        let long = records(Level::Debug, &"x".repeat(1000), "m");
        assert_eq!(long.len(), "DEBUG [] m\n".len() + limits::LOG_CONTEXT_CHARS_MAX);
        let flood = records(Level::Debug, "", &"\u{e4}\n".repeat(limits::LOG_MESSAGE_BYTES_MAX));
        assert!(flood.len() < 8 * limits::LOG_MESSAGE_BYTES_MAX);
    }
}
