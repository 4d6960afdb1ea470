//! Durations: Go's text (`1h0m0s`, metav1.Duration) and kubectl's short form for ages (`5m3s`, `2d4h`).

const NANOS: [(&str, i128); 8] = [
    // Longer units first, so that `ms` is not read as `m`.
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The age column of kubectl and of our tables: two units while they matter, then one.
pub fn human_duration(seconds: i64) -> String {
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        // A second of difference between two clocks is still "now".
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// Nanoseconds of a Go duration text such as `1h15m30.918s` or `-1.5h`; none if it is no such text or does not fit.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        let (unit, nanos) = NANOS.iter().find(|(unit, _)| {
            after
                .strip_prefix(unit)
                .is_some_and(|next| next.is_empty() || next.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        })?;
        let mut value = if whole.is_empty() {
            0
        } else {
            whole.parse::<i128>().ok()? * nanos
        };
        let mut place = *nanos;
        for digit in fraction.bytes() {
            place /= 10;
            value += i128::from(digit - b'0') * place;
        }
        total += value;
        if total > 1 << 63 {
            return None;
        }
        rest = &after[unit.len()..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Nanoseconds as Go writes a duration: `0s`, `1.5µs`, `1h0m0s`.
pub fn format_go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let decimal = |unit: u64| {
        let (whole, part) = (nanos / unit, nanos % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{part:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        if part == 0 {
            whole.to_string()
        } else {
            format!("{whole}.{fraction}")
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(1_000_000_000);
            // `decimal` gives all seconds; only those of the last minute are wanted.
            let fraction = seconds.split_once('.').map_or(String::new(), |(_, f)| format!(".{f}"));
            let seconds = nanos / 1_000_000_000 % 60;
            match minutes {
                0 => format!("{sign}{seconds}{fraction}s"),
                1..60 => format!("{sign}{minutes}m{seconds}{fraction}s"),
                _ => format!("{sign}{}h{}m{seconds}{fraction}s", minutes / 60, minutes % 60),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (303, "5m3s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (8 * 3600, "8h"),
            (48 * 3600, "2d"),
            (52 * 3600, "2d4h"),
            (8 * 86_400, "8d"),
            (2 * 365 * 86_400, "2y"),
            (800 * 86_400, "2y70d"),
            (9 * 365 * 86_400, "9y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn go_durations_are_read_and_written() {
        let cases = [
            ("0", "0s"),
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("-1m", "-1m0s"),
            ("1500ms", "1.5s"),
            ("1500us", "1.5ms"),
            ("1.5us", "1.5µs"),
            (".5s", "500ms"),
            ("1h15m30.918s", "1h15m30.918s"),
            ("7ns", "7ns"),
        ];
        for (text, canonical) in cases {
            assert_eq!(
                parse_go_duration(text).map(format_go_duration).as_deref(),
                Some(canonical),
                "{text}"
            );
        }
        for text in [
            "",
            "-",
            "1",
            "h",
            "1.s.",
            "1d",
            ".",
            "3000000h",
            "1h1",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_go_duration(text), None, "{text}");
        }
    }
}
