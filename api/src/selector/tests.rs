//! Selector texts in, verdicts and error texts out.

use super::*;
use serde_json::json;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn error(text: &str) -> String {
    LabelSelector::parse(text)
        .err()
        .map_or_else(String::new, |e| e.to_string())
}

#[test]
fn every_operator_matches_as_in_kubernetes() {
    let cases = [
        ("", "", true),
        ("a", "a=1", true),
        ("a", "b=1", false),
        ("!a", "b=1", true),
        ("a=1", "a=1", true),
        ("a==1", "a=2", false),
        ("a!=1", "", true),
        ("a!=1", "a=1", false),
        ("a in (1,2)", "a=2", true),
        ("a in (1, 2)", "a=3", false),
        ("a notin (1)", "", true),
        ("a notin (1)", "a=1", false),
        ("a>5", "a=6", true),
        ("a>5", "a=5", false),
        ("a<5", "a=x", false),
        ("a<5", "", false),
        ("a=", "a=", true),
        ("a=,b", "a=,b=2", true),
        ("a in (),b", "a=,b=1", true),
        ("in in (in)", "in=in", true),
        (" x = y , z ", "x=y,z=1", true),
    ];
    for (selector, set, expected) in cases {
        assert_eq!(
            LabelSelector::parse(selector).unwrap().matches(&labels(set)),
            expected,
            "{selector} on {set}"
        );
    }
}

#[test]
fn faulty_texts_are_answered_in_kubernetes_words() {
    assert_eq!(
        error("bad selector"),
        "unable to parse requirement: found 'selector', expected: in, notin, =, ==, !=, gt, lt"
    );
    assert_eq!(error("a,"), "found '', expected: identifier after ','");
    assert_eq!(error(",a"), "found ',', expected: !, identifier, or 'end of string'");
    assert_eq!(error("a in 1"), "unable to parse requirement: found '1' expected: '('");
    assert_eq!(
        error("a in (1"),
        "unable to parse requirement: found '', expected: ',' or ')'"
    );
    assert_eq!(error("a=b c"), "found 'c', expected: ',' or 'end of string'");
    assert_eq!(error("!a=b"), "found '=', expected: ',' or 'end of string'");
    assert_eq!(
        error("a=(b"),
        "unable to parse requirement: found '(', expected: identifier"
    );
    assert_eq!(
        error("a>x"),
        "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"
    );
    assert!(
        error("a/b/c=d")
            .starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified name must")
    );
    assert!(
        error("a=b_")
            .starts_with("unable to parse requirement: values[0][a]: Invalid value: \"b_\": a valid label must")
    );
}

#[test]
fn a_selector_prints_sorted_and_reads_back() {
    for (text, canonical) in [
        ("b,a=1", "a=1,b"),
        ("a in (2,1,2)", "a in (1,2)"),
        ("!x,y!=1,z>3", "!x,y!=1,z>3"),
    ] {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.to_string(), canonical);
        assert_eq!(LabelSelector::parse(canonical).unwrap(), selector);
    }
}

#[test]
fn selector_objects_match_and_absent_ones_match_nothing() {
    let selector = LabelSelector::from_json(&json!({"matchLabels": {"a": "1"}, "matchExpressions": [
        {"key": "b", "operator": "NotIn", "values": ["2"]}, {"key": "c", "operator": "DoesNotExist"}]}))
    .unwrap();
    assert!(selector.matches(&labels("a=1,b=3")));
    assert!(!selector.matches(&labels("a=1,b=2")));
    assert!(selector.matches_json(Some(&json!({"a": "1"}))));
    assert_eq!(selector.exact_value("a"), Some("1"));
    assert!(!LabelSelector::from_json(&Value::Null).unwrap().matches(&labels("")));
    assert!(LabelSelector::from_json(&json!({})).unwrap().is_everything());
    let odd = LabelSelector::from_json(&json!({"matchExpressions": [{"key": "a", "operator": "Odd"}]}));
    assert_eq!(
        odd.unwrap_err().to_string(),
        "\"Odd\" is not a valid label selector operator"
    );
}

#[test]
fn limits_hold() {
    assert!(LabelSelector::parse(&"a".repeat(SELECTOR_BYTES_MAX + 1)).is_err());
    assert!(LabelSelector::parse(&vec!["a"; REQUIREMENTS_MAX + 1].join(",")).is_err());
    assert!(FieldSelector::parse(&vec!["a=b"; REQUIREMENTS_MAX + 1].join(",")).is_err());
}

#[test]
fn field_selectors_are_read_matched_and_printed() {
    let selector = FieldSelector::parse("status.phase!=Running,metadata.name=a\\,b,").unwrap();
    assert_eq!(selector.to_string(), "metadata.name=a\\,b,status.phase!=Running");
    let phase = |phase: &'static str| move |field: &str| if field == "metadata.name" { "a,b" } else { phase };
    assert!(selector.matches(phase("Pending")));
    assert!(!selector.matches(phase("Running")));
    assert_eq!(selector.exact_value("metadata.name"), Some("a,b"));
    let error = |text| FieldSelector::parse(text).unwrap_err().to_string();
    assert_eq!(
        error("metadata.name"),
        "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
    );
    assert_eq!(
        error("metadata.name in (a)"),
        "invalid selector: 'metadata.name in (a)'; can't understand 'metadata.name in (a)'"
    );
    assert_eq!(error("a=\\x"), "invalid field selector: invalid escape sequence: \\x");
}
