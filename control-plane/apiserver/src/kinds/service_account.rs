//! ServiceAccount: who a pod is.            Lifecycle: controllers/src/service_account.rs keeps `default` in each namespace.

use serde_json::Value;

use super::common::{AGE, NAME, age, name, resource};
use crate::strategy::{Column, Strategy};

const COLUMNS: &[Column] = &[NAME, AGE];

pub struct ServiceAccountStrategy;

impl Strategy for ServiceAccountStrategy {
    resource!("", "v1", "serviceaccounts");

    fn metadata_checks(&self) -> usize {
        4
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn table() {
        crate::kinds::testing::check_table(
            &super::ServiceAccountStrategy,
            "{metadata: {name: builder}}",
            expect![[r#"
                Name: "builder"
                Age: "5m"
            "#]],
        );
    }
}
