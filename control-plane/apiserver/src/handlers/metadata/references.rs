//! Owner references.

use serde_json::Value;
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object;

pub(super) fn validate(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    for (at, owner) in object::list_at(object, "/metadata/ownerReferences").iter().enumerate() {
        let path = path.index(at);
        let api_version = object::str_at(owner, "/apiVersion");
        if api_version.is_empty() {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        } else if api_version.matches('/').count() > 1 {
            errors.invalid(&path.child("apiVersion"), api_version, &format!("unexpected GroupVersion string: {api_version}"));
        }
        for (field, why) in [("kind", "must not be empty"), ("name", "must not be empty"), ("uid", "must not be empty")] {
            let value = object::str_at(owner, &format!("/{field}"));
            if value.is_empty() {
                errors.invalid(&path.child(field), value, why);
            }
        }
        if (api_version, object::str_at(owner, "/kind")) == ("v1", "Event") {
            errors.invalid(&path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if object::bool_at(owner, "/controller") {
            let name = object::str_at(owner, "/name").to_owned();
            match &controller {
                Some(first) => errors.invalid(
                    path_of_list(&path).as_ref(),
                    object::list_at(object, "/metadata/ownerReferences").to_vec(),
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    ),
                ),
                None => controller = Some(name),
            }
        }
    }
}

/// `metadata.ownerReferences` out of `metadata.ownerReferences[1]`.
fn path_of_list(_item: &Path) -> Box<Path> {
    Box::new(Path::new("metadata").child("ownerReferences"))
}
