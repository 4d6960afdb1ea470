//! ControllerRevision: one state of a set's template, kept so that the set can go back.            Lifecycle: its set's.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{controller_of, int_at, set_default, str_at};

use super::common::{AGE, NAME, age, name, or, resource, text};
use super::validate::{IMMUTABLE, not_negative};
use crate::strategy::{Column, Strategy};

const COLUMNS: &[Column] = &[NAME, text("Controller"), text("Revision"), AGE];

pub struct ControllerRevisionStrategy;

impl Strategy for ControllerRevisionStrategy {
    resource!("apps", "v1", "controllerrevisions");

    fn apply_defaults(&self, object: &mut Value) {
        set_default(skiff_api::object::as_map(object), "revision", 0);
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        not_negative(errors, &Path::new("revision"), int_at(object, "/revision"));
        if object.get("data").is_none_or(Value::is_null) {
            errors.required(&Path::new("data"), "data is mandatory");
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if new.get("data") != old.get("data") {
            errors.invalid(
                &Path::new("data"),
                new.get("data").cloned().unwrap_or(Value::Null),
                IMMUTABLE,
            );
        }
    }
    fn metadata_checks(&self) -> usize {
        4
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let owner = controller_of(object).map(|owner| {
            let (version, kind) = (str_at(owner, "/apiVersion"), str_at(owner, "/kind").to_lowercase());
            let group = skiff_api::kind::split_api_version(version).0;
            let kind = if group.is_empty() {
                kind
            } else {
                format!("{kind}.{group}")
            };
            format!("{kind}/{}", str_at(owner, "/name"))
        });
        vec![
            name(object),
            or(owner.as_deref().unwrap_or(""), "<none>").into(),
            int_at(object, "/revision").unwrap_or(0).into(),
            age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::ControllerRevisionStrategy;
    use crate::kinds::testing::{check_invalid, check_invalid_update, check_table};

    #[test]
    fn data_is_there_and_stays() {
        check_invalid(
            &ControllerRevisionStrategy,
            "{metadata: {name: v}, revision: -1}",
            expect![[r#"
                revision: Invalid value: -1: must be greater than or equal to 0
                data: Required value: data is mandatory
            "#]],
        );
        check_invalid_update(
            &ControllerRevisionStrategy,
            "{metadata: {name: v}, revision: 1, data: {a: 1}}",
            "{metadata: {name: v}, revision: 2, data: {a: 2}}",
            expect![[r#"
                data: Invalid value: {"a":2}: field is immutable
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &ControllerRevisionStrategy,
            "{metadata: {name: r, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, controller: true}]}, revision: 3, data: {}}",
            expect![[r#"
                Name: "r"
                Controller: "statefulset.apps/db"
                Revision: 3
                Age: "5m"
            "#]],
        );
    }
}
