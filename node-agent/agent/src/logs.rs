//! Reading container logs in the CRI format (`TIME STREAM TAG CONTENT`, one record a line), through rotation.
//!
//! A container's records lie in `<restart count>.log`, older ones in `<restart count>.log.1`, `.2`, …: rotation renames
//! each one up and starts a new file.

mod record;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use record::Record;

/// Output handed over in one piece: bounds what one reader holds.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// A record longer than this is cut: runtimes split lines at 16 KiB, so it is no record of theirs.
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Rotated files looked for.
const ROTATED_MAX: u32 = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) tail_lines: Option<usize>,
    /// Read on after the end. Without it `tail_lines` is also the most that is read, however fast the container writes.
    pub(crate) follow: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<usize>,
    /// `stdout` or `stderr` alone.
    pub(crate) stream: Option<&'static str>,
}

/// Reads on where it stopped; made for calling again and again while a container writes.
pub(crate) struct Reader {
    path: PathBuf,
    options: Options,
    /// Older files still to be read, oldest first.
    queue: VecDeque<File>,
    current: Option<BufReader<File>>,
    /// A record whose end was not written yet.
    pending: Vec<u8>,
    at_line_start: bool,
    left: Option<usize>,
    lines_left: Option<usize>,
}

impl Reader {
    /// Opens the log of one attempt. A file that is not there yet is an empty one.
    pub(crate) fn open(directory: &Path, attempt: u32, options: Options) -> io::Result<Self> {
        let path = directory.join(format!("{attempt}.log"));
        let mut files = open_all(&path)?;
        if let Some(lines) = options.tail_lines {
            seek_tail(&mut files, lines)?;
        }
        let left = options.limit_bytes;
        let lines_left = options.tail_lines.filter(|_| !options.follow);
        let mut queue: VecDeque<File> = files.into();
        let current = queue.pop_front().map(BufReader::new);
        Ok(Self {
            path,
            options,
            queue,
            current,
            pending: Vec::new(),
            at_line_start: true,
            left,
            lines_left,
        })
    }

