//! Small pieces of status writing that controllers share.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// Time as statuses carry it: whole seconds.
pub fn whole_second(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Kubernetes leaves zero counts out: in a merge patch that is `null`.
pub fn omit_zero(count: i32) -> Value {
    if count == 0 { Value::Null } else { json!(count) }
}
