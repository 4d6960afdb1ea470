//! Packing: a walk over the files into headers and data.

use std::io::{Read, Write};

use tar::{EntryType, Header};

use super::super::files::{About, DEPTH_MAX, Kind, absolute, reason};
use super::super::table::shown;
use super::super::text::CHUNK;
use super::super::{Context, Failure, Outcome};
use super::{BLOCK, NAME_BYTES_MAX, Task};

/// GNU's name for an entry that holds the next one's name.
const LONG_NAME: &str = "././@LongLink";

struct Packer<'a> {
    context: &'a Context,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Something was left out.
    failed: bool,
}

pub(super) fn pack(
    context: &Context,
    task: &Task<'_>,
    directory: &str,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Outcome {
    let mut packer = Packer {
        context,
        out,
        err,
        failed: false,
    };
    let mut stripped = false;
    for path in &task.paths {
        let name = path.trim_start_matches('/').trim_end_matches('/');
        if name.split('/').any(|part| part == "..") {
            packer.skip(path, "names with .. are not packed")?;
            continue;
        }
        if path.starts_with('/') && !std::mem::replace(&mut stripped, true) {
            writeln!(packer.err, "tar: Removing leading `/' from member names")?;
        }
        packer.add(&absolute(directory, path), if name.is_empty() { "." } else { name }, 0)?;
    }
    packer.out.write_all(&[0; 2 * BLOCK])?;
    packer.out.flush()?;
    if packer.failed {
        writeln!(packer.err, "tar: Exiting with failure status due to previous errors")?;
    }
    // GNU tar's code for errors that did not stop it.
    Ok(if packer.failed { 2 } else { 0 })
}

impl Packer<'_> {
    fn skip(&mut self, path: &str, why: &str) -> Result<(), Failure> {
        self.failed = true;
        Ok(writeln!(self.err, "tar: {}: {why}", shown(path))?)
    }

    fn add(&mut self, path: &str, name: &str, depth: usize) -> Result<(), Failure> {
        if self.context.console.is_cancelled() {
            return Err(Failure::Broken);
        }
        if name.len() > NAME_BYTES_MAX || depth > DEPTH_MAX {
            return self.skip(path, "directories are nested too deeply");
        }
        // No link is followed: it is packed as one.
        let about = match self.context.files.about(path, false) {
            Ok(about) => about,
            Err(why) => return self.skip(path, &format!("Cannot stat: {why}")),
        };
        match about.kind {
            Kind::Other => self.skip(path, "special files are not packed"),
            Kind::Link => match self.context.files.link_target(path) {
                Ok(target) => self.head(name, &about, EntryType::Symlink, 0, &target),
                Err(why) => self.skip(path, &why),
            },
            Kind::File => self.file(path, name, &about),
            Kind::Dir => {
                self.head(&format!("{name}/"), &about, EntryType::Directory, 0, "")?;
                let (entries, more) = match self.context.files.list(path) {
                    Ok(listed) => listed,
                    Err(why) => return self.skip(path, &why),
                };
                for entry in entries {
                    self.add(
                        &absolute(path, &entry.name),
                        &format!("{name}/{}", entry.name),
                        depth + 1,
                    )?;
                }
                match more {
                    true => self.skip(path, "the directory has too many entries"),
                    false => Ok(()),
                }
            }
        }
    }

    fn file(&mut self, path: &str, name: &str, about: &About) -> Result<(), Failure> {
        let mut file = match self.context.files.read(path) {
            Ok(file) => file,
            Err(why) => return self.skip(path, &format!("Cannot open: {why}")),
        };
        self.head(name, about, EntryType::Regular, about.size, "")?;
        // Exactly what the header says, however the file changes meanwhile.
        let mut left = about.size;
        let mut chunk = vec![0; CHUNK];
        let mut problem = None;
        while left > 0 {
            if self.context.console.is_cancelled() {
                return Err(Failure::Broken);
            }
            let most = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            let count = match file.read(&mut chunk[..most]) {
                Ok(0) => {
                    problem.get_or_insert("File shrank; padding with zeros".to_owned());
                    chunk[..most].fill(0);
                    most
                }
                Ok(count) => count,
                Err(error) => {
                    problem.get_or_insert(reason(&error));
                    chunk[..most].fill(0);
                    most
                }
            };
            self.out.write_all(&chunk[..count])?;
            left -= count as u64;
        }
        self.pad(about.size)?;
        match problem {
            Some(why) => self.skip(path, &why),
            None => Ok(()),
        }
    }

    fn pad(&mut self, size: u64) -> Result<(), Failure> {
        let over = (size % BLOCK as u64) as usize;
        if over > 0 {
            self.out.write_all(&[0; BLOCK][over..])?;
        }
        Ok(())
    }

    fn head(&mut self, name: &str, about: &About, kind: EntryType, size: u64, target: &str) -> Result<(), Failure> {
        let mut header = Header::new_gnu();
        if target.len() > 100 {
            self.long(EntryType::GNULongLink, target)?;
        } else if !target.is_empty() && header.set_link_name_literal(target).is_err() {
            return Err(Failure::Told(format!("{name}: the link's target cannot be packed")));
        }
        let field = &mut header.as_old_mut().name;
        if name.len() > field.len() {
            field.copy_from_slice(&name.as_bytes()[..100]);
            self.long(EntryType::GNULongName, name)?;
        } else {
            field[..name.len()].copy_from_slice(name.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(about.mode);
        header.set_mtime(about.modified.max(0) as u64);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        Ok(())
    }

    /// An entry with a name that does not fit into the next header.
    fn long(&mut self, kind: EntryType, name: &str) -> Result<(), Failure> {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..LONG_NAME.len()].copy_from_slice(LONG_NAME.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(name.len() as u64 + 1);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(name.len() as u64 + 1)
    }
}
