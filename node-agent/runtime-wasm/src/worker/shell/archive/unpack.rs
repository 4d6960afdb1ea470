//! Unpacking. The archive is a stranger's: no name of it leads out of the directory, neither by itself nor through a link
//! that it made, and no length of it is believed before the bytes arrive.

use std::io::{Read, Write};

use tar::{EntryType, Header, PaxExtensions};

use super::super::console::Io;
use super::super::files::{Kind, Writing, absolute};
use super::super::table::shown;
use super::super::text::CHUNK;
use super::super::{Context, Failure, Outcome};
use super::{Act, BLOCK, NAME_BYTES_MAX, Task};

/// Longest extension record (`L`, `K`, `x`): names, and a few attributes that we do not look at.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Why a member is not unpacked.
const LEADS_OUT: &str = "the name leads out of the directory";

/// What extension records said about the next entry.
#[derive(Default)]
struct Extensions {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

/// One entry, its data not yet read.
struct Member {
    kind: EntryType,
    name: String,
    link: String,
    size: u64,
    mode: u32,
}

fn broken(why: &str) -> Failure {
    Failure::Told(format!("This does not look like a tar archive: {why}"))
}

fn text(bytes: &[u8]) -> Result<String, Failure> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) if text.len() <= NAME_BYTES_MAX => Ok(text.to_owned()),
        Ok(_) => Err(broken("a name is too long")),
        Err(_) => Err(broken("a name is not UTF-8")),
    }
}

/// A name relative to the directory, plain; None = it leads out. Empty = the directory itself.
pub(super) fn inside(name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// Whether a link at `name` to `target` stays inside the directory, by names alone.
pub(super) fn link_inside(name: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let mut depth = name.split('/').count() - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

struct Reader<'a> {
    context: &'a Context,
    file: &'a mut dyn Read,
}

impl Reader<'_> {
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let mut block = [0; BLOCK];
        let mut got = 0;
        while got < BLOCK {
            if self.context.console.is_cancelled() {
                return Err(Failure::Broken);
            }
            match self.file.read(&mut block[got..])? {
                0 if got == 0 => return Ok(None),
                0 => return Err(broken("it ends within an entry")),
                count => got += count,
            }
        }
        Ok(Some(block))
    }

    /// Hands on `size` bytes and passes over their padding.
    fn data(&mut self, size: u64, to: &mut dyn Write) -> Result<(), Failure> {
        let mut left = size;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            if self.context.console.is_cancelled() {
                return Err(Failure::Broken);
            }
            let most = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            match self.file.read(&mut chunk[..most])? {
                0 => return Err(broken("it ends within an entry")),
                count => {
                    to.write_all(&chunk[..count])?;
                    left -= count as u64;
                }
            }
        }
        let mut padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        while padding > 0 {
            match self.file.read(&mut chunk[..padding as usize])? {
                0 => return Err(broken("it ends within an entry")),
                count => padding -= count as u64,
            }
        }
        Ok(())
    }

    /// The next entry with what its extensions say; None at the end.
    fn member(&mut self) -> Result<Option<Member>, Failure> {
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let sum: u32 = block[..148]
                .iter()
                .chain(&block[156..])
                .map(|byte| u32::from(*byte))
                .sum();
            if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
                return Err(broken("a checksum is wrong"));
            }
            let size = header.entry_size().map_err(|_| broken("a size is not a number"))?;
            let kind = header.entry_type();
            let extension = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            if !extension {
                let Extensions { name, link, size: told } = extensions;
                return Ok(Some(Member {
                    kind,
                    name: name.map_or_else(|| text(&header.path_bytes()), Ok)?,
                    link: link.map_or_else(|| text(&header.link_name_bytes().unwrap_or_default()), Ok)?,
                    size: told.unwrap_or(size),
                    mode: header.mode().unwrap_or(0o644) & 0o777,
                }));
            }
            if size > EXTENSION_BYTES_MAX {
                return Err(broken("an extension record is too long"));
            }
            let mut record = Vec::new();
            self.data(size, &mut record)?;
            if kind.is_gnu_longname() {
                extensions.name = Some(text(&record)?);
            } else if kind.is_gnu_longlink() {
                extensions.link = Some(text(&record)?);
            } else if kind.is_pax_local_extensions() {
                for extension in PaxExtensions::new(&record) {
                    let extension = extension.map_err(|_| broken("a pax record is malformed"))?;
                    match extension.key_bytes() {
                        b"path" => extensions.name = Some(text(extension.value_bytes())?),
                        b"linkpath" => extensions.link = Some(text(extension.value_bytes())?),
                        b"size" => {
                            let size = text(extension.value_bytes())?.parse();
                            extensions.size = Some(size.map_err(|_| broken("a size is not a number"))?);
                        }
                        key if key.starts_with(b"GNU.sparse") => return Err(broken("sparse files are not known here")),
                        _ => {}
                    }
                }
            }
        }
    }
}

