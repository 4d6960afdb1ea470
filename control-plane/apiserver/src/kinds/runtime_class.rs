//! RuntimeClass: which runtime runs a pod, what it costs beside the containers, and where it exists.   Lifecycle: none.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{list_at, str_at};

use super::common::{AGE, NAME, age, name, resource, text};
use super::validate::{immutable, labels, required, resources, tolerations};
use crate::strategy::{Column, Strategy};

const COLUMNS: &[Column] = &[NAME, text("Handler"), AGE];

pub struct RuntimeClassStrategy;

impl Strategy for RuntimeClassStrategy {
    resource!("node.k8s.io", "v1", "runtimeclasses");

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        required(
            errors,
            &Path::new("handler"),
            str_at(object, "/handler"),
            names::dns1123_label,
        );
        if let Some(fixed) = object.pointer("/overhead/podFixed") {
            // Kubernetes checks the overhead as if it were limits, and names it so.
            resources(errors, &Path::new("overhead"), None, Some(fixed));
        }
        let path = Path::new("scheduling");
        labels(
            errors,
            &path.child("nodeSelector"),
            object.pointer("/scheduling/nodeSelector"),
        );
        tolerations(
            errors,
            &path.child("tolerations"),
            list_at(object, "/scheduling/tolerations"),
        );
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("handler"), new.get("handler"), old.get("handler"));
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
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), str_at(object, "/handler").into(), age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::RuntimeClassStrategy;
    use crate::kinds::testing::{check_invalid, check_invalid_update, check_table};

    #[test]
    fn handler_overhead_and_scheduling_are_checked() {
        check_invalid(
            &RuntimeClassStrategy,
            "{metadata: {name: v}, overhead: {podFixed: {cpu: '-1'}}, scheduling: {tolerations: [{operator: Odd, key: x}]}}",
            expect![[r#"
                handler: Required value
                overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
                scheduling.tolerations[0].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
            "#]],
        );
        check_invalid_update(
            &RuntimeClassStrategy,
            "{metadata: {name: v}, handler: a}",
            "{metadata: {name: v}, handler: b}",
            expect![[r#"
                handler: Invalid value: "b": field is immutable
            "#]],
        );
    }

    #[test]
    fn table() {
        check_table(
            &RuntimeClassStrategy,
            "{metadata: {name: wasm}, handler: wasm}",
            expect![[r#"
                Name: "wasm"
                Handler: "wasm"
                Age: "5m"
            "#]],
        );
    }
}
