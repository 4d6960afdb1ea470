//! `spec.podFailurePolicy` and `spec.successPolicy`.

use std::collections::BTreeSet;

use serde_json::Value;
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{int_at, list_at, str_at};

use crate::kinds::validate::{invalid_each, not_negative};

const RULES_MAX: usize = 20;
const PATTERNS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_TEXT_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

pub(super) fn on_failure(policy: &Value, spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("rules");
    let rules = list_at(policy, "/rules");
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    let of = |list: &str| list_at(spec, &format!("/template/spec/{list}")).iter();
    let containers: BTreeSet<&str> = of("containers")
        .chain(of("initContainers"))
        .map(|container| str_at(container, "/name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(rule, spec, &containers, &path.index(i), errors);
    }
}

fn failure_rule(rule: &Value, spec: &Value, containers: &BTreeSet<&str>, path: &Path, errors: &mut FieldErrors) {
    let action = str_at(rule, "/action");
    let action_path = path.child("action");
    if action == "FailIndex" {
        if int_at(spec, "/backoffLimitPerIndex").is_none() {
            errors.invalid(&action_path, action, "requires the backoffLimitPerIndex to be set");
        }
    } else {
        one_of(errors, &action_path, action, &ACTIONS);
    }
    let codes = rule.get("onExitCodes").filter(|codes| codes.is_object());
    let patterns = list_at(rule, "/onPodConditions");
    if let Some(codes) = codes {
        exit_codes(codes, containers, &path.child("onExitCodes"), errors);
    }
    if !patterns.is_empty() {
        conditions(patterns, &path.child("onPodConditions"), errors);
    }
    let wrong = match (codes.is_some(), patterns.is_empty()) {
        (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    without_value(errors, path, wrong);
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path, errors: &mut FieldErrors) {
    let operator = str_at(codes, "/operator");
    one_of(errors, &path.child("operator"), operator, &OPERATORS);
    if let Some(name) = codes.get("containerName").and_then(Value::as_str)
        && !containers.contains(name)
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, detail);
    }
    let path = path.child("values");
    let values: Vec<i64> = list_at(codes, "/values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        errors.invalid(&path, Value::Array(Vec::new()), "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(&path, values.len(), EXIT_CODES_MAX);
    }
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        if *value == 0 && operator == "In" {
            errors.invalid(&path.index(i), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(*value) {
            errors.duplicate(&path.index(i), *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&path, Value::from(values), "must be ordered");
    }
}

fn conditions(patterns: &[Value], path: &Path, errors: &mut FieldErrors) {
    if patterns.len() > PATTERNS_MAX {
        errors.too_many(path, patterns.len(), PATTERNS_MAX);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let path = path.index(i);
        let kind = str_at(pattern, "/type");
        invalid_each(errors, &path.child("type"), kind, names::qualified_name(kind));
        one_of(errors, &path.child("status"), str_at(pattern, "/status"), &STATUSES);
    }
}

pub(super) fn on_success(policy: &Value, spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("rules");
    let rules = list_at(policy, "/rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, detail);
    }
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    let completions = int_at(spec, "/completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &path.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut FieldErrors) {
    let indexes = rule.get("succeededIndexes").and_then(Value::as_str);
    let count = int_at(rule, "/succeededCount");
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, detail);
    }
    let mut named = None;
    if let Some(text) = indexes {
        let path = path.child("succeededIndexes");
        if text.len() > INDEXES_TEXT_MAX {
            errors.too_long(&path, INDEXES_TEXT_MAX);
        }
        match count_indexes(text, completions) {
            Ok(total) => named = Some(total),
            Err(error) => errors.invalid(&path, text, &format!("error parsing succeededIndexes: {error}")),
        }
    }
    if let Some(count) = count {
        let path = path.child("succeededCount");
        not_negative(errors, &path, Some(count));
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&path, count, &detail);
        }
        if let Some(total) = named.filter(|total| count > *total) {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&path, count, &detail);
        }
    }
}

/// How many indexes `1,3-5` names: ascending, below `completions`.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    let index = |text: &str, last: Option<i64>| -> Result<i64, String> {
        let value: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if value >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        match last {
            Some(last) if last >= value => Err(format!("non-increasing order, previous: {last}, current: {value}")),
            _ => Ok(value),
        }
    };
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = interval.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let first = index(ends[0], last)?;
        (total, last) = (total + 1, Some(first));
        if let Some(end) = ends.get(1) {
            let end = index(end, last)?;
            (total, last) = (total + end - first, Some(end));
        }
    }
    Ok(total)
}

/// A required choice.
fn one_of(errors: &mut FieldErrors, path: &Path, value: &str, choices: &[&str]) {
    if value.is_empty() {
        let list = choices
            .iter()
            .map(|choice| format!("{choice:?}"))
            .collect::<Vec<_>>()
            .join(" ");
        errors.required(path, &format!("valid values: [{list}]"));
    } else if !choices.contains(&value) {
        errors.not_supported(path, value, choices);
    }
}

/// An error that does not show the value that is wrong.
fn without_value(errors: &mut FieldErrors, path: &Path, detail: &str) {
    errors.push(FieldError {
        kind: ErrorType::Invalid,
        path: path.to_string(),
        body: format!("Invalid value: {detail}"),
    });
}
