//! Golden tests of strategies: YAML in, texts out. The one `check_…` of each sort that all kinds use.

use expect_test::Expect;
use serde_json::Value;
use skiff_api::field::FieldErrors;
use skiff_api::time;

use crate::strategy::{Strategy, WriteContext};

/// The moment at which tests look at tables.
pub(crate) const NOW: &str = "2026-01-01T00:05:00Z";
const CREATED: &str = "2026-01-01T00:00:00Z";

/// YAML as a JSON value.
pub(crate) fn object(yaml: &str) -> Value {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(yaml, options).expect("the test's YAML parses")
}

fn defaulted(strategy: &dyn Strategy, yaml: &str) -> Value {
    let mut object = object(yaml);
    strategy.apply_defaults(&mut object);
    object
}

fn context() -> WriteContext {
    WriteContext {
        now: NOW.into(),
        uuid: "00000000-0000-4000-8000-000000000000".into(),
        subresource: "",
    }
}

/// The object as a create stores it, as YAML-like JSON.
pub(crate) fn check_create(strategy: &dyn Strategy, yaml: &str, expect: Expect) {
    let mut object = defaulted(strategy, yaml);
    strategy.prepare_for_create(&mut object, &context());
    let mut errors = FieldErrors::new();
    strategy.validate(&object, &mut errors);
    assert!(errors.is_empty(), "{}", lines(&errors));
    let mut again = object.clone();
    strategy.apply_defaults(&mut again);
    assert_eq!(again, object, "defaults are idempotent");
    let mut text = serde_json::to_string_pretty(&object).expect("JSON");
    text.push('\n');
    expect.assert_eq(&text);
}

/// Nothing is wrong with the object.
pub(crate) fn check_valid(strategy: &dyn Strategy, yaml: &str) {
    let mut errors = FieldErrors::new();
    strategy.validate(&defaulted(strategy, yaml), &mut errors);
    assert!(errors.is_empty(), "{}", lines(&errors));
}

/// Everything that is wrong with a new object, a line each.
pub(crate) fn check_invalid(strategy: &dyn Strategy, yaml: &str, expect: Expect) {
    let mut errors = FieldErrors::new();
    strategy.validate(&defaulted(strategy, yaml), &mut errors);
    expect.assert_eq(&lines(&errors));
}

/// What is wrong with a change.
pub(crate) fn check_invalid_update(strategy: &dyn Strategy, old: &str, new: &str, expect: Expect) {
    let old = defaulted(strategy, old);
    let mut new = defaulted(strategy, new);
    strategy.prepare_for_update(&mut new, &old, &context());
    let mut errors = FieldErrors::new();
    strategy.validate(&new, &mut errors);
    strategy.validate_update(&new, &old, &mut errors);
    expect.assert_eq(&lines(&errors));
}

/// The cells of a row by column, of an object five minutes old.
pub(crate) fn check_table(strategy: &dyn Strategy, yaml: &str, expect: Expect) {
    let mut object = object(yaml);
    object["metadata"]["creationTimestamp"] = CREATED.into();
    let now = time::parse_rfc3339(NOW).expect("a time");
    let row = strategy.row(&object, now);
    assert_eq!(row.len(), strategy.columns().len());
    let text: String = strategy
        .columns()
        .iter()
        .zip(row)
        .map(|(column, cell)| format!("{}: {cell}\n", column.name))
        .collect();
    expect.assert_eq(&text);
}

fn lines(errors: &FieldErrors) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}
