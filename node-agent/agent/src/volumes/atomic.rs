//! Files that change together: a reader sees all old or all new ones, as with kubelet's layout. Content lies in a
//! directory `..TIME`, the link `..data` points to it, and every visible name is a link through `..data`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use jiff::Timestamp;

/// Relative path → content and mode.
pub(crate) type Payload = BTreeMap<String, (Vec<u8>, u32)>;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `directory` hold exactly these files; does nothing when it does already.
pub(crate) fn write(directory: &Path, payload: &Payload) -> io::Result<()> {
    for path in payload.keys() {
        let plain = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.starts_with("..") {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!("invalid path {path:?} in the volume"),
            ));
        }
    }
    fs::create_dir_all(directory)?;
    let data = directory.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.is_some() && holds(&data, payload)? {
        return Ok(());
    }
    let name = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = directory.join(&name);
    for (path, (content, mode)) in payload {
        let file = fresh.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    fs::create_dir_all(&fresh)?;
    let link = directory.join(DATA_NEW);
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, &data)?;
    link_names(directory, payload)?;
    if let Some(old) = old {
        fs::remove_dir_all(directory.join(old))?;
    }
    Ok(())
}

/// One link for each first path element; those of names that went away are removed.
fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let names: Vec<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn holds(data: &Path, payload: &Payload) -> io::Result<bool> {
    let mut found = 0;
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                found += 1;
            }
        }
    }
    let same = |(path, (content, mode)): (&String, &(Vec<u8>, u32))| {
        let file = data.join(path);
        let same_mode = fs::metadata(&file).is_ok_and(|meta| meta.permissions().mode() & 0o7777 == *mode);
        same_mode && fs::read(&file).is_ok_and(|old| old == *content)
    };
    Ok(found == payload.len() && payload.iter().all(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (text.as_bytes().to_vec(), 0o644)))
            .collect()
    }

    fn generations(directory: &Path) -> usize {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("..2")).count()
    }

    #[test]
    fn all_files_change_in_one_step_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        let read = |path: &str| fs::read_to_string(volume.join(path));
        write(&volume, &payload(&[("a", "1"), ("b", "1"), ("deep/c", "1")])).unwrap();
        assert_eq!(read("deep/c").unwrap(), "1");
        let before = fs::read_link(volume.join(DATA)).unwrap();
        // A reader that holds the old directory sees old content only; one that opens by name sees new content only.
        write(&volume, &payload(&[("a", "2"), ("deep/c", "2")])).unwrap();
        assert_ne!(fs::read_link(volume.join(DATA)).unwrap(), before);
        assert_eq!(read("a").unwrap(), "2");
        assert_eq!(read("deep/c").unwrap(), "2");
        assert!(read("b").is_err());
        assert_eq!(generations(&volume), 1);
    }

    #[test]
    fn the_same_content_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &payload(&[("a", "1")])).unwrap();
        let before = fs::read_link(directory.path().join(DATA)).unwrap();
        write(directory.path(), &payload(&[("a", "1")])).unwrap();
        assert_eq!(fs::read_link(directory.path().join(DATA)).unwrap(), before);
        write(directory.path(), &payload(&[])).unwrap();
        assert!(fs::metadata(directory.path().join("a")).is_err());
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/x", "a/../../x", "..data"] {
            assert!(write(directory.path(), &payload(&[(path, "1")])).is_err(), "{path}");
        }
    }
}
