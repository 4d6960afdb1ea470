//! Events in both forms.

use expect_test::expect;

use super::*;
use crate::kinds::testing::{check_invalid, check_table, object};

#[test]
fn an_event_is_in_the_namespace_of_its_object() {
    check_invalid(
        &EventStrategy,
        "{metadata: {name: v, namespace: ns}, involvedObject: {kind: Pod, name: p, namespace: other}}",
        expect![[r#"
            involvedObject.namespace: Invalid value: "other": does not match event.namespace
        "#]],
    );
    check_invalid(
        &EventStrategy,
        "{metadata: {name: v, namespace: ns}, involvedObject: {}}",
        expect![[r#"
            involvedObject.namespace: Invalid value: "": does not match event.namespace
        "#]],
    );
}

#[test]
fn the_new_group_is_stricter() {
    check_invalid(
        &EventsV1Strategy,
        "{metadata: {name: n2, namespace: ns}, regarding: {kind: Pod, name: p, namespace: ns}, type: Odd}",
        expect![[r#"
            eventTime: Required value
            type: Invalid value: "": has invalid value: Odd
        "#]],
    );
}

#[test]
fn both_forms_turn_into_each_other() {
    let core = object(
        "{apiVersion: v1, kind: Event, metadata: {name: e, namespace: ns}, involvedObject: {kind: Pod, name: p}, message: hello, source: {component: agent}, count: 2, firstTimestamp: '2026-01-01T00:00:00Z', lastTimestamp: '2026-01-01T00:00:00Z', eventTime: null, reportingComponent: agent, reportingInstance: '', reason: Started, type: Normal}",
    );
    let new = from_core(core.clone());
    expect![[r#"{"apiVersion":"events.k8s.io/v1","deprecatedCount":2,"deprecatedFirstTimestamp":"2026-01-01T00:00:00Z","deprecatedLastTimestamp":"2026-01-01T00:00:00Z","deprecatedSource":{"component":"agent"},"eventTime":null,"kind":"Event","metadata":{"name":"e","namespace":"ns"},"note":"hello","reason":"Started","regarding":{"kind":"Pod","name":"p"},"reportingController":"agent","type":"Normal"}"#]]
        .assert_eq(&new.to_string());
    assert_eq!(to_core(new), core);
}

#[test]
fn table() {
    let expected = expect![[r#"
        Last Seen: "2m"
        Type: "Warning"
        Reason: "BackOff"
        Object: "pod/web"
        Subobject: "spec.containers{c}"
        Source: "agent, n1"
        Message: "again"
        First Seen: "5m"
        Count: 3
        Name: "e"
    "#]];
    check_table(
        &EventStrategy,
        "{metadata: {name: e}, involvedObject: {kind: Pod, name: web, fieldPath: 'spec.containers{c}'}, type: Warning, reason: BackOff, message: ' again ', source: {component: agent, host: n1}, firstTimestamp: '2026-01-01T00:00:00Z', lastTimestamp: '2026-01-01T00:03:00Z', count: 3}",
        expected,
    );
}
