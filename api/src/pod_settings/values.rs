//! Values of settings: counts, durations, quantities. An error is the detail of a field error.

use std::time::Duration;

use crate::quantity::Quantity;
use crate::time::parse_go_duration;

/// Largest count: more than one node could hold of anything that is counted.
const COUNT_MAX: u64 = 1_000_000;
/// Longest duration, as long as a process may be expected to live.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Bounds of a bandwidth in bits per second, and their texts: Kubernetes'.
const BANDWIDTH_MIN: i64 = 1_000;
const BANDWIDTH_MAX: i64 = 1_000_000_000_000_000;

/// A whole number; 0 is allowed.
pub(super) fn count(text: &str) -> Result<u64, String> {
    whole(text, 0)
}

/// A whole number above 0.
pub(super) fn positive(text: &str) -> Result<u64, String> {
    whole(text, 1)
}

fn whole(text: &str, least: u64) -> Result<u64, String> {
    // Not a quantity: `1m` files would be a surprise.
    let number = text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    number
        .filter(|number| (least..=COUNT_MAX).contains(number))
        .ok_or_else(|| format!("must be a whole number from {least} to {COUNT_MAX}"))
}

/// `90s`, `1m30s`: longer than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_go_duration(text)
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .filter(|duration| !duration.is_zero() && *duration <= DURATION_MAX)
        .ok_or_else(|| "must be a positive duration such as \"1m30s\"".to_owned())
}

/// Bytes as a quantity: `1Mi`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let quantity = Quantity::parse(text).map_err(|error| error.to_string())?;
    u64::try_from(quantity.value())
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "must be greater than 0".to_owned())
}

/// Bits per second as a quantity: `10M`. Nothing reads the number.
pub(super) fn bandwidth(text: &str) -> Result<(), String> {
    let bits = Quantity::parse(text).map_err(|error| error.to_string())?.value();
    match bits {
        ..BANDWIDTH_MIN => Err("resource is unreasonably small (< 1kbit)".to_owned()),
        BANDWIDTH_MIN..=BANDWIDTH_MAX => Ok(()),
        _ => Err("resource is unreasonably large (> 1Pbit)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bounds() {
        assert_eq!(count("0"), Ok(0));
        assert_eq!(positive("1000000"), Ok(1_000_000));
        for bad in ["", "-1", "+1", "1.5", "1k", "1000001", "99999999999999999999"] {
            assert!(count(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "0", "0s", "-1s", "5", "9000h", "forever"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(bytes("1Mi"), Ok(1 << 20));
        assert!(bytes("0").is_err() && bytes("-1").is_err() && bytes("lots").is_err());
        assert_eq!(bandwidth("1k"), Ok(()));
        assert_eq!(
            bandwidth("999"),
            Err("resource is unreasonably small (< 1kbit)".to_owned())
        );
        assert_eq!(
            bandwidth("2P"),
            Err("resource is unreasonably large (> 1Pbit)".to_owned())
        );
    }
}
