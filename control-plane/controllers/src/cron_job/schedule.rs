//! Which of a schedule's times is to be served now, and when the next one comes, without walking through years of
//! missed times.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use skiff_api::cron::Schedule;

/// More missed times than this are worth a warning (Kubernetes' 100): a clock has jumped, or nobody looked for long.
const MISSED_MANY: i64 = 100;
/// Time over which a key is woken after its time, so that the clock has surely passed it (Kubernetes' 100 ms).
const SLACK: Duration = Duration::from_millis(100);

/// The last time that has come and was not served.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) time: Option<Timestamp>,
    pub(super) too_many: bool,
}

impl Due {
    /// `last`: when it was served last, or made. `deadline`: older times are given up, seconds.
    pub(super) fn at(times: &Schedule, zone: &TimeZone, last: Timestamp, deadline: Option<i64>, now: Timestamp) -> Due {
        let too_old = deadline.and_then(|seconds| Timestamp::from_second(now.as_second() - seconds).ok());
        most_recent(times, zone, too_old.map_or(last, |limit| limit.max(last)), now)
    }
}

fn most_recent(times: &Schedule, zone: &TimeZone, earliest: Timestamp, now: Timestamp) -> Due {
    let Some(first) = times.next(earliest, zone).filter(|first| *first <= now) else {
        return Due::default();
    };
    let Some(second) = times.next(first, zone).filter(|second| *second <= now) else {
        return Due {
            time: Some(first),
            too_many: false,
        };
    };
    let step = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / step + 1;
    let time = match times {
        Schedule::Every(_) => Timestamp::from_second(first.as_second() + (missed - 1) * step).ok(),
        Schedule::Calendar(_) => last_until(times, zone, first, now),
    };
    Due {
        time,
        too_many: missed > MISSED_MANY,
    }
}

/// The last time until `now`, given that there is one after `first`: the later one asks, the later the next time is, so
/// the question is halved again and again.
fn last_until(times: &Schedule, zone: &TimeZone, first: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let (mut low, mut high) = (first.as_second(), now.as_second());
    let next = |second: i64| {
        times
            .next(Timestamp::from_second(second).ok()?, zone)
            .filter(|next| *next <= now)
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if next(middle).is_some() {
            low = middle;
        } else {
            high = middle;
        }
    }
    next(low)
}

/// How long until the next time; none if it never comes.
pub(super) fn until_next(times: &Schedule, zone: &TimeZone, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let from = match most_recent(times, zone, last, now).time {
        Some(time) => time,
        // Periods count from the last time; for the others it makes no difference.
        None => last,
    };
    let next = times.next(from, zone)?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO) + SLACK)
}
