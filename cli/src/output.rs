//! What the user sees: error chains on one line, a progress line that redraws itself on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// `could not open the store: file is locked`: an error and all its causes on one line, each said once.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = words(cause);
        if part.is_empty() || text.contains(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
        if matches!(cause.downcast_ref(), Some(kube::Error::Api(_))) {
            break;
        }
    }
    if is_refused_by_cluster(error) {
        text.push_str("; is the cluster running? `skiff up` starts it");
    }
    text.replace('\n', " ")
}

/// An error's own text. The Kubernetes client's repeat their causes and print whole structures; those say less.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => status.message.clone(),
        Some(kube::Error::Service(_)) => "reach the API server".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether nobody listens where the kubeconfig says that the cluster is.
fn is_refused_by_cluster(error: &anyhow::Error) -> bool {
    let by_client = error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(kube::Error::Service(_))));
    let refused = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    by_client && refused
}

/// A line that says what is being waited for. On a terminal it is redrawn in place; elsewhere each new text is a line.
pub struct Progress {
    started: Instant,
    last: String,
    terminal: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            last: String::new(),
            terminal: std::io::stderr().is_terminal(),
        }
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

    /// How long it all took, in seconds.
    pub fn done(self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Clears the line, whether what was waited for came or an error is about to be printed.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && !self.last.is_empty() {
            eprint!("\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_cluster_are_said_in_its_own_words() {
        let status = kube::core::Status::failure("pods \"a\" not found", "NotFound").with_code(404);
        let error = anyhow::Error::new(kube::Error::Api(Box::new(status))).context("delete the pod");
        assert_eq!(chain(&error), "delete the pod: pods \"a\" not found");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = anyhow::Error::new(kube::Error::Service(Box::new(refused))).context("push");
        assert_eq!(
            chain(&error),
            "push: reach the API server: connection refused; is the cluster running? `skiff up` starts it"
        );
    }
}
