//! A container's stdout and stderr: CRI records (`<RFC 3339 nano> stdout F line`) in `<log_dir>/<container>/<attempt>.log`.
//!
//! At `LOG_FILE_BYTES_MAX` the file becomes `<attempt>.log.1`, that `.2`, and so on; `LOG_FILES_MAX` are kept. A reader
//! that follows the path sees a new inode. A container that writes faster than `skiff.dev/log-rate` loses lines, and
//! a record says how many. Writes go to the page cache on the guest's own thread and are charged to the guest.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::bounds::Bounds;
use super::hits::{Hits, Limit};
use super::taps::Taps;
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn tag(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one container attempt.
pub(crate) struct ContainerLog {
    path: PathBuf,
    /// Bytes per second, and how many may be saved up.
    rate: u64,
    burst: u64,
    state: Mutex<State>,
    /// Who is attached.
    pub(crate) taps: Arc<Taps>,
    hits: Arc<Hits>,
}

struct State {
    /// Opened at the first record: idle containers hold no descriptor.
    file: Option<File>,
    size: u64,
    /// Bytes that may be written now.
    tokens: u64,
    refilled: Instant,
    dropped: u64,
    /// Bytes in rotated files, for the ephemeral storage limit.
    rotated: u64,
}

impl ContainerLog {
    /// Makes the directory and an empty file, so that readers find one.
    pub(crate) fn create(
        log_dir: &Path,
        container: &str,
        attempt: u32,
        bounds: &Bounds,
        hits: Arc<Hits>,
    ) -> std::io::Result<Self> {
        let directory = log_dir.join(container);
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{attempt}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        let state = State {
            file: None,
            size,
            tokens: bounds.log_burst,
            refilled: Instant::now(),
            dropped: 0,
            rotated: 0,
        };
        Ok(Self {
            path,
            rate: bounds.log_rate,
            burst: bounds.log_burst,
            state: Mutex::new(state),
            taps: Arc::default(),
            hits,
        })
    }

    /// Writes whole lines; `partial` marks a piece of a line that goes on.
    pub(super) fn write(&self, stream: Stream, lines: &[(&[u8], bool)]) {
        let mut state = self.state.lock().expect("no panic happens while a log is held");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = Stamp::new(now.as_secs() as i64, now.subsec_nanos());
        let mut records = Vec::with_capacity(lines.iter().map(|(l, _)| l.len() + 48).sum());
        for (line, partial) in lines {
            let cost = line.len() as u64 + 48;
            if !state.admit(cost, self.rate, self.burst) {
                state.dropped += 1;
                self.hits.count(Limit::LogRate);
                continue;
            }
            if state.dropped > 0 {
                let dropped = std::mem::take(&mut state.dropped);
                let text = format!(
                    "skiff: {dropped} log lines dropped (more than {} bytes per second)",
                    self.rate
                );
                stamp.record(&mut records, Stream::Stderr, false, text.as_bytes());
            }
            stamp.record(&mut records, stream, *partial, line);
        }
        if !records.is_empty() {
            self.append(&mut state, &records);
        }
    }

    /// A line of the runtime's own: why the container ended, which request failed.
    pub(crate) fn note(&self, text: &str) {
        let lines: Vec<(&[u8], bool)> = text.lines().map(|line| (line.as_bytes(), false)).collect();
        self.write(Stream::Stderr, &lines);
    }

    /// A full disk loses log lines, never the container.
    fn append(&self, state: &mut State, records: &[u8]) {
        if state.size > 0 && state.size + records.len() as u64 > limits::LOG_FILE_BYTES_MAX {
            self.rotate(state);
        }
        if state.file.is_none() {
            state.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        }
        if let Some(file) = &mut state.file
            && file.write_all(records).is_ok()
        {
            state.size += records.len() as u64;
        }
    }

    fn rotate(&self, state: &mut State) {
        state.file = None;
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..limits::LOG_FILES_MAX - 1).rev() {
            let _ = std::fs::rename(numbered(n), numbered(n + 1));
        }
        let _ = std::fs::rename(&self.path, numbered(1));
        let kept = u64::from(limits::LOG_FILES_MAX - 1) * limits::LOG_FILE_BYTES_MAX;
        state.rotated = (state.rotated + state.size).min(kept);
        state.size = 0;
    }

    /// Says how many lines were dropped since the last record, and closes the file. Who is attached sees the end.
    pub(crate) fn finish(&self) {
        self.taps.close();
        let mut state = self.state.lock().expect("no panic happens while a log is held");
        if state.dropped > 0 {
            let text = format!(
                "skiff: {} log lines dropped (log rate limit)",
                std::mem::take(&mut state.dropped)
            );
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut records = Vec::new();
            Stamp::new(now.as_secs() as i64, now.subsec_nanos()).record(
                &mut records,
                Stream::Stderr,
                false,
                text.as_bytes(),
            );
            self.append(&mut state, &records);
        }
        state.file = None;
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state.lock().expect("no panic happens while a log is held");
        state.size + state.rotated
    }
}

