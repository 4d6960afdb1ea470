//! How a container ends: exit code, reason and message, as users see them.
//!
//! | end | code | reason |
//! |---|---|---|
//! | returned, or exited with 0 | 0 | `Completed` |
//! | returned an error | 1 | `Error` |
//! | exited with N | N | `Error` |
//! | trapped (the message has the backtrace) | 134 | `Error` |
//! | grew over its memory limit | 137 | `OOMKilled` |
//! | stopped, and could not or did not need to heed it | 143 | `Error` |
//! | still running at the end of its grace period | 137 | `Error` |
//! | wrote more than its ephemeral storage limit | 137 | `Evicted` |
//! | its host failed | 139 | `Error` |

use wasmtime_wasi::I32Exit;

use super::memory::MemoryExceeded;
use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Exit {
    pub(crate) fn code(code: i32) -> Self {
        Self {
            code,
            reason: if code == 0 { "Completed" } else { "Error" },
            message: String::new(),
        }
    }
    /// Asked to stop while nothing was listening for it.
    pub(crate) fn interrupted() -> Self {
        Self::code(143)
    }
    pub(crate) fn killed() -> Self {
        Self::code(137)
    }
    pub(crate) fn host_failed(why: &str) -> Self {
        Self {
            code: 139,
            reason: "Error",
            message: cut(format!("the host of the guest failed: {why}")),
        }
    }
    pub(crate) fn evicted(limit: u64) -> Self {
        let message = format!("Container exceeded its local ephemeral storage limit \"{limit}\".");
        Self {
            code: 137,
            reason: "Evicted",
            message,
        }
    }

    /// What an error out of a guest means.
    pub(crate) fn from_error(error: &wasmtime::Error) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Self::code(exit.0);
        }
        if let Some(exceeded) = error.downcast_ref::<MemoryExceeded>() {
            return Self {
                code: 137,
                reason: "OOMKilled",
                message: exceeded.to_string(),
            };
        }
        Self {
            code: 134,
            reason: "Error",
            message: cut(cause_first(error)),
        }
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.reason == "OOMKilled"
    }
}

/// The innermost cause, then what was being done (a trap's backtrace), outermost last: one line is all that many readers
/// show.
fn cause_first(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = error
        .chain()
        .map(|part| part.to_string().trim_end().to_owned())
        .collect();
    parts.reverse();
    parts.dedup();
    parts.join("\n")
}

/// The start of an over-long message is what names the cause.
fn cut(mut message: String) -> String {
    if message.len() > limits::MESSAGE_BYTES_MAX {
        let mut end = limits::MESSAGE_BYTES_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_backtrace_is_cut_behind_its_cause() {
        let error = wasmtime::Error::msg("the cause").context("é".repeat(5000));
        let exit = Exit::from_error(&error);
        assert!(exit.message.len() <= limits::MESSAGE_BYTES_MAX && exit.message.starts_with("the cause\né"));
        assert_eq!((exit.code, exit.reason), (134, "Error"));
    }

    #[test]
    fn running_out_of_memory_is_told_however_deep_it_is() {
        let error = wasmtime::Error::from(MemoryExceeded { limit: 1, wanted: 2 }).context("while growing");
        assert!(Exit::from_error(&error).is_out_of_memory());
        assert_eq!(Exit::from_error(&I32Exit(3).into()), Exit::code(3));
    }
}
