//! Lease: who holds a role, and until when; nodes renew one as their heartbeat.            Lifecycle: its holder's.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{int_at, map_entry, str_at};

use super::common::{AGE, NAME, age, name, resource, text};
use super::validate::not_negative;
use crate::strategy::{Column, Strategy, WriteContext};

/// Fields of a feature that is off by default: dropped unless they are in use already.
const GATED: [&str; 2] = ["strategy", "preferredHolder"];
const COLUMNS: &[Column] = &[NAME, text("Holder"), AGE];

pub struct LeaseStrategy;

impl Strategy for LeaseStrategy {
    resource!("coordination.k8s.io", "v1", "leases");

    fn apply_defaults(&self, object: &mut Value) {
        map_entry(object, "spec");
    }
    fn prepare_for_create(&self, object: &mut Value, _ctx: &WriteContext) {
        for field in GATED {
            map_entry(object, "spec").remove(field);
        }
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        for field in GATED {
            if old.pointer(&format!("/spec/{field}")).is_none() {
                map_entry(new, "spec").remove(field);
            }
        }
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        if let Some(seconds) = int_at(object, "/spec/leaseDurationSeconds").filter(|s| *s <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        not_negative(
            errors,
            &path.child("leaseTransitions"),
            int_at(object, "/spec/leaseTransitions"),
        );
    }
    fn allows_create_on_update(&self) -> bool {
        true
    }
    fn allows_unconditional_update(&self) -> bool {
        false
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, lease: &Value, now: i64) -> Vec<Value> {
        vec![
            name(lease),
            str_at(lease, "/spec/holderIdentity").into(),
            age(lease, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::LeaseStrategy;
    use crate::kinds::testing::{check_invalid, check_table};

    #[test]
    fn numbers_are_checked() {
        check_invalid(
            &LeaseStrategy,
            "{metadata: {name: v}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}",
            expect![[r#"
                spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
                spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &LeaseStrategy,
            "{metadata: {name: n1}, spec: {holderIdentity: n1}}",
            expect![[r#"
                Name: "n1"
                Holder: "n1"
                Age: "5m"
            "#]],
        );
    }
}
