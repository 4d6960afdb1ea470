//! Times and durations as Kubernetes writes them. No clock here: the time is always an argument.
//!
//! Seconds are seconds since 1970-01-01T00:00:00Z and may be negative; years are 0000 to 9999, as in Go's RFC 3339.

mod duration;

pub use duration::{format_go_duration, human_duration, parse_go_duration};

/// Layouts as Go names them in its error texts.
pub(crate) const RFC3339_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
pub(crate) const RFC3339_MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Go's zero time, 0001-01-01T00:00:00Z, which Kubernetes treats as "not set".
pub const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// What RFC 3339 can write: years 0000 to 9999.
pub(crate) const RFC3339_SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// `2006-01-02T15:04:05Z` (metav1.Time).
pub fn format_rfc3339(seconds: i64) -> String {
    let mut out = civil(seconds);
    out.push('Z');
    out
}

/// `2006-01-02T15:04:05.000000Z` (metav1.MicroTime), from microseconds since 1970.
pub fn format_micro(micros: i64) -> String {
    let mut out = civil(micros.div_euclid(MICROS_PER_SECOND));
    out.push_str(&format!(".{:06}Z", micros.rem_euclid(MICROS_PER_SECOND)));
    out
}

/// Seconds of an RFC 3339 time with any offset; a fraction is cut off.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    parse(text).map(|time| time.seconds)
}

/// Microseconds of an RFC 3339 time; what is finer is cut off.
pub fn parse_rfc3339_micros(text: &str) -> Option<i64> {
    let time = parse(text)?;
    Some(time.seconds * MICROS_PER_SECOND + i64::from(time.nanos / 1000))
}

/// A parsed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
    /// Digits of the fraction, 0 if there is none.
    pub(crate) fraction_digits: usize,
}

pub(crate) fn parse(text: &str) -> Option<Parsed> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        bytes[from..to].iter().try_fold(0i64, |sum, b| {
            b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0'))
        })
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| bytes[at] != byte) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &bytes[19..];
    let (mut nanos, mut fraction_digits) = (0u32, 0);
    if matches!(rest[0], b'.' | b',') {
        fraction_digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if fraction_digits == 0 {
            return None;
        }
        for at in 0..9 {
            let digit = if at < fraction_digits { rest[1 + at] - b'0' } else { 0 };
            nanos = nanos * 10 + u32::from(digit);
        }
        rest = &rest[1 + fraction_digits..];
    }
    let offset = match rest {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => {
            let (hours, minutes) = ((h1 - b'0') * 10 + (h2 - b'0'), (m1 - b'0') * 10 + (m2 - b'0'));
            if hours > 24 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day);
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Parsed {
        seconds,
        nanos,
        fraction_digits,
    })
}

/// Parses as Go's `time.Parse` with one of the two layouts; the error is Go's text.
pub(crate) fn go_parse(text: &str, layout: &str) -> Result<Parsed, String> {
    let micro = layout == RFC3339_MICRO_LAYOUT;
    match parse(text) {
        // The layout with six zeros wants exactly six digits; the other takes any.
        Some(time) if !micro || time.fraction_digits == 6 => Ok(time),
        _ => Err(go_error(text, layout, micro)),
    }
}

/// Finds the part of the layout that the text fails at.
fn go_error(text: &str, layout: &str, micro: bool) -> String {
    const PARTS: [(&str, usize); 11] = [
        ("2006", 4),
        ("-", 1),
        ("01", 2),
        ("-", 1),
        ("02", 2),
        ("T", 1),
        ("15", 2),
        (":", 1),
        ("04", 2),
        (":", 1),
        ("05", 2),
    ];
    let cannot =
        |rest: &str, part: &str| format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}");
    let mut rest = text;
    for (part, length) in PARTS {
        let fits = rest.get(..length).is_some_and(|piece| {
            if length == 1 {
                piece == part
            } else {
                piece.bytes().all(|b| b.is_ascii_digit())
            }
        });
        if !fits {
            return cannot(rest, part);
        }
        let number: u32 = rest[..length].parse().unwrap_or(0);
        let out_of_range = match part {
            "01" if !(1..=12).contains(&number) => Some("month"),
            "15" if number > 23 => Some("hour"),
            "04" if number > 59 => Some("minute"),
            "05" if number > 59 => Some("second"),
            _ => None,
        };
        if let Some(name) = out_of_range {
            return format!("parsing time {text:?}: {name} out of range");
        }
        rest = &rest[length..];
    }
    let digits = rest
        .strip_prefix(['.', ','])
        .map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
    if micro && digits != 6 {
        return cannot(rest, ".000000");
    }
    let zone = if digits > 0 { &rest[1 + digits..] } else { rest };
    let zone_ok =
        zone.starts_with('Z') || (zone.len() >= 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':');
    let zone_length = if zone.starts_with('Z') { 1 } else { 6 };
    match zone.get(zone_length..) {
        Some(extra) if zone_ok && !extra.is_empty() => format!("parsing time {text:?}: extra text: {extra:?}"),
        Some(_) if zone_ok => format!("parsing time {text:?}: day out of range"),
        _ => cannot(zone, "Z07:00"),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, counted in years that begin in March, so that
/// the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2006-01-02T15:04:05`.
fn civil(seconds: i64) -> String {
    let days = seconds.div_euclid(SECONDS_PER_DAY) + 719_468;
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_with_any_offset_and_written_in_utc() {
        let normal = |text| parse_rfc3339(text).map(format_rfc3339);
        assert_eq!(normal("1970-01-01T00:00:00Z").as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(
            normal("2024-02-29T23:59:59.999Z").as_deref(),
            Some("2024-02-29T23:59:59Z")
        );
        assert_eq!(
            normal("2024-03-01T01:30:00+02:00").as_deref(),
            Some("2024-02-29T23:30:00Z")
        );
        assert_eq!(normal("0001-01-01T00:00:00Z").as_deref(), Some("0001-01-01T00:00:00Z"));
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(GO_ZERO_SECONDS));
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for text in [
            "",
            "now",
            "2023-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00Zx",
            "２０２４-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn micro_times_keep_six_digits() {
        assert_eq!(parse_rfc3339_micros("1970-01-01T00:00:01.1234567Z"), Some(1_123_456));
        assert_eq!(format_micro(1_123_456), "1970-01-01T00:00:01.123456Z");
        assert_eq!(format_micro(-1), "1969-12-31T23:59:59.999999Z");
    }

    proptest! {
        #[test]
        fn every_second_of_ten_thousand_years_comes_back(seconds in -62_167_219_200i64..=253_402_300_799) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(seconds)), Some(seconds));
        }
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            parse_rfc3339(&text);
            parse_go_duration(&text);
        }
    }
}
