//! The files of a container as its guest has them: its mounts, each at its path, and nothing else.
//!
//! Paths are walked beneath each mount's own directory handle, so that no link and no `..` leads out of it. The
//! directories on the way to a mount exist by name only. A read-only mount refuses every change.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use skiff_runtime::Mount;

/// Entries of a directory that are looked at: as many fit a listing's memory (their names are up to 255 bytes).
pub(super) const ENTRIES_MAX: usize = 10_000;
/// Directories within directories that are walked; each level holds its listing.
pub(super) const DEPTH_MAX: usize = 64;

pub(super) const READ_ONLY: &str = "Read-only file system";
const MISSING: &str = "No such file or directory";
const IS_DIRECTORY: &str = "Is a directory";

/// Why a file cannot be had, as strerror would say it.
pub(crate) type Refused = String;

struct Mounted {
    /// Absolute, without a slash at its end; empty = `/`.
    path: String,
    dir: Dir,
    read_only: bool,
}

/// The mounts of one container.
pub(crate) struct Files(Vec<Mounted>);

/// What is at a path.
enum Place<'a> {
    /// Only a name on the way to mounts.
    Name,
    /// Within a mount; the rest of the path, `.` for the mount itself.
    In(&'a Mounted, PathBuf),
}

/// One entry of a listing.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) about: About,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Link,
    Other,
}

/// What a listing tells of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds since the epoch.
    pub(super) modified: i64,
    pub(super) inode: u64,
    pub(super) links: u64,
}

impl About {
    fn of(metadata: &Metadata) -> Self {
        let kind = match metadata.file_type() {
            t if t.is_dir() => Kind::Dir,
            t if t.is_file() => Kind::File,
            t if t.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            kind,
            size: metadata.len(),
            mode: metadata.mode() & 0o777,
            modified: metadata.mtime(),
            inode: metadata.ino(),
            links: metadata.nlink(),
        }
    }

    fn of_name() -> Self {
        Self {
            kind: Kind::Dir,
            size: 0,
            mode: 0o555,
            modified: 0,
            inode: 0,
            links: 1,
        }
    }
}

/// Space of a mount's file system.
pub(super) struct Space {
    pub(super) path: String,
    pub(super) read_only: bool,
    pub(super) total: u64,
    pub(super) free: u64,
}