    /// Adds what can be read now, about `CHUNK_BYTES` at most. False: a limit of bytes or lines is reached. An empty addition means
    /// that the end was reached for now.
    pub(crate) fn read(&mut self, output: &mut Vec<u8>) -> io::Result<bool> {
        while output.len() < CHUNK_BYTES {
            if self.left == Some(0) || self.lines_left == Some(0) {
                return Ok(false);
            }
            let Some(reader) = &mut self.current else {
                match self.next_file()? {
                    Some(file) => self.current = Some(BufReader::new(file)),
                    None => return Ok(true),
                }
                continue;
            };
            let allowed = RECORD_BYTES_MAX.saturating_sub(self.pending.len() as u64);
            let read = reader.by_ref().take(allowed).read_until(b'\n', &mut self.pending)?;
            let whole = self.pending.last() == Some(&b'\n') || self.pending.len() as u64 >= RECORD_BYTES_MAX;
            if whole {
                self.emit(output);
                self.pending.clear();
            } else if read == 0 && !self.go_on()? {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// At the end of a file: whether there is another one to go on with.
    fn go_on(&mut self) -> io::Result<bool> {
        match self.next_file()? {
            Some(file) => {
                // A record is never split over two files: what is pending was cut short by a crash.
                self.pending.clear();
                self.current = Some(BufReader::new(file));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn next_file(&mut self) -> io::Result<Option<File>> {
        if let Some(file) = self.queue.pop_front() {
            return Ok(Some(file));
        }
        let Some(reader) = &self.current else {
            return open_one(&self.path);
        };
        let ours = inode(reader.get_ref())?;
        match open_one(&self.path)? {
            Some(file) if inode(&file)? == ours => return Ok(None),
            _ => {}
        }
        // Rotated meanwhile, perhaps more than once: everything newer than our file is still to be read.
        let mut newer = Vec::new();
        for file in open_all(&self.path)?.into_iter().rev() {
            if inode(&file)? == ours {
                break;
            }
            newer.push(file);
        }
        self.queue = newer.into_iter().rev().collect();
        Ok(self.queue.pop_front())
    }

    fn emit(&mut self, output: &mut Vec<u8>) {
        let line = self.pending.strip_suffix(b"\n").unwrap_or(&self.pending);
        let Some(record) = Record::parse(line) else { return };
        if self
            .options
            .stream
            .is_some_and(|stream| stream.as_bytes() != record.stream)
        {
            return;
        }
        if self
            .options
            .since
            .is_some_and(|since| record.time().is_none_or(|time| time < since))
        {
            return;
        }
        let start = output.len();
        if self.options.timestamps && self.at_line_start {
            output.extend_from_slice(record.stamp);
            output.push(b' ');
        }
        output.extend_from_slice(record.content);
        if !record.partial {
            output.push(b'\n');
        }
        self.at_line_start = !record.partial;
        if let Some(lines) = self.lines_left.as_mut().filter(|_| !record.partial) {
            *lines -= 1;
        }
        if let Some(left) = &mut self.left {
            let taken = (output.len() - start).min(*left);
            output.truncate(start + taken);
            *left -= taken;
        }
    }
}

/// The last lines of a container's log, for its termination message. What cannot be read is left out.
pub(crate) fn tail(directory: &Path, attempt: u32, lines: usize, bytes: u64) -> String {
    let options = Options {
        tail_lines: Some(lines),
        ..Options::default()
    };
    let mut output = Vec::new();
    if let Ok(mut reader) = Reader::open(directory, attempt, options) {
        loop {
            let before = output.len();
            if reader.read(&mut output).is_err() || output.len() == before || output.len() >= CHUNK_BYTES {
                break;
            }
        }
    }
    let from = output
        .len()
        .saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    String::from_utf8_lossy(&output[from..]).into_owned()
}

fn inode(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

fn open_one(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All files of one attempt, oldest first. The newest is opened first: a rotation in between then shows a file twice,
/// which is left out, instead of hiding one.
fn open_all(path: &Path) -> io::Result<Vec<File>> {
    let mut files: Vec<File> = open_one(path)?.into_iter().collect();
    for number in 1..ROTATED_MAX {
        let Some(file) = open_one(&PathBuf::from(format!("{}.{number}", path.display())))? else {
            break;
        };
        let ours = inode(&file)?;
        if files.last().map(inode).transpose()? != Some(ours) {
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

/// Positions the files so that the last `lines` records are still to be read.
fn seek_tail(files: &mut Vec<File>, mut lines: usize) -> io::Result<()> {
    let mut first = files.len();
    while first > 0 && lines > 0 {
        first -= 1;
        let (found, at) = last_lines(&mut files[first], lines)?;
        files[first].seek(SeekFrom::Start(at))?;
        lines -= found;
    }
    if lines == 0 && first == files.len() {
        // `tailLines=0`: only what comes from now on.
        if let Some(newest) = files.last_mut() {
            newest.seek(SeekFrom::End(0))?;
        }
        first = first.saturating_sub(1);
    }
    files.drain(..first);
    Ok(())
}

/// How many of the last `lines` lines are in the file, and where they start. Read backwards, a block at a time.
fn last_lines(file: &mut File, lines: usize) -> io::Result<(usize, u64)> {
    let mut block = vec![0; CHUNK_BYTES];
    let mut start = file.metadata()?.len();
    let mut found = 0;
    let mut skip_last = true;
    while start > 0 {
        let length = start.min(CHUNK_BYTES as u64);
        start -= length;
        file.seek(SeekFrom::Start(start))?;
        let block = &mut block[..usize::try_from(length).expect("a block is 64 KiB at most")];
        file.read_exact(block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            // The newline that ends the file starts no line.
            if *byte != b'\n' || std::mem::take(&mut skip_last) {
                skip_last = false;
                continue;
            }
            found += 1;
            if found == lines {
                return Ok((found, start + at as u64 + 1));
            }
        }
    }
    let has_any = file.metadata()?.len() > 0;
    Ok((found + usize::from(has_any), 0))
}

#[cfg(test)]
mod tests;
