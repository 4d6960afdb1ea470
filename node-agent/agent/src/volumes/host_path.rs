//! hostPath volumes: nothing is made unless the type says so; what is there must be of the type.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

pub(crate) fn check(path: &str, kind: &str) -> Result<(), String> {
    let file = Path::new(path);
    let failed = |error: std::io::Error| format!("hostPath {path}: {error}");
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(file).map_err(failed)?,
        "FileOrCreate" if !file.exists() => {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(file)
                .map(|_| ())
                .map_err(failed)?;
        }
        _ => {}
    }
    if kind.is_empty() {
        return Ok(());
    }
    let wrong = |what: &str| Err(format!("hostPath type check failed: {path} is not a {what}"));
    let Ok(meta) = fs::metadata(file) else {
        return wrong(&kind.trim_end_matches("OrCreate").to_lowercase());
    };
    match kind {
        "Directory" | "DirectoryOrCreate" if !meta.is_dir() => wrong("directory"),
        "File" | "FileOrCreate" if !meta.is_file() => wrong("file"),
        "Socket" if !meta.file_type().is_socket() => wrong("socket file"),
        "CharDevice" if !meta.file_type().is_char_device() => wrong("character device"),
        "BlockDevice" if !meta.file_type().is_block_device() => wrong("block device"),
        _ => Ok(()),
    }
}