pub(super) fn unpack(context: &Context, task: &Task<'_>, directory: &str, file: &mut dyn Read, io: &mut Io) -> Outcome {
    let mut reader = Reader { context, file };
    let mut failed = false;
    while let Some(member) = reader.member()? {
        let wanted = task.paths.is_empty()
            || task.paths.iter().any(|path| {
                let rest = member.name.strip_prefix(path.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        if wanted && (task.verbose || task.act == Act::List) {
            writeln!(io.stdout, "{}", shown(&member.name))?;
        }
        if !wanted || task.act == Act::List {
            reader.data(member.size, &mut std::io::sink())?;
            continue;
        }
        match one(&mut reader, task, directory, &member) {
            Ok(()) => {}
            Err(Refusal::Member(why)) => {
                failed = true;
                writeln!(io.stderr, "tar: {}", shown(&format!("{}: {why}", member.name)))?;
                reader.data(member.size, &mut std::io::sink())?;
            }
            Err(Refusal::Archive(why)) => return Err(why),
        }
    }
    if failed {
        writeln!(io.stderr, "tar: Exiting with failure status due to previous errors")?;
    }
    Ok(if failed { 2 } else { 0 })
}

enum Refusal {
    /// This one is left out, its data unread; the others may follow.
    Member(String),
    Archive(Failure),
}

impl From<Failure> for Refusal {
    fn from(why: Failure) -> Self {
        Self::Archive(why)
    }
}

/// Errors: one of the directories on the way is a link, possibly of this very archive.
fn through_no_link(context: &Context, directory: &str, name: &str) -> Result<(), String> {
    for (end, _) in name.match_indices('/') {
        let above = absolute(directory, &name[..end]);
        if context
            .files
            .about(&above, false)
            .is_ok_and(|about| about.kind == Kind::Link)
        {
            return Err(format!("the name leads through the link {above}"));
        }
    }
    Ok(())
}

fn one(reader: &mut Reader<'_>, task: &Task<'_>, directory: &str, member: &Member) -> Result<(), Refusal> {
    let context = reader.context;
    let name = inside(&member.name).ok_or_else(|| Refusal::Member(LEADS_OUT.into()))?;
    let full = absolute(directory, &name);
    through_no_link(context, directory, &name).map_err(Refusal::Member)?;
    let parent = full
        .rsplit_once('/')
        .map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
    let of_member = |why: String| Refusal::Member(why);
    match member.kind {
        EntryType::Directory => {
            context.make_dirs(&full).map_err(of_member)?;
            Ok(reader.data(member.size, &mut std::io::sink())?)
        }
        EntryType::Regular | EntryType::Continuous => {
            context.make_dirs(parent).map_err(of_member)?;
            let kept = if task.keep_modes {
                member.mode
            } else {
                member.mode & 0o755
            };
            let mut file = context
                .create(&full, Writing::Fresh { mode: kept })
                .map_err(of_member)?;
            Ok(reader.data(member.size, &mut *file)?)
        }
        EntryType::Symlink => {
            if name.is_empty() || !link_inside(&name, &member.link) {
                return Err(of_member(format!(
                    "a link to {:?} leads out of the directory",
                    member.link
                )));
            }
            context.make_dirs(parent).map_err(of_member)?;
            context.files.make_link(&member.link, &full).map_err(of_member)?;
            Ok(reader.data(member.size, &mut std::io::sink())?)
        }
        EntryType::Link => Err(of_member("hard links are not unpacked".into())),
        _ => Err(of_member("special files are not unpacked".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(inside("./a//b/.").as_deref(), Some("a/b"));
        assert_eq!(inside("").as_deref(), Some(""));
        assert_eq!(inside("a..b/..c").as_deref(), Some("a..b/..c"));
        for out in ["/a", "..", "a/../..", "../a", "a/..", "a/b\0c"] {
            assert_eq!(inside(out), None, "{out}");
        }
    }

    #[test]
    fn links_stay_inside() {
        assert!(link_inside("a/b", "../c") && link_inside("a", "b/../c") && link_inside("a", "./b"));
        for (name, target) in [
            ("a", ".."),
            ("a/b", "../.."),
            ("a", "/etc"),
            ("a", "b/../../c"),
            ("a", ""),
        ] {
            assert!(!link_inside(name, target), "{name} -> {target}");
        }
    }
}
