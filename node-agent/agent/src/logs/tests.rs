//! Logs as containers leave them: rotated, cut, and still being written.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;

struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("0.log")
    }

    fn write(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Whole stdout lines, one second apart from `second` on.
    fn lines(&self, second: u32, lines: &[&str]) {
        for (at, line) in (second..).zip(lines) {
            self.write(&format!("2026-01-01T00:00:{at:02}.000000001Z stdout F {line}\n"));
        }
    }

    fn rotate(&self) {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path().display()));
        for number in (1..4).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(self.path(), numbered(1)).unwrap();
    }

    fn open(&self, options: Options) -> Reader {
        Reader::open(self.directory.path(), 0, options).unwrap()
    }

    fn read(&self, options: Options) -> String {
        rest(&mut self.open(options))
    }
}

fn rest(reader: &mut Reader) -> String {
    let mut all = Vec::new();
    loop {
        let mut chunk = Vec::new();
        let more = reader.read(&mut chunk).unwrap();
        all.extend_from_slice(&chunk);
        if chunk.is_empty() || !more {
            return String::from_utf8(all).unwrap();
        }
    }
}

#[test]
fn a_reader_that_follows_misses_nothing_when_files_rotate_more_than_once() {
    let log = Log::new();
    let mut reader = log.open(Options::default());
    assert_eq!(rest(&mut reader), "");
    log.lines(0, &["a", "b"]);
    assert_eq!(rest(&mut reader), "a\nb\n");
    log.lines(2, &["c"]);
    log.rotate();
    log.lines(3, &["d"]);
    log.rotate();
    assert_eq!(rest(&mut reader), "c\nd\n");
    log.lines(4, &["e"]);
    assert_eq!(rest(&mut reader), "e\n");
    log.rotate();
    assert_eq!(rest(&mut reader), "");
    log.lines(5, &["f"]);
    assert_eq!(rest(&mut reader), "f\n");
}

#[test]
fn all_rotated_files_are_read_and_counted_for_the_tail() {
    let log = Log::new();
    log.lines(0, &["a", "b"]);
    log.rotate();
    log.lines(2, &["c", "d"]);
    log.rotate();
    log.lines(4, &["e"]);
    let tail = |lines| {
        log.read(Options {
            tail_lines: Some(lines),
            ..Options::default()
        })
    };
    assert_eq!(log.read(Options::default()), "a\nb\nc\nd\ne\n");
    assert_eq!(tail(0), "");
    assert_eq!(tail(1), "e\n");
    assert_eq!(tail(2), "d\ne\n");
    assert_eq!(tail(4), "b\nc\nd\ne\n");
    assert_eq!(tail(99), "a\nb\nc\nd\ne\n");
}

#[test]
fn pieces_of_a_line_are_joined_and_stamped_once() {
    let log = Log::new();
    log.write("2026-01-01T00:00:00.5Z stdout P one \n2026-01-01T00:00:01.5Z stdout P line\n");
    log.write("2026-01-01T00:00:02.5Z stdout F \n2026-01-01T00:00:03.5Z stderr F other\n");
    assert_eq!(log.read(Options::default()), "one line\nother\n");
    let stamped = log.read(Options {
        timestamps: true,
        ..Options::default()
    });
    assert_eq!(
        stamped,
        "2026-01-01T00:00:00.5Z one line\n2026-01-01T00:00:03.5Z other\n"
    );
    let errors = log.read(Options {
        stream: Some("stderr"),
        ..Options::default()
    });
    assert_eq!(errors, "other\n");
}

#[test]
fn a_record_is_shown_when_it_is_whole() {
    let log = Log::new();
    log.write("2026-01-01T00:00:00Z stdout F half");
    let mut reader = log.open(Options::default());
    assert_eq!(rest(&mut reader), "");
    log.write(" and half\n");
    assert_eq!(rest(&mut reader), "half and half\n");
}

#[test]
fn since_and_limit_cut_as_asked() {
    let log = Log::new();
    log.lines(0, &["a", "b", "c"]);
    let since = Some("2026-01-01T00:00:01Z".parse().unwrap());
    assert_eq!(
        log.read(Options {
            since,
            ..Options::default()
        }),
        "b\nc\n"
    );
    assert_eq!(
        log.read(Options {
            limit_bytes: Some(3),
            ..Options::default()
        }),
        "a\nb"
    );
    assert_eq!(
        log.read(Options {
            limit_bytes: Some(0),
            ..Options::default()
        }),
        ""
    );
}

#[test]
fn long_tails_are_found_across_blocks() {
    let log = Log::new();
    let line = "x".repeat(1000);
    for _ in 0..300 {
        log.lines(0, &[&line]);
    }
    let text = log.read(Options {
        tail_lines: Some(250),
        ..Options::default()
    });
    assert_eq!(text.lines().count(), 250);
    assert_eq!(tail(log.directory.path(), 0, 80, 2048).len(), 2048);
}

#[test]
fn a_tail_that_does_not_follow_is_no_longer_than_asked_for() {
    let log = Log::new();
    log.lines(0, &["a", "b", "c"]);
    let read = |follow| {
        let options = Options {
            tail_lines: Some(2),
            follow,
            ..Options::default()
        };
        let mut reader = Reader::open(log.directory.path(), 0, options).unwrap();
        // Written between the look for the tail and the reading.
        log.lines(10, &["late"]);
        let mut output = Vec::new();
        let _ = reader.read(&mut output).unwrap();
        String::from_utf8(output).unwrap()
    };
    assert_eq!(read(false), "b\nc\n");
    assert_eq!(read(true), "c\nlate\nlate\n");
}
