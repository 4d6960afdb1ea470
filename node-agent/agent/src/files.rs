//! Files that must survive a crash half way: written beside, synced, renamed over.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::AgentError;

pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, AgentError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AgentError::File {
            attempted: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a directory (and its parents) that only this user can enter.
pub(crate) fn create_directory(path: &Path) -> Result<(), AgentError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| AgentError::File {
            attempted: "create directory",
            path: path.to_owned(),
            source,
        })
}

/// Replaces a file's content in one step that survives a power cut.
pub(crate) fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), AgentError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_data()?;
        fs::rename(&temporary, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| AgentError::File {
        attempted: "write",
        path: path.to_owned(),
        source,
    })
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), AgentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(AgentError::File {
            attempted: "remove",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Removes a directory with all in it; one that is not there is fine.
pub(crate) fn remove_directory(path: &Path) -> Result<(), AgentError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(AgentError::File {
            attempted: "remove",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
