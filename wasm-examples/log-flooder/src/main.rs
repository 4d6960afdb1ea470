//! log-flooder: prints as fast as it can. For seeing the log rate limit and rotation.

use std::io::Write;

fn main() {
    let mut out = std::io::stdout().lock();
    for line in 0_u64.. {
        if writeln!(out, "line {line} of a flood that nobody will ever read in full").is_err() {
            return;
        }
    }
}
