//! Gives back the program's own pages that only the start needed.
//!
//! A fault maps 64 KiB of code around it, and what is mapped stays mapped while memory is plenty: an idle agent or worker
//! would hold 15 MB of code that it ran once. Unmapping keeps the pages in the page cache; code that runs again is mapped
//! again by a soft fault.

use std::ffi::c_void;
use std::io::BufRead;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often a process is looked at until it has been quiet once, and from then on.
const FIRST_LOOKS: Duration = Duration::from_secs(2);
const LATER_LOOKS: Duration = Duration::from_secs(30);
/// CPU time between two looks below which a process is quiet …
const QUIET: Duration = Duration::from_millis(60);
/// … and that it must have used since the last time for another to be worth it.
const WORTH_IT: Duration = Duration::from_secs(2);

/// Starts a thread that gives the pages back whenever the process has become quiet.
pub fn watch() {
    let watching = std::thread::Builder::new()
        .name("idle".to_owned())
        .stack_size(64 << 10)
        .spawn(run);
    if let Err(error) = watching {
        tracing::debug!(%error, "pages of the start are kept: no thread");
    }
}

fn run() {
    let (mut looks, mut before, mut given_back) = (FIRST_LOOKS, Duration::ZERO, None);
    loop {
        std::thread::sleep(looks);
        let now = cpu_time();
        let worth_it = given_back.is_none_or(|then| now.saturating_sub(then) > WORTH_IT);
        if worth_it && now.saturating_sub(before) < QUIET {
            give_back();
            looks = LATER_LOOKS;
            given_back = Some(now);
        }
        before = now;
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn give_back() {
    let Ok(file) = std::fs::File::open("/proc/self/smaps") else {
        return;
    };
    let Ok(program) = std::env::current_exe() else { return };
    let lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
    for (start, length) in unchanged(lines, &program.to_string_lossy()) {
        #[expect(unsafe_code, reason = "there is no safe way to drop a mapping's pages")]
        // SAFETY: these are private file mappings without a page of their own, so whoever reads them next, this thread
        // included, gets the same bytes from the same file, which cannot be written to while it runs.
        let _ = unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

/// (start, length) of the program's mappings that cannot be written to and have no changed pages (relocated data has).
fn unchanged(lines: impl Iterator<Item = String>, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in lines {
        if let Some(kilobytes) = line.strip_prefix("Anonymous:") {
            if kilobytes.trim() == "0 kB" {
                found.extend(current);
            }
            current = None;
        } else if let Some(mapping) = header(&line) {
            let (range, access, path) = mapping;
            if path != program && !found.is_empty() {
                // The program's mappings are neighbours; a worker has thousands of others.
                break;
            }
            current = (path == program && matches!(access, "r-xp" | "r--p")).then_some(range);
        }
    }
    found
}

/// `START-END ACCESS OFFSET DEVICE INODE   PATH` → ((start, length), access, path).
fn header(line: &str) -> Option<((usize, usize), &str, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    let path = rest.find('/').map_or("", |slash| &rest[slash..]);
    Some(((start, end.checked_sub(start)?), rest.split(' ').next()?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_mappings_of_the_program_are_given_back() {
        let smaps = "\
1000-3000 r--p 00000000 fe:00 11   /bin/skiff\nRss: 8 kB\nAnonymous: 0 kB\nVmFlags: rd\n\
3000-7000 r-xp 00002000 fe:00 11   /bin/skiff\nAnonymous:         0 kB\n\
7000-8000 r--p 00006000 fe:00 11   /bin/skiff\nAnonymous:         4 kB\n\
8000-9000 rw-p 00007000 fe:00 11   /bin/skiff\nAnonymous:         0 kB\n\
9000-a000 rw-p 00000000 00:00 0    [heap]\nAnonymous:         0 kB\n\
a000-b000 r-xp 00000000 fe:00 12   /lib/libc.so.6\nAnonymous:         0 kB\n";
        let found = unchanged(smaps.lines().map(str::to_owned), "/bin/skiff");
        assert_eq!(found, [(0x1000, 0x2000), (0x3000, 0x4000)]);
    }

    #[test]
    fn a_program_goes_on_after_giving_back() {
        give_back();
        assert!(cpu_time() > Duration::ZERO);
    }
}
