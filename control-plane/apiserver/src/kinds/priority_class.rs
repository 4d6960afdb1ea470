//! PriorityClass: how important a pod is, by name.            Lifecycle: none; two system classes exist in every cluster.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, as_map, bool_at, int_at, metadata_mut, set_default, str_at};

use super::common::{AGE, NAME, age, name, resource, text};
use super::validate::immutable;
use crate::admission::priority::SYSTEM_CLASSES;
use crate::strategy::{Column, Strategy, WriteContext};

/// What users may give at most; the system's own classes lie above.
const USER_VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];

const COLUMNS: &[Column] = &[
    NAME,
    Column {
        name: "Value",
        kind: "integer",
        format: "",
        priority: 0,
    },
    Column {
        name: "Global-Default",
        kind: "boolean",
        format: "",
        priority: 0,
    },
    AGE,
    text("PreemptionPolicy"),
];

pub struct PriorityClassStrategy;

impl Strategy for PriorityClassStrategy {
    resource!("scheduling.k8s.io", "v1", "priorityclasses");

    fn apply_defaults(&self, object: &mut Value) {
        let map = as_map(object);
        set_default(map, "preemptionPolicy", POLICIES[0]);
        set_default(map, "value", 0);
    }
    fn prepare_for_create(&self, object: &mut Value, _ctx: &WriteContext) {
        // Set once, and never raised.
        metadata_mut(object).insert("generation".into(), 1.into());
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (name, value) = (object::name(object), int_at(object, "/value").unwrap_or(0));
        let path = Path::new("metadata").child("name");
        if name.starts_with(SYSTEM_PREFIX) {
            match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if value == *known && !bool_at(object, "/globalDefault") => {}
                Some((known, right)) => {
                    let detail = format!(
                        "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: value of {known} PriorityClass must be {right}"
                    );
                    errors.forbidden(&path, &detail);
                }
                None => {
                    let detail = format!(
                        "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {name} is not a known system priority class"
                    );
                    errors.forbidden(&path, &detail);
                }
            }
        } else if value > USER_VALUE_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
            errors.forbidden(&Path::new("value"), &detail);
        }
        let policy = str_at(object, "/preemptionPolicy");
        if !policy.is_empty() && !POLICIES.contains(&policy) {
            errors.not_supported(&Path::new("preemptionPolicy"), policy, &POLICIES);
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if new.get("value") != old.get("value") {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let path = Path::new("preemptionPolicy");
        immutable(errors, &path, new.get("preemptionPolicy"), old.get("preemptionPolicy"));
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            name(object),
            int_at(object, "/value").unwrap_or(0).into(),
            bool_at(object, "/globalDefault").into(),
            age(object, now),
            str_at(object, "/preemptionPolicy").into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::PriorityClassStrategy;
    use crate::kinds::testing::{check_invalid, check_invalid_update, check_table, check_valid};

    #[test]
    fn values_and_names_of_the_system_are_reserved() {
        check_invalid(
            &PriorityClassStrategy,
            "{metadata: {name: v}, value: 2000000000, preemptionPolicy: Odd}",
            expect![[r#"
                value: Forbidden: maximum allowed value of a user defined priority is 1000000000
                preemptionPolicy: Unsupported value: "Odd": supported values: "PreemptLowerPriority", "Never"
            "#]],
        );
        check_invalid(
            &PriorityClassStrategy,
            "{metadata: {name: system-x}, value: 10}",
            expect![[r#"
                metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class
            "#]],
        );
        check_valid(
            &PriorityClassStrategy,
            "{metadata: {name: system-node-critical}, value: 2000001000}",
        );
    }

    #[test]
    fn value_and_policy_never_change() {
        check_invalid_update(
            &PriorityClassStrategy,
            "{metadata: {name: v}, value: 5}",
            "{metadata: {name: v}, value: 6, preemptionPolicy: Never}",
            expect![[r#"
                value: Forbidden: may not be changed in an update.
                preemptionPolicy: Invalid value: "Never": field is immutable
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &PriorityClassStrategy,
            "{metadata: {name: hi}, value: 1000, preemptionPolicy: Never}",
            expect![[r#"
                Name: "hi"
                Value: 1000
                Global-Default: false
                Age: "5m"
                PreemptionPolicy: "Never"
            "#]],
        );
    }
}
