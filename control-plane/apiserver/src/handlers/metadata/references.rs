//! Owner references.

use serde_json::Value;
use skiff_api::field::{ErrorType, FieldError, FieldErrors, Path};
use skiff_api::object;

pub(super) fn validate(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let list = object::list_at(object, "/metadata/ownerReferences");
    let mut controller: Option<String> = None;
    for owner in list {
        // Kubernetes reports all of these at the list, without an index.
        let api_version = object::str_at(owner, "/apiVersion");
        if api_version.is_empty() {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        } else if api_version.matches('/').count() > 1 {
            errors.invalid(
                &path.child("apiVersion"),
                api_version,
                &format!("unexpected GroupVersion string: {api_version}"),
            );
        }
        for field in ["kind", "name", "uid"] {
            let value = object::str_at(owner, &format!("/{field}"));
            if value.is_empty() {
                errors.invalid(&path.child(field), value, "must not be empty");
            }
        }
        let kind = object::str_at(owner, "/kind");
        if (api_version, kind) == ("v1", "Event") {
            errors.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if object::bool_at(owner, "/controller") {
            let name = format!("{kind}/{}", object::str_at(owner, "/name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    );
                    let body = format!("Invalid value: {}: {detail}", in_go_order(list));
                    errors.push(FieldError {
                        kind: ErrorType::Invalid,
                        path: path.to_string(),
                        body,
                    });
                }
                None => controller = Some(name),
            }
        }
    }
}

/// The references as Go prints them: fields in declaration order.
fn in_go_order(list: &[Value]) -> String {
    const FIELDS: [&str; 6] = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let reference = |owner: &Value| {
        let fields = FIELDS
            .iter()
            .filter_map(|field| Some(format!("\"{field}\":{}", owner.get(*field)?)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    format!("[{}]", list.iter().map(reference).collect::<Vec<_>>().join(","))
}
