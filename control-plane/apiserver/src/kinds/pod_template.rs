//! PodTemplate: a pod's shape kept for later; nothing runs it.            Lifecycle: none.

use serde_json::{Value, json};
use skiff_api::field::{FieldErrors, Path};
use skiff_api::object::{self, set_default};

use super::common::{NAME, container_cells, name, or, resource, sub_mut, text};
use super::pod::{defaults, validate, warnings};
use crate::strategy::{Column, Strategy};

const COLUMNS: &[Column] = &[NAME, text("Containers"), text("Images"), text("Pod Labels")];

pub struct PodTemplateStrategy;

impl Strategy for PodTemplateStrategy {
    resource!("", "v1", "podtemplates");

    fn apply_defaults(&self, object: &mut Value) {
        let object = object::as_map(object);
        set_default(object, "template", json!({}));
        if let Some(template) = sub_mut(object, "template") {
            defaults::template(template);
        }
    }
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate::template(
            object.get("template").unwrap_or(&Value::Null),
            &Path::new("template"),
            errors,
        );
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::of_template(new.get("template").unwrap_or(&Value::Null), &Path::new("template"))
    }
    fn tracks_generation(&self) -> bool {
        true
    }
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let (containers, images) = container_cells(object::list_at(object, "/template/spec/containers"));
        let labels: Vec<String> = object::string_map(object, "/template/metadata/labels")
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        vec![
            name(object),
            containers.into(),
            images.into(),
            or(&labels.join(","), "<none>").into(),
        ]
    }
}
