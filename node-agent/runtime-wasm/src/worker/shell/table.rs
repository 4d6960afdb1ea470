//! Columns, as kubectl prints them: padded to the widest cell, three spaces between.

use std::io::Write;

const GAP: usize = 3;

/// Writes rows under their heads; no heads = only rows.
pub(super) fn write(out: &mut dyn Write, heads: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let all = || std::iter::once(&heads).filter(|heads| !heads.is_empty()).chain(rows);
    let columns = all().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|n| {
            all()
                .filter_map(|row| row.get(n))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A text as a client's terminal may be shown it, where a guest or a stranger chose it: control characters could act on
/// the terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `17Mi`, `640Ki`, `12`: rounded down, in the unit that leaves at most four digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["", "Ki", "Mi", "Gi", "Ti"];
    let (mut count, mut unit) = (count, 0);
    while count >= 10_000 || (count >= 1024 && count.is_multiple_of(1024)) {
        if unit + 1 == UNITS.len() {
            break;
        }
        count /= 1024;
        unit += 1;
    }
    format!("{count}{}", UNITS[unit])
}

/// `3d4h`, `5m7s`, `12s`, `40ms`: the two largest units.
pub(super) fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.subsec_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// CPU time with milliseconds: `12.345s`.
pub(super) fn cpu(time: std::time::Duration) -> String {
    format!("{}.{:03}s", time.as_secs(), time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_short() {
        let told: Vec<String> = [0, 1023, 1024, 1025, 10_000, 65_536, 3 << 20, (3 << 20) + 1, u64::MAX]
            .map(bytes)
            .into();
        assert_eq!(
            told,
            ["0", "1023", "1Ki", "1025", "9Ki", "64Ki", "3Mi", "3Mi", "16777215Ti"]
        );
        let ages = [0, 59, 61, 3661, 90_000].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(ages, ["0ms", "59s", "1m1s", "1h1m", "1d1h"]);
    }
}
