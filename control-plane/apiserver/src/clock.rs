//! The wall clock, in the one form that objects carry.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch; a clock before it counts as 0.
pub fn now_seconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// Now as `metadata.creationTimestamp` has it: RFC 3339, whole seconds, `Z`.
pub fn now() -> String {
    skiff_api::time::format_rfc3339(now_seconds())
}
