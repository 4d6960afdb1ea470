//! Validation of node affinity, pod affinity and pod anti-affinity.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::names;
use skiff_api::object::{int_at, list_at, str_at};

use crate::kinds::validate::{invalid_each, label_selector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(affinity: Option<&Value>, path: &Path, errors: &mut FieldErrors) {
    let Some(affinity) = affinity.filter(|a| a.is_object()) else {
        return;
    };
    if let Some(node) = affinity.get("nodeAffinity").filter(|n| n.is_object()) {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = affinity.get(key).filter(|p| p.is_object()) {
            pod_affinity(pods, &path.child(key), errors);
        }
    }
}

fn node_affinity(affinity: &Value, path: &Path, errors: &mut FieldErrors) {
    if let Some(selector) = affinity.get(REQUIRED).filter(|s| s.is_object()) {
        let path = path.child(REQUIRED).child("nodeSelectorTerms");
        let terms = list_at(selector, "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (i, term) in terms.iter().enumerate() {
            node_term(term, &path.index(i), errors);
        }
    }
    for (i, term) in list_at(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let path = path.child(PREFERRED).index(i);
        weight(term, &path, errors);
        node_term(
            term.get("preference").unwrap_or(&Value::Null),
            &path.child("preference"),
            errors,
        );
    }
}

fn weight(term: &Value, path: &Path, errors: &mut FieldErrors) {
    let weight = int_at(term, "/weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for (i, requirement) in list_at(term, "/matchExpressions").iter().enumerate() {
        node_requirement(requirement, &path.child("matchExpressions").index(i), errors);
    }
    for (i, requirement) in list_at(term, "/matchFields").iter().enumerate() {
        let path = path.child("matchFields").index(i);
        let (operator, key) = (str_at(requirement, "/operator"), str_at(requirement, "/key"));
        if !matches!(operator, "In" | "NotIn") {
            errors.invalid(&path.child("operator"), operator, "not a valid selector operator");
        } else if list_at(requirement, "/values").len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), detail);
        }
        if key != "metadata.name" {
            errors.invalid(&path.child("key"), key, "not a valid field selector key");
        }
    }
}

fn node_requirement(requirement: &Value, path: &Path, errors: &mut FieldErrors) {
    let values = list_at(requirement, "/values");
    let values_path = path.child("values");
    match str_at(requirement, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(
                &values_path,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = str_at(requirement, "/key");
    invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        invalid_each(errors, &values_path.index(i), value, names::label_value(value));
    }
}

fn pod_affinity(affinity: &Value, path: &Path, errors: &mut FieldErrors) {
    for (i, term) in list_at(affinity, &format!("/{REQUIRED}")).iter().enumerate() {
        pod_term(term, &path.child(REQUIRED).index(i), errors);
    }
    for (i, weighted) in list_at(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let path = path.child(PREFERRED).index(i);
        weight(weighted, &path, errors);
        pod_term(
            weighted.get("podAffinityTerm").unwrap_or(&Value::Null),
            &path.child("podAffinityTerm"),
            errors,
        );
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    label_selector(errors, &path.child("labelSelector"), term.get("labelSelector"));
    label_selector(errors, &path.child("namespaceSelector"), term.get("namespaceSelector"));
    for namespace in list_at(term, "/namespaces").iter().filter_map(Value::as_str) {
        invalid_each(
            errors,
            &path.child("namespace"),
            namespace,
            names::dns1123_label(namespace),
        );
    }
    let key = str_at(term, "/topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    invalid_each(errors, &path.child("topologyKey"), key, names::qualified_name(key));
}
