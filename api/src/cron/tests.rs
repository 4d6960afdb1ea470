//! Schedules: what is refused, and when the next times are.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next times of a schedule, in its zone.
fn times(schedule: &str, zone: &str, from: &str, count: usize, expected: Expect) {
    let zone = time_zone(zone).unwrap();
    let schedule = Schedule::parse(schedule).unwrap();
    let mut now = at(from);
    let mut text = String::new();
    for _ in 0..count {
        let Some(next) = schedule.next(now, &zone) else {
            text.push_str("never\n");
            break;
        };
        text.push_str(&next.to_zoned(zone.clone()).strftime("%a %F %R %:z\n").to_string());
        now = next;
    }
    expected.assert_eq(&text);
}

#[test]
fn what_is_no_schedule_is_told_why() {
    let mut text = String::new();
    for wrong in [
        "",
        "* * *",
        "* * * * * *",
        "99 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "5-2 * * * *",
        "*/0 * * * *",
        "1/2/3 * * * *",
        "1-2-3 * * * *",
        "x * * * *",
        "1,-3 * * * *",
        "*/x * * * *",
        "* * * mar-jan *",
        "99999999999999999999 * * * *",
        "@often",
        "@every soon",
        "TZ=Mars/Olympus * * * * *",
    ] {
        text.push_str(&format!("{wrong:?}: {}\n", Schedule::parse(wrong).unwrap_err()));
    }
    expect![[r#"
        "": empty spec string
        "* * *": expected exactly 5 fields, found 3: [* * *]
        "* * * * * *": expected exactly 5 fields, found 6: [* * * * * *]
        "99 * * * *": end of range (99) above maximum (59): 99
        "* 24 * * *": end of range (24) above maximum (23): 24
        "* * 0 * *": beginning of range (0) below minimum (1): 0
        "* * * 13 *": end of range (13) above maximum (12): 13
        "* * * * 7": end of range (7) above maximum (6): 7
        "5-2 * * * *": beginning of range (5) beyond end of range (2): 5-2
        "*/0 * * * *": step of range should be a positive number: */0
        "1/2/3 * * * *": too many slashes: 1/2/3
        "1-2-3 * * * *": too many hyphens: 1-2-3
        "x * * * *": failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax
        "1,-3 * * * *": failed to parse int from : strconv.Atoi: parsing "": invalid syntax
        "*/x * * * *": failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax
        "* * * mar-jan *": beginning of range (3) beyond end of range (1): mar-jan
        "99999999999999999999 * * * *": failed to parse int from 99999999999999999999: strconv.Atoi: parsing "99999999999999999999": value out of range
        "@often": unrecognized descriptor: @often
        "@every soon": failed to parse duration @every soon: time: invalid duration "soon"
        "TZ=Mars/Olympus * * * * *": provided bad location Mars/Olympus: unknown time zone Mars/Olympus
    "#]].assert_eq(&text);
}

#[test]
fn fields_ranges_lists_steps_and_names() {
    times(
        "*/20 9-17/4 * * mon-fri",
        "",
        "2026-01-02T13:10:00Z",
        5,
        expect![[r#"
        Fri 2026-01-02 13:20 +00:00
        Fri 2026-01-02 13:40 +00:00
        Fri 2026-01-02 17:00 +00:00
        Fri 2026-01-02 17:20 +00:00
        Fri 2026-01-02 17:40 +00:00
    "#]],
    );
    times(
        "5/20 0 1,15 jan,JUL ?",
        "",
        "2026-01-01T00:05:00Z",
        4,
        expect![[r#"
        Thu 2026-01-01 00:25 +00:00
        Thu 2026-01-01 00:45 +00:00
        Thu 2026-01-15 00:05 +00:00
        Thu 2026-01-15 00:25 +00:00
    "#]],
    );
    times(
        "0 0 29 2 *",
        "",
        "2026-01-01T00:00:00Z",
        2,
        expect![[r#"
        Tue 2028-02-29 00:00 +00:00
        Sun 2032-02-29 00:00 +00:00
    "#]],
    );
    times(
        "0 0 31 2 *",
        "",
        "2026-01-01T00:00:00Z",
        1,
        expect![[r#"
        never
    "#]],
    );
}

#[test]
fn a_date_or_a_weekday_is_enough_when_both_are_given() {
    times(
        "0 12 13 * fri",
        "",
        "2026-01-01T00:00:00Z",
        4,
        expect![[r#"
        Fri 2026-01-02 12:00 +00:00
        Fri 2026-01-09 12:00 +00:00
        Tue 2026-01-13 12:00 +00:00
        Fri 2026-01-16 12:00 +00:00
    "#]],
    );
    times(
        "0 12 */2 * fri",
        "",
        "2026-01-01T00:00:00Z",
        4,
        expect![[r#"
        Thu 2026-01-01 12:00 +00:00
        Fri 2026-01-02 12:00 +00:00
        Sat 2026-01-03 12:00 +00:00
        Mon 2026-01-05 12:00 +00:00
    "#]],
    );
    times(
        "0 12 * * fri",
        "",
        "2026-01-01T00:00:00Z",
        2,
        expect![[r#"
        Fri 2026-01-02 12:00 +00:00
        Fri 2026-01-09 12:00 +00:00
    "#]],
    );
}

#[test]
fn words_and_periods() {
    const FROM: &str = "2026-03-03T10:30:30Z";
    times(
        "@hourly",
        "",
        FROM,
        2,
        expect![[r#"
        Tue 2026-03-03 11:00 +00:00
        Tue 2026-03-03 12:00 +00:00
    "#]],
    );
    times(
        "@midnight",
        "",
        FROM,
        2,
        expect![[r#"
        Wed 2026-03-04 00:00 +00:00
        Thu 2026-03-05 00:00 +00:00
    "#]],
    );
    times(
        "@weekly",
        "",
        FROM,
        2,
        expect![[r#"
        Sun 2026-03-08 00:00 +00:00
        Sun 2026-03-15 00:00 +00:00
    "#]],
    );
    times(
        "@monthly",
        "",
        FROM,
        2,
        expect![[r#"
        Wed 2026-04-01 00:00 +00:00
        Fri 2026-05-01 00:00 +00:00
    "#]],
    );
    times(
        "@annually",
        "",
        FROM,
        2,
        expect![[r#"
        Fri 2027-01-01 00:00 +00:00
        Sat 2028-01-01 00:00 +00:00
    "#]],
    );
    times(
        "@every 90m",
        "",
        FROM,
        2,
        expect![[r#"
        Tue 2026-03-03 12:00 +00:00
        Tue 2026-03-03 13:30 +00:00
    "#]],
    );
}

#[test]
fn clocks_that_change_skip_and_repeat() {
    // Spring: 2:30 does not exist on 29 March. Autumn: it is there twice on 25 October.
    times(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        3,
        expect![[r#"
        Sat 2026-03-28 02:30 +01:00
        Mon 2026-03-30 02:30 +02:00
        Tue 2026-03-31 02:30 +02:00
    "#]],
    );
    times(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-23T12:00:00Z",
        4,
        expect![[r#"
        Sat 2026-10-24 02:30 +02:00
        Sun 2026-10-25 02:30 +02:00
        Sun 2026-10-25 02:30 +01:00
        Mon 2026-10-26 02:30 +01:00
    "#]],
    );
    times(
        "0 0 * * *",
        "Asia/Kathmandu",
        "2026-01-01T00:00:00Z",
        2,
        expect![[r#"
        Fri 2026-01-02 00:00 +05:45
        Sat 2026-01-03 00:00 +05:45
    "#]],
    );
    // Half an hour forward.
    times(
        "0 * * * *",
        "Australia/Lord_Howe",
        "2026-10-03T14:10:00Z",
        3,
        expect![[r#"
        Sun 2026-10-04 01:00 +10:30
        Sun 2026-10-04 03:00 +11:00
        Sun 2026-10-04 04:00 +11:00
    "#]],
    );
}

#[test]
fn zones_have_names() {
    assert!(time_zone("Etc/UTC").is_ok() && time_zone("").is_ok());
    assert_eq!(time_zone("Mars/Olympus").unwrap_err(), "unknown time zone Mars/Olympus");
}

proptest! {
    /// The next time is later, matches, and nothing between does.
    #[test]
    fn the_next_time_is_the_first(seconds in 0_i64..4_000_000_000, minute in 0_u8..60, hour in 0_u8..24) {
        let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
        let after = Timestamp::from_second(seconds).unwrap();
        let next = schedule.next(after, &TimeZone::UTC).unwrap();
        prop_assert!(next > after && next.as_second() - seconds <= 86_400);
        let of_day = next.as_second() % 86_400;
        prop_assert_eq!(of_day, i64::from(hour) * 3600 + i64::from(minute) * 60);
    }
}
