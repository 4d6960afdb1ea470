//! What tests of rules share: requests out of YAML, and objects to look up.

use std::sync::Arc;

use expect_test::Expect;
use serde_json::Value;
use skiff_api::{kind, object as objects};

use super::{Admission, AdmissionRequest, Operation};
use crate::authn::UserInfo;
use crate::kinds::testing::object;
use crate::registry::Lookup;

/// Objects that a rule can look up, by plural.
pub(crate) struct Objects(Vec<(&'static str, Arc<Value>)>);

impl Objects {
    pub(crate) fn of(rows: &[(&'static str, &str)]) -> Self {
        Self(
            rows.iter()
                .map(|(resource, yaml)| (*resource, Arc::new(object(yaml))))
                .collect(),
        )
    }
}

impl Lookup for Objects {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.list(group, resource, namespace)
            .into_iter()
            .find(|o| objects::name(o) == name)
    }
    fn list(&self, _group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let fits = |o: &Value| namespace.is_empty() || objects::namespace(o) == namespace;
        self.0
            .iter()
            .filter(|(r, o)| *r == resource && fits(o))
            .map(|(_, o)| o.clone())
            .collect()
    }
    fn version(&self, _group: &str, _resource: &str) -> u64 {
        1
    }
}

fn request(operation: Operation, resource: &str, namespace: &str, name: &str, value: Value) -> AdmissionRequest {
    AdmissionRequest {
        operation,
        info: kind::find("", "v1", resource, "").expect("a core resource"),
        subresource: String::new(),
        namespace: namespace.into(),
        name: name.into(),
        user: UserInfo::default(),
        dry_run: false,
        object: value,
        old: None,
        options: Value::Null,
        warnings: Vec::new(),
    }
}

/// A create of a core object.
pub(crate) fn create(resource: &str, namespace: &str, yaml: &str) -> AdmissionRequest {
    let value = object(yaml);
    let name = objects::name(&value).to_owned();
    request(Operation::Create, resource, namespace, &name, value)
}

/// A delete of a core object.
pub(crate) fn delete(resource: &str, namespace: &str, name: &str) -> AdmissionRequest {
    request(Operation::Delete, resource, namespace, name, Value::Null)
}

/// The rule refuses the request, with this code and message.
pub(crate) async fn check_refused(
    rule: &dyn Admission,
    mut request: AdmissionRequest,
    lookup: &dyn Lookup,
    expect: Expect,
) {
    let refusal = match rule.admit(&mut request, lookup).await {
        Err(refusal) => refusal,
        Ok(()) => rule.validate(&mut request, lookup).await.expect_err("refused"),
    };
    expect.assert_eq(&format!("{} {}", refusal.code, refusal.message));
}
