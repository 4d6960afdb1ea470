//! What holds for every row of the list.

use skiff_api::kind;

/// The columns that Kubernetes has, as data.
const COLUMNS: &str = include_str!("../../../../api/data/columns.tsv");
const FIELDS: &str = include_str!("../../../../api/data/field-selectors.tsv");

/// Rows of a table about one resource.
fn rows<'a>(table: &'a str, info: &kind::ResourceInfo) -> Vec<Vec<&'a str>> {
    let rows = table.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|cells| cells[0] == info.group && cells[1] == info.version && cells[2] == info.resource)
        .collect()
}

#[test]
fn columns_are_those_of_kubernetes() {
    for strategy in super::all() {
        let info = strategy.info();
        let expected: Vec<_> = rows(COLUMNS, info)
            .into_iter()
            .filter(|cells| cells[3].is_empty())
            .map(|cells| format!("{} {} {} {}", cells[6], cells[7], cells[8], cells[9]))
            .collect();
        let own: Vec<_> = strategy
            .columns()
            .iter()
            .map(|column| format!("{} {} {} {}", column.name, column.kind, column.format, column.priority))
            .collect();
        assert_eq!(own, expected, "{}", info.resource);
        assert_eq!(
            strategy.row(&serde_json::json!({}), 0).len(),
            own.len(),
            "{}",
            info.resource
        );
    }
}

#[test]
fn selectable_fields_are_those_of_kubernetes() {
    for strategy in super::all() {
        let info = strategy.info();
        let mut expected: Vec<&str> = rows(FIELDS, info).into_iter().map(|cells| cells[4]).collect();
        expected.retain(|field| !field.starts_with("metadata."));
        let own: Vec<&str> = strategy
            .selectable_fields(&serde_json::json!({}))
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        assert_eq!(own, expected, "{}", info.resource);
    }
}

#[test]
fn defaults_make_no_kind_of_an_empty_object_panic() {
    for strategy in super::all() {
        let mut object = serde_json::json!({});
        strategy.apply_defaults(&mut object);
        strategy.validate(&object, &mut skiff_api::field::FieldErrors::new());
    }
}