impl State {
    fn admit(&mut self, cost: u64, rate: u64, burst: u64) -> bool {
        if self.tokens < cost {
            let earned = self.refilled.elapsed().as_micros() * u128::from(rate) / 1_000_000;
            if earned > 0 {
                self.tokens = self.tokens.saturating_add(earned as u64).min(burst);
                self.refilled = Instant::now();
            }
        }
        let admitted = self.tokens >= cost;
        if admitted {
            self.tokens -= cost;
        }
        admitted
    }
}

/// A time in RFC 3339 with nanoseconds, formatted once per write.
struct Stamp([u8; 30]);

impl Stamp {
    fn new(seconds: i64, nanos: u32) -> Self {
        let time = jiff::Timestamp::new(seconds, nanos as i32).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let mut text = [b'0'; 30];
        let formatted = format!("{time:.9}");
        let bytes = formatted.as_bytes();
        text[..bytes.len().min(30)].copy_from_slice(&bytes[..bytes.len().min(30)]);
        Self(text)
    }

    fn record(&self, out: &mut Vec<u8>, stream: Stream, partial: bool, line: &[u8]) {
        out.extend_from_slice(&self.0);
        out.push(b' ');
        out.extend_from_slice(stream.tag().as_bytes());
        out.extend_from_slice(if partial { b" P " } else { b" F " });
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_stream::LogStream;
    use super::*;

    fn bounds() -> Bounds {
        Bounds::of(&skiff_api::pod_settings::ContainerSettings::default())
    }

    fn written(directory: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(directory.join("web/0.log")).expect("log");
        text.lines()
            .map(|line| line.split_once(' ').expect("a time").1.to_owned())
            .collect()
    }

    #[test]
    fn lines_are_whole_whatever_the_writes() {
        let directory = tempfile::tempdir().expect("directory");
        let log = Arc::new(ContainerLog::create(directory.path(), "web", 0, &bounds(), Arc::default()).expect("log"));
        let out = LogStream::new(log.clone(), Stream::Stdout);
        out.accept(b"one\ntw");
        out.accept(b"o\n\nend");
        drop(out);
        assert_eq!(
            written(directory.path()),
            ["stdout F one", "stdout F two", "stdout F ", "stdout F end"]
        );
    }

    #[test]
    fn a_huge_line_is_cut_into_partial_records() {
        let directory = tempfile::tempdir().expect("directory");
        let log = Arc::new(ContainerLog::create(directory.path(), "web", 0, &bounds(), Arc::default()).expect("log"));
        let out = LogStream::new(log.clone(), Stream::Stderr);
        let line = vec![b'x'; limits::LOG_LINE_BYTES_MAX * 2];
        out.accept(&line);
        out.accept(b"y\n");
        let lines = written(directory.path());
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("stderr P x") && lines[1].starts_with("stderr P x"));
        assert_eq!(lines[2], "stderr F y");
    }

    #[test]
    fn a_flood_is_dropped_and_said_and_the_disk_is_bounded() {
        let directory = tempfile::tempdir().expect("directory");
        let log = Arc::new(ContainerLog::create(directory.path(), "web", 0, &bounds(), Arc::default()).expect("log"));
        let out = LogStream::new(log.clone(), Stream::Stdout);
        let line = [&[b'z'; 1000][..], b"\n"].concat();
        for _ in 0..30_000 {
            out.accept(&line);
        }
        log.finish();
        assert!(log.bytes() < limits::LOG_BURST_BYTES + 16 * limits::LOG_BYTES_PER_SECOND);
        // Not always in the last record: the very last line may have been let through again.
        let records = written(directory.path());
        assert!(records.iter().any(|record| record.contains("log lines dropped")));
    }

    #[test]
    fn full_files_are_rotated_and_the_oldest_go() {
        let directory = tempfile::tempdir().expect("directory");
        let log = ContainerLog::create(directory.path(), "web", 0, &bounds(), Arc::default()).expect("log");
        let mut state = log.state.lock().expect("state");
        for _ in 0..8 {
            log.append(&mut state, &vec![b'\n'; limits::LOG_FILE_BYTES_MAX as usize]);
        }
        let files = std::fs::read_dir(directory.path().join("web"))
            .expect("directory")
            .count();
        assert_eq!(files as u32, limits::LOG_FILES_MAX);
    }

    #[test]
    fn the_time_has_nine_digits() {
        assert_eq!(&Stamp::new(0, 7).0, b"1970-01-01T00:00:00.000000007Z");
    }
}
