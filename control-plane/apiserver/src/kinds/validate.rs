//! Checks that several kinds share: labels, selectors, numbers, quantities, tolerations, templates of pods.

use std::cmp::Ordering;

use serde_json::{Map, Value};
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{list_at, str_at};
use skiff_api::quantity::Quantity;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// One `Invalid value` error for each problem.
pub(crate) fn invalid_each(errors: &mut FieldErrors, path: &Path, value: &str, problems: Vec<String>) {
    for problem in problems {
        errors.invalid(path, value, &problem);
    }
}

/// `path: Invalid value: <text>: detail`, the value already in the form that is shown.
pub(crate) fn invalid_raw(errors: &mut FieldErrors, path: &Path, shown: &str, detail: &str) {
    let body = format!("Invalid value: {shown}: {detail}");
    errors.push(FieldError {
        kind: ErrorType::Invalid,
        path: path.to_string(),
        body,
    });
}

/// A number that must not be negative.
pub(crate) fn not_negative(errors: &mut FieldErrors, path: &Path, value: Option<i64>) {
    if let Some(value) = value.filter(|v| *v < 0) {
        errors.invalid(path, value, NOT_NEGATIVE);
    }
}

/// A required text that must pass a check of its form.
pub(crate) fn required(errors: &mut FieldErrors, path: &Path, value: &str, check: impl Fn(&str) -> Vec<String>) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        invalid_each(errors, path, value, check(value));
    }
}

/// A text that, when given, must pass a check of its form.
pub(crate) fn optional(errors: &mut FieldErrors, path: &Path, value: &str, check: impl Fn(&str) -> Vec<String>) {
    if !value.is_empty() {
        invalid_each(errors, path, value, check(value));
    }
}