/// An error's text without the number behind it.
pub(crate) fn reason(error: &std::io::Error) -> Refused {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn told<T>(result: std::io::Result<T>) -> Result<T, Refused> {
    result.map_err(|error| reason(&error))
}

/// Makes a path absolute, as the shell's `cd` does: `..` goes back by name.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    let joined = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{directory}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl Files {
    /// Errors: a mount that cannot be opened.
    pub(crate) fn open(mounts: &[Mount]) -> std::io::Result<Self> {
        let open = |mount: &Mount| {
            Ok(Mounted {
                path: absolute("/", &mount.container_path).trim_end_matches('/').to_owned(),
                dir: Dir::open_ambient_dir(&mount.host_path, ambient_authority())?,
                read_only: mount.read_only,
            })
        };
        mounts.iter().map(open).collect::<std::io::Result<_>>().map(Self)
    }

    /// The mount with the longest path that leads to `path`, which is absolute and plain.
    fn place(&self, path: &str) -> Result<Place<'_>, Refused> {
        let path = path.trim_end_matches('/');
        let rest = |mounted: &Mounted| -> Option<PathBuf> {
            let rest = path.strip_prefix(&*mounted.path)?;
            match rest.strip_prefix('/') {
                Some(rest) => Some(rest.into()),
                None => rest.is_empty().then(|| ".".into()),
            }
        };
        let found = self.0.iter().filter_map(|mounted| Some((mounted, rest(mounted)?)));
        if let Some((mounted, rest)) = found.max_by_key(|(mounted, _)| mounted.path.len()) {
            return Ok(Place::In(mounted, rest));
        }
        match self.names_below(path).is_empty() && !path.is_empty() {
            true => Err(MISSING.into()),
            false => Ok(Place::Name),
        }
    }

    /// First names of mounts below a path.
    fn names_below(&self, path: &str) -> Vec<String> {
        let name = |mounted: &Mounted| {
            let rest = mounted.path.strip_prefix(path)?.strip_prefix('/')?;
            Some(rest.split('/').next().unwrap_or_default().to_owned())
        };
        let mut names: Vec<String> = self.0.iter().filter_map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// A place that may be changed.
    fn writable(&self, path: &str) -> Result<(&Mounted, PathBuf), Refused> {
        match self.place(path) {
            Ok(Place::In(mounted, _)) if mounted.read_only => Err(READ_ONLY.into()),
            Ok(Place::In(mounted, rest)) => Ok((mounted, rest)),
            // The names above mounts are nobody's to change.
            Ok(Place::Name) | Err(_) => Err(READ_ONLY.into()),
        }
    }

    pub(super) fn about(&self, path: &str, follow: bool) -> Result<About, Refused> {
        match self.place(path)? {
            Place::Name => Ok(About::of_name()),
            Place::In(mounted, rest) => {
                let metadata = match follow {
                    true => mounted.dir.metadata(&rest),
                    false => mounted.dir.symlink_metadata(&rest),
                };
                told(metadata).map(|metadata| About::of(&metadata))
            }
        }
    }

    /// Sorted entries of a directory, mounts within it included; true if there are more.
    pub(super) fn list(&self, path: &str) -> Result<(Vec<Entry>, bool), Refused> {
        let mut entries = Vec::new();
        let mut more = false;
        if let Place::In(mounted, rest) = self.place(path)? {
            for entry in told(mounted.dir.read_dir(&rest))? {
                if entries.len() == ENTRIES_MAX {
                    more = true;
                    break;
                }
                let entry = told(entry)?;
                // Gone in between: not there.
                let Ok(metadata) = entry.metadata() else { continue };
                entries.push(Entry {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    about: About::of(&metadata),
                });
            }
        }
        let mounts = self.names_below(path.trim_end_matches('/'));
        entries.retain(|entry| !mounts.contains(&entry.name));
        for name in mounts {
            let about = self.about(&absolute(path, &name), true).unwrap_or(About::of_name());
            entries.push(Entry { name, about });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((entries, more))
    }

    /// A plain file, opened for reading. Anything else could hold up the reader for ever.
    pub(super) fn read(&self, path: &str) -> Result<impl Read + Send + use<>, Refused> {
        match self.place(path)? {
            Place::Name => Err(IS_DIRECTORY.into()),
            Place::In(mounted, rest) => plain(mounted, &rest, OpenOptions::new().read(true)),
        }
    }

    /// A plain file, opened for writing and made if it is not there.
    pub(super) fn write(&self, path: &str, how: Writing) -> Result<impl Write + Send + use<>, Refused> {
        let (mounted, rest) = self.writable(path)?;
        let mut options = OpenOptions::new();
        options.write(true);
        match how {
            Writing::Truncate => options.create(true).truncate(true),
            Writing::Append => options.create(true).append(true),
            Writing::Fresh { mode } => {
                match mounted.dir.symlink_metadata(&rest) {
                    Ok(metadata) if metadata.is_dir() => return Err(IS_DIRECTORY.into()),
                    Ok(_) => told(mounted.dir.remove_file(&rest))?,
                    Err(_) => {}
                }
                options.create_new(true).mode(mode)
            }
        };
        let file = plain(mounted, &rest, &mut options)?;
        if let Writing::Fresh { mode } = how {
            told(file.set_permissions(Permissions::from_mode(mode)))?;
        }
        Ok(file)
    }

    pub(super) fn make_dir(&self, path: &str) -> Result<(), Refused> {
        if self.about(path, false).is_ok() {
            return Err("File exists".into());
        }
        let (mounted, rest) = self.writable(path)?;
        told(mounted.dir.create_dir(&rest))
    }

    /// A link whose target is checked by the caller.
    pub(super) fn make_link(&self, target: &str, path: &str) -> Result<(), Refused> {
        let (mounted, rest) = self.writable(path)?;
        if mounted
            .dir
            .symlink_metadata(&rest)
            .is_ok_and(|metadata| !metadata.is_dir())
        {
            told(mounted.dir.remove_file(&rest))?;
        }
        told(mounted.dir.symlink(target, &rest))
    }

    pub(super) fn link_target(&self, path: &str) -> Result<String, Refused> {
        match self.place(path)? {
            Place::Name => Err("Invalid argument".into()),
            Place::In(mounted, rest) => {
                told(mounted.dir.read_link_contents(&rest)).map(|target| target.to_string_lossy().into_owned())
            }
        }
    }

    /// Removes a file, or an empty directory. Mounts themselves stay.
    pub(super) fn remove(&self, path: &str, directory: bool) -> Result<(), Refused> {
        let (mounted, rest) = self.writable(path)?;
        if rest == Path::new(".") || !self.names_below(path).is_empty() {
            return Err("Device or resource busy".into());
        }
        told(match directory {
            true => mounted.dir.remove_dir(&rest),
            false => mounted.dir.remove_file(&rest),
        })
    }

    pub(super) fn spaces(&self) -> Vec<Space> {
        let space = |mounted: &Mounted| {
            let found = rustix::fs::fstatvfs(&mounted.dir).ok()?;
            Some(Space {
                path: if mounted.path.is_empty() {
                    "/".into()
                } else {
                    mounted.path.clone()
                },
                read_only: mounted.read_only,
                total: found.f_blocks * found.f_frsize,
                free: found.f_bavail * found.f_frsize,
            })
        };
        self.0.iter().filter_map(space).collect()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Writing {
    Truncate,
    Append,
    /// What was there is removed first, so that no link is followed.
    Fresh {
        mode: u32,
    },
}

fn plain(mounted: &Mounted, rest: &Path, options: &mut OpenOptions) -> Result<File, Refused> {
    // A named pipe would make us wait for its other end.
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = told(mounted.dir.open_with(rest, options))?;
    let metadata = told(file.metadata())?;
    match metadata {
        metadata if metadata.is_file() => Ok(file),
        metadata if metadata.is_dir() => Err(IS_DIRECTORY.into()),
        _ => Err("not a regular file".into()),
    }
}