/// Labels, node selectors, matchLabels: every fault is reported at the map itself.
pub(crate) fn labels(errors: &mut FieldErrors, path: &Path, map: Option<&Value>) {
    for (key, value) in map.and_then(Value::as_object).into_iter().flatten() {
        invalid_each(errors, path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        invalid_each(errors, path, value, names::label_value(value));
    }
}

/// A LabelSelector.
pub(crate) fn label_selector(errors: &mut FieldErrors, path: &Path, selector: Option<&Value>) {
    let Some(selector) = selector.filter(|s| s.is_object()) else {
        return;
    };
    labels(errors, &path.child("matchLabels"), selector.get("matchLabels"));
    for (i, expression) in list_at(selector, "/matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = list_at(expression, "/values");
        match str_at(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(
                    &path.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = str_at(expression, "/key");
        invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
        for (j, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            invalid_each(errors, &path.child("values").index(j), value, names::label_value(value));
        }
    }
}

/// Whether a LabelSelector asks for nothing (and so would match everything).
pub(crate) fn selector_is_empty(selector: &Value) -> bool {
    let labels = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(Map::is_empty);
    labels && list_at(selector, "/matchExpressions").is_empty()
}

/// A LabelSelector as an error shows it: Go's field order.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(labels) = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .filter(|m| !m.is_empty())
    {
        parts.push(format!("\"matchLabels\":{}", Value::Object(labels.clone())));
    }
    let expressions: Vec<String> = list_at(selector, "/matchExpressions")
        .iter()
        .map(|e| {
            let mut fields = vec![
                format!("\"key\":{}", Value::from(str_at(e, "/key"))),
                format!("\"operator\":{}", Value::from(str_at(e, "/operator"))),
            ];
            if !list_at(e, "/values").is_empty() {
                fields.push(format!("\"values\":{}", e["values"]));
            }
            format!("{{{}}}", fields.join(","))
        })
        .collect();
    if !expressions.is_empty() {
        parts.push(format!("\"matchExpressions\":[{}]", expressions.join(",")));
    }
    format!("{{{}}}", parts.join(","))
}

/// A quantity by its text; a text that is none counts as zero (decoding has refused it already).
pub(crate) fn quantity(value: &Value) -> Quantity {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Quantity::parse(&text).unwrap_or_else(|_| Quantity::parse("0").expect("zero is a quantity"))
}

/// Names without a domain, or in Kubernetes' own.
pub(crate) fn is_native_resource(name: &str) -> bool {
    !name.contains('/') || is_prefixed_native(name)
}
fn is_prefixed_native(name: &str) -> bool {
    name.contains("kubernetes.io/")
}
/// `example.com/device`: counted in whole things, never overcommitted.
pub(crate) fn is_extended_resource(name: &str) -> bool {
    !is_native_resource(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}
fn allows_overcommit(name: &str) -> bool {
    is_native_resource(name) && !is_huge_page(name)
}
fn is_integer_resource(name: &str) -> bool {
    const COUNTS: [&str; 9] = [
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    COUNTS.contains(&name) || is_extended_resource(name)
}

/// The amount of one resource: not negative, whole where the resource is counted.
pub(crate) fn resource_amount(errors: &mut FieldErrors, path: &Path, name: &str, amount: &Value) {
    let amount = quantity(amount);
    if amount.sign() < 0 {
        errors.invalid(path, amount.to_string(), NOT_NEGATIVE);
    }
    if is_integer_resource(name) && amount.milli_value() % 1000 != 0 {
        errors.invalid(path, amount.to_string(), "must be an integer");
    }
}

/// A resource name as containers may ask for it.
fn container_resource_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let problems = names::qualified_name(name);
    let well_formed = problems.is_empty();
    invalid_each(errors, path, name, problems);
    if !name.contains('/') {
        let known = STANDARD.contains(&name) || is_huge_page(name);
        if well_formed && !known && !is_integer_resource(name) {
            errors.invalid(path, name, "must be a standard resource type or fully qualified");
        }
        if !known {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native_resource(name) && !is_extended_resource(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// `requests` and `limits` of a container, of a pod, or of a RuntimeClass's overhead (as limits).
pub(crate) fn resources(errors: &mut FieldErrors, path: &Path, requests: Option<&Value>, limits: Option<&Value>) {
    let (request_path, limit_path) = (path.child("requests"), path.child("limits"));
    let requests = requests.and_then(Value::as_object);
    let limits = limits.and_then(Value::as_object);
    let (mut huge_pages, mut compute) = (false, false);
    let mut note = |name: &str| {
        huge_pages |= is_huge_page(name);
        compute |= matches!(name, "cpu" | "memory");
    };
    for (name, amount) in limits.into_iter().flatten() {
        let path = limit_path.key(name);
        container_resource_name(errors, &path, name);
        resource_amount(errors, &path, name, amount);
        note(name);
    }
    for (name, amount) in requests.into_iter().flatten() {
        let path = request_path.key(name);
        container_resource_name(errors, &path, name);
        resource_amount(errors, &path, name, amount);
        note(name);
        let request = quantity(amount);
        match limits.and_then(|l| l.get(name)).map(quantity) {
            Some(limit) if request != limit && !allows_overcommit(name) => {
                errors.invalid(
                    &request_path,
                    request.to_string(),
                    &format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if request.cmp(&limit) == Ordering::Greater => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&request_path, request.to_string(), &detail);
            }
            None if !allows_overcommit(name) => {
                errors.required(&limit_path, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if huge_pages && !compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Tolerations of a pod or of a RuntimeClass.
pub(crate) fn tolerations(errors: &mut FieldErrors, path: &Path, list: &[Value]) {
    for (i, toleration) in list.iter().enumerate() {
        let path = path.index(i);
        let (key, value) = (str_at(toleration, "/key"), str_at(toleration, "/value"));
        let (operator, effect) = (str_at(toleration, "/operator"), str_at(toleration, "/effect"));
        optional(errors, &path.child("key"), key, names::qualified_name);
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        let seconds = toleration.get("tolerationSeconds").filter(|s| !s.is_null());
        if seconds.is_some() && effect != "NoExecute" {
            errors.invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    errors.invalid(&path.child("operator"), value, &problems.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    errors.invalid(
                        &path.child("operator"),
                        value,
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !TAINT_EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, &TAINT_EFFECTS);
        }
    }
}

pub(crate) const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A count or a percentage, at least 0.
pub(crate) fn int_or_percent(errors: &mut FieldErrors, path: &Path, value: &Value) {
    match value {
        Value::String(text) => invalid_each(errors, path, text, names::percent(text)),
        other => not_negative(errors, path, other.as_i64()),
    }
}

/// The number before the `%`, if it is a percentage.
pub(crate) fn percent_of(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// A percentage over 100.
pub(crate) fn at_most_100_percent(errors: &mut FieldErrors, path: &Path, value: &Value) {
    if percent_of(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// `field is immutable` when a field of the spec differs.
pub(crate) fn immutable(errors: &mut FieldErrors, path: &Path, new: Option<&Value>, old: Option<&Value>) {
    let present = |v: Option<&Value>| v.filter(|v| !v.is_null()).cloned();
    if present(new) != present(old) {
        errors.invalid(path, new.cloned().unwrap_or(Value::Null), IMMUTABLE);
    }
}
